//! What the kitchen does about other services' events.

use std::sync::Arc;
use std::time::Duration;

use contracts::orders::{
    OrderCancelled, OrderConfirmed, OrderCreated, OrderDelivered, OrderFailed, OrderRejected, OrderShipped, OrderState,
    OrderStatus, OrderUpdated,
};
use contracts::restaurants::{MenuChanged, RestaurantState};
use kernel::events::{Fault, Received, projected};
use kernel::store::{Db, StoreError, Tx};
use uuid::Uuid;

use crate::Kitchen;
use crate::steps::{self, Note, Outcome, READY};
use crate::stock::{changes, local_day};
use crate::store::{self, Counting};
use crate::ticket::Step;

/// Daily stock of the menu becomes stock; what is on hand moves by as much as the limit does.
pub(crate) async fn menu_changed(tx: Tx, _: Arc<Kitchen>, menu: Received<MenuChanged>) -> Result<(), Fault> {
    let at = Counting { org_id: menu.org_id, restaurant_id: menu.restaurant_id };
    let known = store::known_stock(&tx, at.org_id, at.restaurant_id).await?;
    let today = local_day(tx.now(), utc_offset(&tx, &at).await?);
    for (item, change) in changes(&known, &menu.items) {
        store::apply(&tx, &at, item, change, today).await?;
    }
    Ok(())
}

/// The restaurant's local time; UTC until its restaurant is heard of.
pub(crate) async fn utc_offset(db: &Db, at: &Counting) -> Result<i64, StoreError> {
    let known = projected::<RestaurantState>(db, "restaurant", at.org_id, at.restaurant_id).await?;
    Ok(known.map_or(0, |(restaurant, _)| restaurant.utc_offset_minutes))
}

pub(crate) async fn order_created(tx: Tx, _: Arc<Kitchen>, order: Received<OrderCreated>) -> Result<(), Fault> {
    Ok(steps::reserve(&tx, &order).await?)
}

/// Paid for and in stock: the restaurant has to say yes.
pub(crate) async fn order_updated(tx: Tx, state: Arc<Kitchen>, order: Received<OrderUpdated>) -> Result<(), Fault> {
    if order.status == OrderStatus::AwaitingAcceptance {
        steps::open_ticket(&tx, &state.settings.get(), &order).await?;
    }
    if order.status == OrderStatus::Ready {
        // Usually our own news; otherwise the restaurant said so to orders, and the courier waits for our word.
        step(&tx, order.org_id, order.order_id, Step::Finish).await?;
    }
    Ok(())
}

/// Accepted and paid: cook it.
pub(crate) async fn order_confirmed(tx: Tx, state: Arc<Kitchen>, order: Received<OrderConfirmed>) -> Result<(), Fault> {
    let started = step(&tx, order.org_id, order.order_id, Step::Start).await?;
    if let (true, Some(after)) = (started, state.settings.get().auto_ready_after_ms) {
        let due = tx.now().plus(Duration::from_millis(after));
        tx.set_timer(order.org_id, order.order_id, READY, due).await?;
    }
    Ok(())
}

pub(crate) async fn order_shipped(tx: Tx, _: Arc<Kitchen>, order: Received<OrderShipped>) -> Result<(), Fault> {
    step(&tx, order.org_id, order.order_id, Step::HandOver).await.map(drop)
}

pub(crate) async fn order_delivered(tx: Tx, _: Arc<Kitchen>, order: Received<OrderDelivered>) -> Result<(), Fault> {
    step(&tx, order.org_id, order.order_id, Step::HandOver).await.map(drop)
}

pub(crate) async fn order_cancelled(tx: Tx, _: Arc<Kitchen>, order: Received<OrderCancelled>) -> Result<(), Fault> {
    ended(&tx, &order).await
}

pub(crate) async fn order_rejected(tx: Tx, _: Arc<Kitchen>, order: Received<OrderRejected>) -> Result<(), Fault> {
    ended(&tx, &order).await
}

pub(crate) async fn order_failed(tx: Tx, _: Arc<Kitchen>, order: Received<OrderFailed>) -> Result<(), Fault> {
    ended(&tx, &order).await
}

/// Whatever was begun for an order that has ended is undone; what comes late finds it barred.
async fn ended(tx: &Tx, order: &OrderState) -> Result<(), Fault> {
    step(tx, order.org_id, order.order_id, Step::Withdraw).await?;
    Ok(steps::bar(tx, order).await?)
}

/// Takes a step of a ticket if there is one to take; says whether it was taken.
pub(crate) async fn step(tx: &Tx, org: Uuid, order: Uuid, step: Step) -> Result<bool, Fault> {
    let Some(ticket) = store::ticket(tx, org, order).await? else { return Ok(false) };
    match steps::take(tx, &ticket, step, Note::default()).await? {
        Outcome::Taken(_) => Ok(true),
        Outcome::Impossible => Ok(false),
        Outcome::Overtaken => Err(Fault::Retry("the ticket was moved by somebody else at the same time".into())),
    }
}
