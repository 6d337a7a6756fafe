//! Orders as callers see them: without the card's token and without what only services need.

use std::time::Duration;

use contracts::orders::{Card, DeliverTo, OrderLine, OrderState, OrderStatus};
use kernel::clock::Timestamp;
use kernel::money::Currency;
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::Settings;
use crate::order::Standing;
use crate::store::{HistoryRow, OrderRow};

/// A whole order.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct OrderView {
    /// The order.
    id: Uuid,
    /// The restaurant's organisation.
    org_id: Uuid,
    /// Counts steps from 1.
    version: i64,
    /// For people to say on the phone.
    code: String,
    /// Where it stands.
    status: OrderStatus,
    /// Why, if that needs saying.
    reason: Option<String>,
    /// Who ordered.
    customer_id: Uuid,
    /// Who cooks.
    restaurant_id: Uuid,
    /// The restaurant's name then.
    restaurant_name: String,
    /// Through which channel it came.
    channel: String,
    /// What was ordered.
    lines: Vec<OrderLine>,
    /// Currency of all amounts.
    currency: Currency,
    /// Sum of the lines.
    subtotal_minor: i64,
    /// Taken off.
    discount_minor: i64,
    /// Added for delivery.
    delivery_fee_minor: i64,
    /// Contained in the total.
    tax_minor: i64,
    /// What the customer pays.
    total_minor: i64,
    /// The card as a receipt shows it, such as `visa ****4242`.
    masked_card: String,
    /// Where to bring it.
    deliver_to: DeliverTo,
    /// When it will likely be there; absent once it has ended.
    expected_at: Option<Timestamp>,
    /// When it was placed.
    placed_at: Timestamp,
    /// When it reached this status.
    changed_at: Timestamp,
}

impl OrderView {
    pub(super) fn new(order: OrderState, settings: &Settings) -> Self {
        let minutes = settings.usual_ride_minutes.saturating_add(u64::try_from(order.prep_minutes).unwrap_or(0));
        let expected = order.placed_at.plus(Duration::from_secs(minutes.saturating_mul(60)));
        Self {
            id: order.order_id,
            org_id: order.org_id,
            version: order.version,
            code: order.code,
            status: order.status,
            reason: order.reason,
            customer_id: order.customer_id,
            restaurant_id: order.restaurant_id,
            restaurant_name: order.restaurant_name,
            channel: order.channel,
            lines: order.lines,
            currency: order.currency,
            subtotal_minor: order.subtotal_minor,
            discount_minor: order.discount_minor,
            delivery_fee_minor: order.delivery_fee_minor,
            tax_minor: order.tax_minor,
            total_minor: order.total_minor,
            masked_card: masked(&order.card),
            deliver_to: order.deliver_to,
            expected_at: (!order.status.is_final()).then_some(expected),
            placed_at: order.placed_at,
            changed_at: order.changed_at,
        }
    }
}

/// A card as a receipt shows it.
pub(super) fn masked(card: &Card) -> String {
    format!("{} ****{}", card.brand, card.last4)
}

/// One step of an order.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct StepView {
    /// The order's version after it.
    version: i64,
    /// Where it led.
    status: OrderStatus,
    /// Why, in one stable word.
    reason: Option<String>,
    /// Why, for people.
    detail: Option<String>,
    /// The event, the person's role or the deadline behind it.
    caused_by: String,
    /// The trace it belongs to.
    trace_id: String,
    /// When it was taken.
    at: Timestamp,
}

/// How an order came to stand as it does, and what comes next.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct HistoryView {
    /// The order.
    id: Uuid,
    /// For people to say on the phone.
    code: String,
    /// Where it stands.
    status: OrderStatus,
    /// Events that would move it on.
    waits_for: Vec<&'static str>,
    /// When it ends if none of them comes; absent once it has ended.
    deadline_at: Option<Timestamp>,
    /// What would be undone if it ended now.
    would_undo: Vec<&'static str>,
    /// Every step, first to last.
    steps: Vec<StepView>,
}

impl HistoryView {
    pub(super) fn new(order: &OrderRow, steps: Vec<HistoryRow>) -> Self {
        let step = |row: HistoryRow| StepView {
            version: row.version,
            status: row.status,
            reason: row.reason,
            detail: row.detail,
            caused_by: row.caused_by,
            trace_id: row.trace_id,
            at: row.at,
        };
        Self {
            id: order.id,
            code: order.code.clone(),
            status: order.status,
            waits_for: waits_for(order.standing()),
            deadline_at: order.deadline_at,
            would_undo: would_undo(order.standing()),
            steps: steps.into_iter().map(step).collect(),
        }
    }
}

fn listed(words: &[(bool, &'static str)]) -> Vec<&'static str> {
    words.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect()
}

fn waits_for(order: Standing) -> Vec<&'static str> {
    match order.status {
        OrderStatus::Pending => {
            listed(&[(!order.payment_ok, "payment.authorized"), (!order.stock_ok, "inventory.reserved")])
        }
        OrderStatus::AwaitingAcceptance if order.kitchen_ok => vec!["payment.success"],
        OrderStatus::AwaitingAcceptance => vec!["kitchen.accepted"],
        OrderStatus::Confirmed => vec!["kitchen.started"],
        OrderStatus::Preparing => vec!["kitchen.ready"],
        OrderStatus::Ready => vec!["delivery.picked_up"],
        OrderStatus::OutForDelivery => vec!["delivery.completed"],
        _ => Vec::new(),
    }
}

fn would_undo(order: Standing) -> Vec<&'static str> {
    match order.status {
        OrderStatus::Pending => {
            listed(&[(order.payment_ok, "void the payment"), (order.stock_ok, "release the stock")])
        }
        OrderStatus::AwaitingAcceptance => {
            vec!["void or refund the payment", "release the stock", "withdraw the ticket"]
        }
        status if status.is_final() => Vec::new(),
        _ => vec!["refund the payment", "withdraw the ticket", "free the courier"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_waits_for_something_or_has_ended() {
        for status in OrderStatus::ALL {
            let order = Standing { status: *status, payment_ok: false, stock_ok: true, kitchen_ok: false };
            assert_eq!(waits_for(order).is_empty(), status.is_final(), "{status}");
            assert_eq!(would_undo(order).is_empty(), status.is_final(), "{status}");
        }
        let pending = Standing { status: OrderStatus::Pending, payment_ok: false, stock_ok: true, kitchen_ok: false };
        assert_eq!(waits_for(pending), ["payment.authorized"]);
        assert_eq!(would_undo(pending), ["release the stock"]);
    }
}
