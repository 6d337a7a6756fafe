//! A unit of work with its types erased, so that one queue can carry all of a service's units.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt as _;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::db::{Conn, Tx, TxShared};
use super::error::{StoreError, WriteError};
use super::scope::{Scope, ScopeCell};
use crate::task::panic_text;
use crate::telemetry::{StoreMeasures, UnitEnd};

/// How the unit's own code ended.
pub(crate) enum Ran {
    Ok,
    Refused,
    Panicked(String),
}

/// How the unit as a whole ended.
pub(crate) enum End {
    Committed,
    /// The unit's own error stands.
    Refused,
    Panicked(String),
    Deadline,
    Store(StoreError),
    Unknown,
}

impl End {
    /// How a unit ended before its COMMIT; none if it is to be committed. `sealed` is what its first statement that
    /// failed met, `kept` says that somebody still holds its [`Tx`].
    pub(crate) fn early(ran: Option<Ran>, sealed: Option<&StoreError>, kept: bool) -> Option<Self> {
        Some(match (ran, sealed) {
            (None, _) => Self::Deadline,
            (Some(Ran::Panicked(why)), _) => Self::Panicked(why),
            // Whatever the unit made of it: a database that is away decides nothing about what was asked.
            (Some(_), Some(error @ StoreError::Lost(_))) => Self::Store(error.clone()),
            (Some(Ran::Refused), _) => Self::Refused,
            (Some(Ran::Ok), Some(error)) => Self::Store(error.clone()),
            // Who holds it might believe that it can go on writing.
            (Some(Ran::Ok), None) if kept => {
                Self::Store(StoreError::Refused("the unit's Tx was kept beyond its end".into()))
            }
            (Some(Ran::Ok), None) => return None,
        })
    }

    fn counted(&self) -> UnitEnd {
        match self {
            Self::Committed => UnitEnd::Committed,
            Self::Refused => UnitEnd::Refused,
            Self::Panicked(_) => UnitEnd::Panicked,
            Self::Deadline => UnitEnd::Deadline,
            Self::Store(_) => UnitEnd::Failed,
            Self::Unknown => UnitEnd::Unknown,
        }
    }
}

pub(crate) type Running = Pin<Box<dyn Future<Output = Ran> + Send>>;

/// One unit: it can be run (again), and is told once how it ended.
pub(crate) trait Job: Send + Sync {
    /// Whose rows it touches.
    fn scope(&self) -> Scope;
    /// Whether others may go first: nobody waits for its answer.
    fn can_wait(&self) -> bool;
    /// Starts the unit's code on a fresh transaction; also gives what it collects.
    fn run(&self, conn: Conn, scope: ScopeCell) -> (Running, Arc<TxShared>);
    /// Answers the caller.
    fn finish(self: Box<Self>, end: End);
}

type Answer<T, E> = Result<T, WriteError<E>>;

pub(crate) struct TypedJob<F, T, E, S> {
    unit: F,
    scope: Scope,
    can_wait: bool,
    shared: S,
    result: Arc<Mutex<Option<Result<T, E>>>>,
    answer: oneshot::Sender<Answer<T, E>>,
    measures: Option<StoreMeasures>,
    since: Instant,
    /// What the last run collected; what earlier ones did is forgotten with them.
    last: Mutex<Option<Arc<TxShared>>>,
}

impl<F, Fut, T, E, S> TypedJob<F, T, E, S>
where
    F: Fn(Tx) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
    S: Fn() -> Arc<TxShared> + Send + Sync + 'static,
{
    pub(crate) fn new(
        unit: F,
        (scope, can_wait): (Scope, bool),
        shared: S,
        measures: Option<StoreMeasures>,
    ) -> (Box<dyn Job>, oneshot::Receiver<Answer<T, E>>) {
        let (answer, receive) = oneshot::channel();
        let since = Instant::now();
        let last = Mutex::default();
        (
            Box::new(Self { unit, scope, can_wait, shared, result: Arc::default(), answer, measures, since, last }),
            receive,
        )
    }
}

impl<F, Fut, T, E, S> Job for TypedJob<F, T, E, S>
where
    F: Fn(Tx) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
    S: Fn() -> Arc<TxShared> + Send + Sync + 'static,
{
    fn scope(&self) -> Scope {
        self.scope.clone()
    }

    fn can_wait(&self) -> bool {
        self.can_wait
    }

    fn run(&self, conn: Conn, scope: ScopeCell) -> (Running, Arc<TxShared>) {
        let shared = (self.shared)();
        *self.last.lock() = Some(shared.clone());
        let tx = Tx::new(conn, scope, shared.clone());
        // The closure itself may panic before it gives a future, so both are caught in one place.
        let started = std::panic::catch_unwind(AssertUnwindSafe(|| (self.unit)(tx)));
        let slot = self.result.clone();
        let running: Running = match started {
            Ok(future) => Box::pin(async move {
                match AssertUnwindSafe(future).catch_unwind().await {
                    Ok(result) => {
                        let ran = if result.is_ok() { Ran::Ok } else { Ran::Refused };
                        *slot.lock() = Some(result);
                        ran
                    }
                    Err(panic) => Ran::Panicked(panic_text(&*panic)),
                }
            }),
            Err(panic) => {
                let why = panic_text(&*panic);
                Box::pin(async move { Ran::Panicked(why) })
            }
        };
        (running, shared)
    }

    fn finish(self: Box<Self>, end: End) {
        if let Some(measures) = &self.measures {
            measures.ended(end.counted(), self.since.elapsed());
        }
        let last = self.last.lock().take();
        if let (End::Committed, Some(last)) = (&end, last) {
            std::mem::take(&mut *last.afterwards.lock()).happen();
        }
        let result = self.result.lock().take();
        let answer = match (end, result) {
            (End::Committed, Some(Ok(value))) => Ok(value),
            (End::Refused, Some(Err(error))) => Err(WriteError::Unit(error)),
            (End::Committed | End::Refused, _) => Err(WriteError::Store(StoreError::Ended)),
            (End::Panicked(why), _) => Err(WriteError::Panicked(why)),
            (End::Deadline, _) => Err(WriteError::Deadline),
            (End::Store(error), _) => Err(WriteError::Store(error)),
            (End::Unknown, _) => Err(WriteError::Unknown),
        };
        // The caller may have gone away; its unit ends all the same.
        drop(self.answer.send(answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_is_away_decides_nothing_whatever_the_unit_made_of_it() {
        for away in [StoreError::full("53100"), StoreError::gone("hung up")] {
            for ran in [Ran::Ok, Ran::Refused] {
                let end = End::early(Some(ran), Some(&away), false);
                assert!(matches!(end, Some(End::Store(StoreError::Lost(_)))));
            }
        }
        let mine = StoreError::Constraint("one ticket for an order".into());
        assert!(matches!(End::early(Some(Ran::Refused), Some(&mine), false), Some(End::Refused)));
        assert!(matches!(End::early(Some(Ran::Ok), Some(&mine), false), Some(End::Store(StoreError::Constraint(_)))));
        assert!(matches!(End::early(Some(Ran::Ok), None, true), Some(End::Store(StoreError::Refused(_)))));
        assert!(End::early(Some(Ran::Ok), None, false).is_none());
    }
}
