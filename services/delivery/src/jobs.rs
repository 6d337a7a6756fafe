//! What happens by time alone: deadlines, couriers who drive by themselves, deliveries that wait, the demo city's shifts.

use std::sync::Arc;

use kernel::events::Fault;
use kernel::jobs::{DueTimer, JobError};
use kernel::store::Tx;

use crate::assigning::assign_one;
use crate::couriers::{begin_shift, demo_courier};
use crate::delivery::Step;
use crate::reactions::go_on;
use crate::{Delivery, store};

/// Fails the delivery if its deadline has indeed passed; the row decides, not the timer.
pub(crate) async fn deadline_passed(tx: Tx, state: Arc<Delivery>, due: DueTimer) -> Result<(), Fault> {
    let found = store::delivery(&tx, due.org, due.entity).await?;
    let Some(delivery) = found.filter(|found| found.deadline_at.is_some_and(|at| at <= tx.now())) else {
        return Ok(());
    };
    delivery.span("deadline").around(go_on(&tx, &state.settings.get(), &delivery, Step::Fail)).await
}

/// A courier who drives by themselves takes the next step.
pub(crate) async fn drive(tx: Tx, state: Arc<Delivery>, due: DueTimer) -> Result<(), Fault> {
    let Some(delivery) = store::delivery(&tx, due.org, due.entity).await? else { return Ok(()) };
    let Some(step) = delivery.status.driven_on_by(delivery.ready) else { return Ok(()) };
    delivery.span("drive").around(go_on(&tx, &state.settings.get(), &delivery, step)).await
}

/// Brings together what units that committed at the same time could not see of each other.
pub(crate) async fn assign_waiting(state: Arc<Delivery>) -> Result<(), JobError> {
    loop {
        let db = state.store.read();
        if store::waiting(&db, 1).await?.is_empty() || store::free_couriers(&db).await?.is_empty() {
            return Ok(());
        }
        let settings = state.settings.get();
        let unit = move |tx: Tx| {
            let settings = settings.clone();
            async move { assign_one(&tx, &settings).await }
        };
        if state.store.write(unit).await?.is_none() {
            return Ok(());
        }
    }
}

/// Puts the demo city's couriers on shift; whoever is already stays where they are.
pub(crate) async fn begin_demo_shifts(state: Arc<Delivery>) -> Result<(), JobError> {
    let mut begun = 0_u64;
    for number in 0..state.settings.get().demo_couriers {
        let courier = demo_courier(number);
        if store::courier(&state.store.read(), courier.id).await?.is_some_and(|known| known.on_shift) {
            continue;
        }
        let settings = state.settings.get();
        let unit = move |tx: Tx| {
            let (settings, courier) = (settings.clone(), courier.clone());
            async move { begin_shift(&tx, &settings, &courier).await }
        };
        begun += u64::from(state.store.write(unit).await?);
    }
    if begun > 0 {
        tracing::info!(couriers = begun, "couriers of the demo city are on shift");
    }
    Ok(())
}
