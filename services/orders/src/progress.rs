//! Carries decided steps out: row, history, timer and event in one unit of work, so that no reader sees half a step.

use std::time::Duration;

use contracts::orders::{
    OrderCancelled, OrderConfirmed, OrderCreated, OrderDelivered, OrderFailed, OrderRejected, OrderShipped, OrderState,
    OrderStatus, OrderUpdated,
};
use kernel::clock::Timestamp;
use kernel::events::Fault;
use kernel::http::Fail;
use kernel::store::{StoreError, Tx};
use uuid::Uuid;

use crate::Settings;
use crate::order::{self, News, Step};
use crate::store::{self, HistoryRow, OrderRow};

/// Timer steps; also the names under which the jobs wait for them.
pub(crate) const PAYMENT: &str = "payment";
pub(crate) const ACCEPTANCE: &str = "acceptance";
pub(crate) const FULFILMENT: &str = "fulfilment";

/// What caused a step: an event's name, a person's role, or the deadline.
#[derive(Clone, Debug)]
pub(crate) struct Cause {
    pub(crate) by: &'static str,
    pub(crate) actor: Option<Uuid>,
    /// More than the reason's one word.
    pub(crate) detail: Option<String>,
}

impl Cause {
    /// Something without a person or details.
    pub(crate) const fn of(by: &'static str) -> Self {
        Self { by, actor: None, detail: None }
    }
}

/// Why a step was not taken.
#[derive(Debug)]
pub(crate) enum Stuck {
    Store(StoreError),
    /// Somebody else moved the order since it was read.
    Moved,
    /// Nobody placed this order here.
    Unknown(Uuid),
}

impl From<StoreError> for Stuck {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Stuck> for Fault {
    fn from(stuck: Stuck) -> Self {
        match stuck {
            Stuck::Store(error) => error.into(),
            Stuck::Moved => Self::Retry("the order moved on meanwhile".into()),
            // Nobody hears of an order before it is committed here, so an unknown one needs a person to look.
            Stuck::Unknown(order) => Self::Park(format!("order {order} is not known here")),
        }
    }
}

impl From<Stuck> for Fail {
    fn from(stuck: Stuck) -> Self {
        match stuck {
            Stuck::Store(error) => error.into(),
            Stuck::Moved => Self::Busy,
            Stuck::Unknown(_) => Self::not_found(),
        }
    }
}

/// Until when an order that has just become this may wait, and the timer that guards it.
fn patience(status: OrderStatus, settings: &Settings) -> Option<(&'static str, Duration)> {
    let seconds = match status {
        OrderStatus::Pending => settings.pay_within_s,
        OrderStatus::AwaitingAcceptance => settings.accept_within_s,
        _ => settings.deliver_within_s,
    };
    timer(status).map(|step| (step, Duration::from_secs(seconds)))
}

const fn timer(status: OrderStatus) -> Option<&'static str> {
    match status {
        OrderStatus::Pending => Some(PAYMENT),
        OrderStatus::AwaitingAcceptance => Some(ACCEPTANCE),
        OrderStatus::Confirmed | OrderStatus::Preparing | OrderStatus::Ready | OrderStatus::OutForDelivery => {
            Some(FULFILMENT)
        }
        _ => None,
    }
}

/// When a new order must have been paid for.
pub(crate) fn first_deadline(settings: &Settings, now: Timestamp) -> Timestamp {
    now.plus(Duration::from_secs(settings.pay_within_s))
}

/// Finishes a new order that is already inserted: its first history row, its timer and its event.
pub(crate) async fn begin(tx: &Tx, order: &OrderRow, state: OrderState, cause: Cause) -> Result<(), StoreError> {
    tx.insert(&history(tx, order, cause)).await?;
    if let Some(deadline) = order.deadline_at {
        tx.set_timer(order.org_id, order.id, PAYMENT, deadline).await?;
    }
    tx.emit(OrderCreated(state))
}

/// Takes news in: remembers it, and takes the step that follows from it, if one does.
pub(crate) async fn hear(
    tx: &Tx,
    settings: &Settings,
    org: Uuid,
    id: Uuid,
    news: News,
    cause: Cause,
) -> Result<(), Stuck> {
    if let Some(mark) = news.mark()
        && !store::mark(tx, org, id, mark).await?
    {
        return Err(Stuck::Unknown(id));
    }
    let order = store::order(tx, org, id).await?.ok_or(Stuck::Unknown(id))?;
    if news == News::KitchenAccepted && order.status == OrderStatus::AwaitingAcceptance {
        // The kitchen has answered; from here the money has its own time to be taken.
        return wait_for_capture(tx, settings, &order).await;
    }
    match order::follow(order.standing(), news) {
        Some(step) => take(tx, settings, order, step, cause).await.map(drop),
        None => Ok(()),
    }
}

