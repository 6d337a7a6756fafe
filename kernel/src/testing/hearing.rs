//! Events and deadlines for one service alone, as the kernel brings them: in a unit, for the organisation they are of.

use std::sync::Arc;

use crate::clock::Timestamp;
use crate::events::{Event, Fault, Payload as _, Received};
use crate::jobs::DueTimer;
use crate::store::{Store, Tx, WriteError};
use crate::telemetry::Trace;

/// An event with an identity of its own, in no trace.
pub fn received<E: Event>(event: E) -> Received<E> {
    let subject = event.payload().subject();
    Received {
        id: crate::ids::fresh(),
        org: subject.org,
        subject: subject.id,
        version: subject.version,
        time: Timestamp::default(),
        trace: Trace::default(),
        event,
    }
}

/// Lets a service react to an event.
///
/// # Errors
/// What the reaction says, and what the database says.
pub async fn hear<S, E, F, Fut>(
    store: &Store,
    service: &Arc<S>,
    react: F,
    event: Received<E>,
) -> Result<(), WriteError<Fault>>
where
    S: Send + Sync + 'static,
    E: Event + Clone,
    F: Fn(Tx, Arc<S>, Received<E>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Fault>> + Send + 'static,
{
    let service = service.clone();
    store.in_org(event.org).write(move |tx| react(tx, service.clone(), event.clone())).await
}

/// Lets a service react to a deadline, whose row goes first and with the same unit.
///
/// # Errors
/// What the reaction says, and what the database says.
pub async fn fire<S, F, Fut>(store: &Store, service: &Arc<S>, react: F, due: DueTimer) -> Result<(), WriteError<Fault>>
where
    S: Send + Sync + 'static,
    F: Fn(Tx, Arc<S>, DueTimer) -> Fut + Copy + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Fault>> + Send + 'static,
{
    let (org, service) = (due.org, service.clone());
    let unit = move |tx: Tx| {
        let (service, due) = (service.clone(), due.clone());
        async move {
            tx.clear_timer(due.org, due.entity, &due.step).await?;
            react(tx, service, due).await
        }
    };
    store.in_org(org).write(unit).await
}
