//! What others' events mean for an order. Each is safe early, late and twice: a step that does not fit is not taken.

use std::sync::Arc;

use contracts::delivery::{DeliveryAssigned, DeliveryCompleted, DeliveryFailed, DeliveryPickedUp};
use contracts::kitchen::{
    InventoryRejected, InventoryReserved, KitchenAccepted, KitchenExpired, KitchenReady, KitchenRejected,
    KitchenStarted,
};
use contracts::payments::{PaymentAuthorized, PaymentFailed, PaymentSucceeded};
use kernel::events::{Event, Fault, Received};
use kernel::store::Tx;
use uuid::Uuid;

use crate::order::News;
use crate::progress::{self, Cause};
use crate::{Orders, store};

async fn hear<E: Event>(
    tx: Tx,
    orders: Arc<Orders>,
    order: (Uuid, Uuid),
    news: News,
    detail: Option<String>,
) -> Result<(), Fault> {
    let cause = Cause { detail, ..Cause::of(E::DEF.name) };
    Ok(progress::hear(&tx, &orders.settings.get(), order.0, order.1, news, cause).await?)
}

pub(crate) async fn payment_authorized(
    tx: Tx,
    orders: Arc<Orders>,
    event: Received<PaymentAuthorized>,
) -> Result<(), Fault> {
    hear::<PaymentAuthorized>(tx, orders, (event.org_id, event.order_id), News::PaymentAuthorized, None).await
}

pub(crate) async fn payment_failed(tx: Tx, orders: Arc<Orders>, event: Received<PaymentFailed>) -> Result<(), Fault> {
    // While another card may be tried, the order waits; its own deadline ends that.
    if event.retry_until.is_some() {
        return Ok(());
    }
    let why = event.decline_code.clone();
    hear::<PaymentFailed>(tx, orders, (event.org_id, event.order_id), News::PaymentFailed, why).await
}

pub(crate) async fn payment_succeeded(
    tx: Tx,
    orders: Arc<Orders>,
    event: Received<PaymentSucceeded>,
) -> Result<(), Fault> {
    hear::<PaymentSucceeded>(tx, orders, (event.org_id, event.order_id), News::PaymentCaptured, None).await
}

pub(crate) async fn inventory_reserved(
    tx: Tx,
    orders: Arc<Orders>,
    event: Received<InventoryReserved>,
) -> Result<(), Fault> {
    hear::<InventoryReserved>(tx, orders, (event.org_id, event.order_id), News::StockReserved, None).await
}

pub(crate) async fn inventory_rejected(
    tx: Tx,
    orders: Arc<Orders>,
    event: Received<InventoryRejected>,
) -> Result<(), Fault> {
    let missing = (!event.missing.is_empty()).then(|| event.missing.join(", "));
    hear::<InventoryRejected>(tx, orders, (event.org_id, event.order_id), News::StockRejected, missing).await
}

pub(crate) async fn kitchen_accepted(
    tx: Tx,
    orders: Arc<Orders>,
    event: Received<KitchenAccepted>,
) -> Result<(), Fault> {
    hear::<KitchenAccepted>(tx, orders, (event.org_id, event.order_id), News::KitchenAccepted, None).await
}

pub(crate) async fn kitchen_rejected(
    tx: Tx,
    orders: Arc<Orders>,
    event: Received<KitchenRejected>,
) -> Result<(), Fault> {
    let why = event.reason.clone();
    hear::<KitchenRejected>(tx, orders, (event.org_id, event.order_id), News::KitchenRejected, why).await
}

pub(crate) async fn kitchen_expired(tx: Tx, orders: Arc<Orders>, event: Received<KitchenExpired>) -> Result<(), Fault> {
    hear::<KitchenExpired>(tx, orders, (event.org_id, event.order_id), News::KitchenExpired, None).await
}

pub(crate) async fn kitchen_started(tx: Tx, orders: Arc<Orders>, event: Received<KitchenStarted>) -> Result<(), Fault> {
    hear::<KitchenStarted>(tx, orders, (event.org_id, event.order_id), News::CookingStarted, None).await
}

pub(crate) async fn kitchen_ready(tx: Tx, orders: Arc<Orders>, event: Received<KitchenReady>) -> Result<(), Fault> {
    hear::<KitchenReady>(tx, orders, (event.org_id, event.order_id), News::FoodReady, None).await
}

/// Only so that the courier may see the order; who drives is for delivery to judge.
pub(crate) async fn delivery_assigned(tx: Tx, _: Arc<Orders>, event: Received<DeliveryAssigned>) -> Result<(), Fault> {
    Ok(store::give_to(&tx, event.org_id, event.order_id, event.courier_id).await?)
}

pub(crate) async fn delivery_picked_up(
    tx: Tx,
    orders: Arc<Orders>,
    event: Received<DeliveryPickedUp>,
) -> Result<(), Fault> {
    hear::<DeliveryPickedUp>(tx, orders, (event.org_id, event.order_id), News::PickedUp, None).await
}

pub(crate) async fn delivery_completed(
    tx: Tx,
    orders: Arc<Orders>,
    event: Received<DeliveryCompleted>,
) -> Result<(), Fault> {
    hear::<DeliveryCompleted>(tx, orders, (event.org_id, event.order_id), News::HandedOver, None).await
}

pub(crate) async fn delivery_failed(tx: Tx, orders: Arc<Orders>, event: Received<DeliveryFailed>) -> Result<(), Fault> {
    let why = event.reason.clone();
    hear::<DeliveryFailed>(tx, orders, (event.org_id, event.order_id), News::DeliveryFailed, why).await
}
