//! Bringing waiting deliveries and free couriers together.

use kernel::store::{StoreError, Tx};
use kernel::telemetry::in_trace;

use crate::Settings;
use crate::delivery::Step;
use crate::nearest::{FreeCourier, nearest};
use crate::steps::{Outcome, take};
use crate::store::{self, DeliveryRow};

/// The job that looks again; units that could not bring anybody together wake it, as another one may commit beside them.
pub(crate) const ASSIGN: &str = "assign";
/// One unit assigns no more than this, so that it stays short.
const AT_ONCE: usize = 20;
/// Waiting deliveries that are looked at beyond that, as some may wait for other couriers than those who are free.
const PASSED_OVER: usize = 30;

/// Gives waiting deliveries to free couriers, the oldest first, each to the nearest; says how many were given.
pub(crate) async fn match_waiting(tx: &Tx, settings: &Settings) -> Result<usize, StoreError> {
    let mut free = store::free_couriers(tx).await?;
    if free.is_empty() {
        return Ok(0);
    }
    let most = free.len().min(AT_ONCE);
    let look = i64::try_from(most + PASSED_OVER).expect("a small number");
    let mut assigned = 0;
    for delivery in store::waiting(tx, look).await? {
        assigned += usize::from(give_to_nearest(tx, settings, &delivery, &mut free).await?);
        if assigned == most || free.is_empty() {
            break;
        }
    }
    Ok(assigned)
}

/// Tries one courier after the other, the nearest first; whoever is tried leaves the list.
async fn give_to_nearest(
    tx: &Tx,
    settings: &Settings,
    delivery: &DeliveryRow,
    free: &mut Vec<FreeCourier>,
) -> Result<bool, StoreError> {
    let barred = if delivery.given_back > 0 { store::gave_back(tx, delivery.id).await? } else { Vec::new() };
    while let Some(place) = nearest(free, delivery.pick_up.0, &barred) {
        let courier = free.swap_remove(place);
        if !store::occupy(tx, courier.id, delivery.id).await? {
            continue;
        }
        let id = courier.id;
        let with = DeliveryRow { courier_id: Some(id), courier_name: Some(courier.name.clone()), ..delivery.clone() };
        // Another delivery's event or a job may be what found the courier: the step belongs to this order's trace.
        if let Outcome::Taken(_) = in_trace(delivery.trace(), take(tx, settings, &with, Step::Assign)).await? {
            return Ok(true);
        }
        store::free(tx, id, delivery.id).await?;
        free.push(courier);
        return Ok(false);
    }
    Ok(false)
}

/// Takes a step, and gives a courier whom it frees what waits for them.
pub(crate) async fn move_on(tx: &Tx, settings: &Settings, from: &DeliveryRow, step: Step) -> Result<Outcome, StoreError> {
    let outcome = take(tx, settings, from, step).await?;
    if let (Outcome::Taken(_), Some(_)) = (&outcome, from.courier_id.and(step.ends_assignment())) {
        match_waiting(tx, settings).await?;
    }
    Ok(outcome)
}
