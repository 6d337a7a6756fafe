//! Opening a delivery, and moving it on with all that follows, inside the caller's unit.

use std::time::Duration;

use contracts::delivery::{DeliveryAssigned, DeliveryCompleted, DeliveryFailed, DeliveryPickedUp};
use contracts::orders::OrderState;
use kernel::clock::Timestamp;
use kernel::store::{Json, StoreError, Tx};

use crate::Settings;
use crate::delivery::{DeliveryStatus, Step};
use crate::store::{self, DeliveryRow};

/// The deadline for finding a courier, and after pick-up for arriving.
pub(crate) const DEADLINE: &str = "deadline";
/// When a courier who drives by themselves takes the next step.
pub(crate) const DRIVE: &str = "drive";

/// Opens the delivery of a confirmed order; false if it is open already.
pub(crate) async fn open(
    tx: &Tx,
    settings: &Settings,
    order: &OrderState,
    ready: bool,
    traceparent: String,
) -> Result<bool, StoreError> {
    let assign_by = tx.now().plus(Duration::from_secs(settings.assign_within_s));
    let delivery = DeliveryRow {
        org_id: order.org_id,
        id: order.order_id,
        version: 0,
        status: DeliveryStatus::Waiting,
        ready,
        customer_id: order.customer_id,
        code: order.code.clone(),
        restaurant_id: order.restaurant_id,
        restaurant_name: order.restaurant_name.clone(),
        pick_up: Json(order.pick_up),
        deliver_to: Json(order.deliver_to.clone()),
        courier_id: None,
        courier_name: None,
        given_back: 0,
        reason: None,
        deadline_at: Some(assign_by),
        traceparent,
        created_at: tx.now(),
        assigned_at: None,
        picked_up_at: None,
        ended_at: None,
        changed_at: tx.now(),
    };
    let new = tx.add(&delivery).await?;
    if new {
        tx.set_timer(order.org_id, order.order_id, DEADLINE, assign_by).await?;
    }
    Ok(new)
}

/// What became of a step.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It was taken; this is the delivery now.
    Taken(Box<DeliveryRow>),
    /// It cannot be taken from where the delivery stands.
    Impossible,
    /// Somebody else moved the delivery at the same time: look again.
    Overtaken,
}

/// Takes a step of a delivery with all that follows from it, but for what a courier whom it frees does next.
pub(crate) async fn take(tx: &Tx, settings: &Settings, from: &DeliveryRow, step: Step) -> Result<Outcome, StoreError> {
    let Some(mut to) = after(from, step, settings, tx.now()) else { return Ok(Outcome::Impossible) };
    let Some(ready) = store::move_delivery(tx, from, &to).await? else { return Ok(Outcome::Overtaken) };
    to.ready = ready;
    move_courier(tx, from, step).await?;
    match to.deadline_at {
        Some(due) => tx.set_timer(to.org_id, to.id, DEADLINE, due).await?,
        None => tx.clear_timer(to.org_id, to.id, DEADLINE).await.map(drop)?,
    }
    drive_on(tx, settings, &to).await?;
    match step {
        Step::Assign => tx.emit(DeliveryAssigned(to.state()))?,
        Step::PickUp => tx.emit(DeliveryPickedUp(to.state()))?,
        Step::HandOver => tx.emit(DeliveryCompleted(to.state()))?,
        Step::Fail => tx.emit(DeliveryFailed(to.state()))?,
        Step::GiveBack | Step::Cancel | Step::Close => {}
    }
    Ok(Outcome::Taken(Box::new(to)))
}

/// The delivery as it is after a step.
fn after(from: &DeliveryRow, step: Step, settings: &Settings, now: Timestamp) -> Option<DeliveryRow> {
    let status = from.status.after(step)?;
    let mut to = from.clone();
    to.status = status;
    to.version += i64::from(step.is_published());
    to.changed_at = now;
    to.deadline_at = match status {
        DeliveryStatus::Waiting => Some(now.plus(Duration::from_secs(settings.assign_within_s))),
        DeliveryStatus::PickedUp => Some(now.plus(Duration::from_secs(settings.deliver_within_s))),
        _ => None,
    };
    to.ended_at = status.is_final().then_some(now);
    match step {
        Step::Assign => to.assigned_at = Some(now),
        Step::PickUp => to.picked_up_at = Some(now),
        Step::GiveBack => {
            (to.courier_id, to.courier_name, to.assigned_at) = (None, None, None);
            to.given_back += 1;
        }
        Step::Fail if from.status == DeliveryStatus::Waiting => to.reason = Some("no_courier_found".into()),
        Step::Fail => to.reason = Some("not_delivered_in_time".into()),
        Step::Cancel => to.reason = Some("order_ended".into()),
        Step::HandOver | Step::Close => {}
    }
    Some(to)
}

/// What a step means for its courier: taken on, at the restaurant, at the door, or free again.
async fn move_courier(tx: &Tx, from: &DeliveryRow, step: Step) -> Result<(), StoreError> {
    let Some(courier) = from.courier_id else { return Ok(()) };
    match step {
        Step::Assign => store::begin_assignment(tx, courier, from.id).await?,
        Step::PickUp => store::put_position(tx, courier, from.pick_up.0).await?,
        Step::HandOver => store::put_position(tx, courier, from.deliver_to.0.place).await?,
        _ => {}
    }
    if let Some(ending) = step.ends_assignment() {
        store::end_assignment(tx, from.id, ending).await?;
        store::free(tx, courier, from.id).await?;
    }
    Ok(())
}

/// Sets or clears the time at which a courier who drives by themselves goes on.
pub(crate) async fn drive_on(tx: &Tx, settings: &Settings, delivery: &DeliveryRow) -> Result<(), StoreError> {
    let Some(after) = settings.auto_drive_after_ms else { return Ok(()) };
    let (org, order) = (delivery.org_id, delivery.id);
    match delivery.status.driven_on_by(delivery.ready) {
        Some(_) => tx.set_timer(org, order, DRIVE, tx.now().plus(Duration::from_millis(after))).await,
        None => tx.clear_timer(org, order, DRIVE).await.map(drop),
    }
}
