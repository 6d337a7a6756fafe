//! Bringing waiting deliveries and free couriers together.

use kernel::store::{StoreError, Tx};
use uuid::Uuid;

use crate::Settings;
use crate::delivery::Step;
use crate::nearest::{FreeCourier, nearest};
use crate::steps::{Outcome, take};
use crate::store::{self, DeliveryRow};

/// The job that looks again; units that could not bring anybody together wake it, as another one may commit beside them.
pub(crate) const ASSIGN: &str = "assign";
/// How many waiting deliveries are looked at, as some may wait for other couriers than those who are free.
const PASSED_OVER: i64 = 30;

/// Gives the delivery that has waited longest to the nearest free courier, and says which it was.
///
/// One at a time: the fewer couriers a unit holds, the less do two units wait for each other.
pub(crate) async fn assign_one(tx: &Tx, settings: &Settings) -> Result<Option<Uuid>, StoreError> {
    tx.across("couriers are the platform's: whoever has waited longest is next, whichever restaurant cooked");
    // First, as it is one row by an index: most couriers who become free find nobody who waits.
    let Some(longest) = store::waiting(tx, 1).await?.pop() else { return Ok(None) };
    let mut free = store::free_couriers(tx).await?;
    if free.is_empty() {
        return Ok(None);
    }
    if give_to_nearest(tx, settings, &longest, &mut free).await? {
        return Ok(Some(longest.id));
    }
    // Seldom: whoever is free has given the first one back already.
    for delivery in store::waiting(tx, PASSED_OVER).await? {
        if delivery.id != longest.id && give_to_nearest(tx, settings, &delivery, &mut free).await? {
            return Ok(Some(delivery.id));
        }
    }
    Ok(None)
}

/// Tries one courier after the other, the nearest first; whoever turns out not to be free leaves the list.
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
        let assigning = take(tx, settings, &with, Step::Assign);
        if let Outcome::Taken(_) = delivery.span("assign").around(assigning).await? {
            return Ok(true);
        }
        store::free(tx, id, delivery.id).await?;
        free.push(courier);
        return Ok(false);
    }
    Ok(false)
}

/// Takes a step, and gives a courier whom it frees what waits for them.
pub(crate) async fn move_on(
    tx: &Tx,
    settings: &Settings,
    from: &DeliveryRow,
    step: Step,
) -> Result<Outcome, StoreError> {
    let outcome = take(tx, settings, from, step).await?;
    if let (Outcome::Taken(_), Some(_)) = (&outcome, from.courier_id.and(step.ends_assignment())) {
        assign_one(tx, settings).await?;
    }
    Ok(outcome)
}
