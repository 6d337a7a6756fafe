//! What the delivery service does about other services' events.

use std::sync::Arc;

use contracts::kitchen::KitchenReady;
use contracts::orders::{OrderCancelled, OrderConfirmed, OrderDelivered, OrderFailed, OrderRejected, OrderShipped};
use kernel::events::{Fault, Received};
use kernel::store::Tx;
use uuid::Uuid;

use crate::assigning::{ASSIGN, assign_one, move_on};
use crate::delivery::{DeliveryStatus, Step};
use crate::steps::{self, Outcome, drive_on};
use crate::store::{self, DeliveryRow, Heard};
use crate::{Delivery, Settings};

/// Accepted and paid: somebody has to bring it.
pub(crate) async fn order_confirmed(
    tx: Tx,
    state: Arc<Delivery>,
    order: Received<OrderConfirmed>,
) -> Result<(), Fault> {
    let heard = store::hear(&tx, order.org_id, order.order_id, Heard { ready: false, ended: false }).await?;
    if heard.ended {
        return Ok(());
    }
    let traceparent = tx.trace().traceparent();
    let new = steps::open(&tx, &state.settings.get(), &order, heard.ready, traceparent).await?;
    if new && assign_one(&tx, &state.settings.get()).await? != Some(order.order_id) {
        tx.wake(ASSIGN);
    }
    Ok(())
}

/// On its way, if only by somebody's word: then it is ready as well, and one that still waited for a courier has found
/// somebody else to bring it.
pub(crate) async fn order_shipped(tx: Tx, state: Arc<Delivery>, order: Received<OrderShipped>) -> Result<(), Fault> {
    let (org, id) = (order.org_id, order.order_id);
    ready(&tx, &state.settings.get(), org, id).await?;
    match store::delivery(&tx, org, id).await?.filter(|found| found.status == DeliveryStatus::Waiting) {
        Some(waiting) => go_on(&tx, &state.settings.get(), &waiting, Step::Close).await,
        None => Ok(()),
    }
}

/// Usually our own news; otherwise somebody brought it without telling us, and the courier is free.
pub(crate) async fn order_delivered(
    tx: Tx,
    state: Arc<Delivery>,
    order: Received<OrderDelivered>,
) -> Result<(), Fault> {
    end(&tx, &state.settings.get(), order.org_id, order.order_id, Step::Close).await
}

pub(crate) async fn order_cancelled(
    tx: Tx,
    state: Arc<Delivery>,
    order: Received<OrderCancelled>,
) -> Result<(), Fault> {
    end(&tx, &state.settings.get(), order.org_id, order.order_id, Step::Cancel).await
}

pub(crate) async fn order_rejected(tx: Tx, state: Arc<Delivery>, order: Received<OrderRejected>) -> Result<(), Fault> {
    end(&tx, &state.settings.get(), order.org_id, order.order_id, Step::Cancel).await
}

pub(crate) async fn order_failed(tx: Tx, state: Arc<Delivery>, order: Received<OrderFailed>) -> Result<(), Fault> {
    end(&tx, &state.settings.get(), order.org_id, order.order_id, Step::Cancel).await
}

/// The food waits for the courier.
pub(crate) async fn kitchen_ready(tx: Tx, state: Arc<Delivery>, ticket: Received<KitchenReady>) -> Result<(), Fault> {
    ready(&tx, &state.settings.get(), ticket.org_id, ticket.order_id).await
}

async fn ready(tx: &Tx, settings: &Settings, org: Uuid, order: Uuid) -> Result<(), Fault> {
    store::hear(tx, org, order, Heard { ready: true, ended: false }).await?;
    if let Some(delivery) = store::mark_ready(tx, org, order).await? {
        drive_on(tx, settings, &delivery).await?;
    }
    Ok(())
}

/// The order has ended: so has its delivery, and what is heard late finds that it has.
async fn end(tx: &Tx, settings: &Settings, org: Uuid, order: Uuid, how: Step) -> Result<(), Fault> {
    store::hear(tx, org, order, Heard { ready: false, ended: true }).await?;
    match store::delivery(tx, org, order).await? {
        Some(delivery) => go_on(tx, settings, &delivery, how).await,
        None => Ok(()),
    }
}

/// Takes a step if it can be taken.
pub(crate) async fn go_on(tx: &Tx, settings: &Settings, from: &DeliveryRow, step: Step) -> Result<(), Fault> {
    match move_on(tx, settings, from, step).await? {
        Outcome::Taken(_) | Outcome::Impossible => Ok(()),
        Outcome::Overtaken => Err(Fault::Retry("the delivery was moved by somebody else at the same time".into())),
    }
}