async fn wait_for_capture(tx: &Tx, settings: &Settings, order: &OrderRow) -> Result<(), Stuck> {
    let deadline = tx.now().plus(Duration::from_secs(settings.capture_within_s));
    if !store::postpone(tx, order, deadline).await? {
        return Err(Stuck::Moved);
    }
    Ok(tx.set_timer(order.org_id, order.id, ACCEPTANCE, deadline).await?)
}

/// Ends an order whose deadline has passed; one that moved on or was given more time is left alone.
pub(crate) async fn expire(tx: &Tx, settings: &Settings, org: Uuid, id: Uuid) -> Result<bool, Stuck> {
    let Some(order) = store::order(tx, org, id).await? else { return Ok(false) };
    if order.deadline_at.is_none_or(|deadline| deadline > tx.now()) {
        return Ok(false);
    }
    match order::follow(order.standing(), News::Overdue) {
        Some(step) => take(tx, settings, order, step, Cause::of("deadline")).await.map(|_| true),
        None => Ok(false),
    }
}

/// Takes a decided step and tells everybody.
pub(crate) async fn take(
    tx: &Tx,
    settings: &Settings,
    order: OrderRow,
    step: Step,
    cause: Cause,
) -> Result<OrderState, Stuck> {
    let (before, after) = (timer(order.status), patience(step.to, settings));
    // One deadline covers the whole way from the kitchen to the door.
    let deadline = match after {
        Some((name, _)) if before == Some(name) => order.deadline_at,
        Some((_, wait)) => Some(tx.now().plus(wait)),
        None => None,
    };
    let next = order.after(step, deadline, tx.now());
    if !store::advance(tx, &next, &history(tx, &next, cause)).await? {
        return Err(Stuck::Moved);
    }
    if before != after.map(|(name, _)| name) {
        move_timer(tx, &next, before, after.map(|(name, _)| name)).await?;
    }
    if next.status.is_final() && next.status != OrderStatus::Delivered {
        return_discount(tx, &next).await?;
    }
    let lines = store::lines(tx, next.org_id, next.id).await?;
    let state = next.state(lines);
    announce(tx, state.clone())?;
    Ok(state)
}

async fn move_timer(
    tx: &Tx,
    order: &OrderRow,
    from: Option<&'static str>,
    to: Option<&'static str>,
) -> Result<(), StoreError> {
    if let Some(step) = from {
        tx.clear_timer(order.org_id, order.id, step).await?;
    }
    if let (Some(step), Some(deadline)) = (to, order.deadline_at) {
        tx.set_timer(order.org_id, order.id, step, deadline).await?;
    }
    Ok(())
}

async fn return_discount(tx: &Tx, order: &OrderRow) -> Result<(), StoreError> {
    match (order.discount_org_id, &order.discount_code) {
        (Some(org), Some(code)) => store::discounts::return_use(tx, org, code, order.customer_id).await,
        _ => Ok(()),
    }
}

fn history(tx: &Tx, order: &OrderRow, cause: Cause) -> HistoryRow {
    HistoryRow {
        org_id: order.org_id,
        order_id: order.id,
        version: order.version,
        status: order.status,
        reason: order.reason.clone(),
        detail: cause.detail,
        caused_by: cause.by.to_owned(),
        actor_id: cause.actor,
        trace_id: tx.trace().trace_hex(),
        at: order.changed_at,
    }
}

/// One event for each version, named after what it means to others.
fn announce(tx: &Tx, state: OrderState) -> Result<(), StoreError> {
    use OrderStatus as S;
    match state.status {
        S::Pending => tx.emit(OrderCreated(state)),
        S::AwaitingAcceptance | S::Preparing | S::Ready => tx.emit(OrderUpdated(state)),
        S::Confirmed => tx.emit(OrderConfirmed(state)),
        S::OutForDelivery => tx.emit(OrderShipped(state)),
        S::Delivered => tx.emit(OrderDelivered(state)),
        S::Cancelled => tx.emit(OrderCancelled(state)),
        S::Rejected => tx.emit(OrderRejected(state)),
        S::Failed | S::Expired => tx.emit(OrderFailed(state)),
    }
}
