//! Where an event enters: orders that begin and end, and kitchens that accept.

use std::sync::Arc;

use contracts::kitchen::KitchenAccepted;
use contracts::orders::{OrderCancelled, OrderCreated, OrderFailed, OrderRejected};
use kernel::events::{Fault, Received};
use kernel::store::Tx;
use uuid::Uuid;

use crate::Payments;
use crate::attempt::Heard;
use crate::steps::{self, Case};

/// A new order is to be paid for, unless its end was heard first.
pub(crate) async fn order_created(tx: Tx, _: Arc<Payments>, event: Received<OrderCreated>) -> Result<(), Fault> {
    if event.total_minor <= 0 {
        return Err(Fault::Park(format!("order {} has nothing to pay for", event.order_id)));
    }
    Ok(steps::start(&tx, &event.event, tx.trace().traceparent()).await?)
}

pub(crate) async fn order_cancelled(tx: Tx, _: Arc<Payments>, event: Received<OrderCancelled>) -> Result<(), Fault> {
    order_ended(tx, event.org_id, event.order_id).await
}

pub(crate) async fn order_rejected(tx: Tx, _: Arc<Payments>, event: Received<OrderRejected>) -> Result<(), Fault> {
    order_ended(tx, event.org_id, event.order_id).await
}

pub(crate) async fn order_failed(tx: Tx, _: Arc<Payments>, event: Received<OrderFailed>) -> Result<(), Fault> {
    order_ended(tx, event.org_id, event.order_id).await
}

/// Whatever was done for the order is undone; if nothing was yet, nothing will be.
async fn order_ended(tx: Tx, org: Uuid, order: Uuid) -> Result<(), Fault> {
    let news = Heard { ended: true, accepted: false };
    if let Some(mut case) = Case::of(&tx, org, order, news).await? {
        steps::ended(&tx, &mut case).await?;
    }
    Ok(())
}

/// The kitchen will cook: what is held is taken, or will be once it is held.
pub(crate) async fn kitchen_accepted(tx: Tx, _: Arc<Payments>, event: Received<KitchenAccepted>) -> Result<(), Fault> {
    let news = Heard { ended: false, accepted: true };
    if let Some(mut case) = Case::of(&tx, event.org_id, event.order_id, news).await? {
        steps::accepted(&tx, &mut case).await?;
    }
    Ok(())
}
