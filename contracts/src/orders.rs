//! What `orders` says: the full state of an order after each step.

use kernel::clock::Timestamp;
use kernel::events::{Payload, Subject};
use kernel::money::Currency;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Place;

kernel::words! {
    /// Where an order stands. The last five are ends.
    pub enum OrderStatus {
        /// Waiting for payment and stock.
        Pending = "PENDING",
        /// Paid for and in stock; the kitchen has to say yes.
        AwaitingAcceptance = "AWAITING_ACCEPTANCE",
        /// The kitchen said yes and the money was taken.
        Confirmed = "CONFIRMED",
        /// Being cooked.
        Preparing = "PREPARING",
        /// Waiting for the courier.
        Ready = "READY",
        /// On its way.
        OutForDelivery = "OUT_FOR_DELIVERY",
        /// Handed over.
        Delivered = "DELIVERED",
        /// Payment or stock said no, or the payment never came through.
        Failed = "FAILED",
        /// The kitchen said no.
        Rejected = "REJECTED",
        /// Nobody answered in time.
        Expired = "EXPIRED",
        /// Called off by the customer, the restaurant or support.
        Cancelled = "CANCELLED",
    }
}

impl OrderStatus {
    /// Whether nothing comes after it.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Delivered | Self::Failed | Self::Rejected | Self::Expired | Self::Cancelled)
    }
}

/// A choice as it was sold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SoldChoice {
    /// The choice.
    pub choice_id: Uuid,
    /// Its name then.
    pub name: String,
    /// Its price then.
    pub price_minor: i64,
}

/// One line, copied by value from the menu as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderLine {
    /// The menu item.
    pub item_id: Uuid,
    /// Its name then.
    pub name: String,
    /// How many.
    pub quantity: i64,
    /// Price of one with its choices.
    pub unit_price_minor: i64,
    /// Price of all.
    pub line_total_minor: i64,
    /// Tax contained in the price, in basis points.
    pub tax_basis_points: i64,
    /// What was chosen.
    pub choices: Vec<SoldChoice>,
}

/// A card as we may know it: the provider's token and what a receipt shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// The provider's token.
    #[schemars(length(min = 1, max = 120))]
    pub token: String,
    /// Such as `visa`.
    #[schemars(length(min = 1, max = 20))]
    pub brand: String,
    /// The last four digits.
    #[schemars(regex(pattern = r"^[0-9]{4}$"))]
    pub last4: String,
}

/// Where to bring it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeliverTo {
    /// Who takes it.
    #[schemars(length(min = 1, max = 80))]
    pub name: String,
    /// Street and number.
    #[schemars(length(min = 1, max = 120))]
    pub street: String,
    /// City.
    #[schemars(length(min = 1, max = 80))]
    pub city: String,
    /// Where that is.
    pub place: Place,
    /// Such as `second floor`.
    #[serde(default)]
    #[schemars(length(max = 300))]
    pub note: String,
}

/// A whole order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderState {
    /// The restaurant's organisation.
    pub org_id: Uuid,
    /// The order.
    pub order_id: Uuid,
    /// Counts steps from 1.
    pub version: i64,
    /// For people to say on the phone, such as `ORD-7K3QD`.
    pub code: String,
    /// Where it stands.
    pub status: OrderStatus,
    /// Why it stands there, if that needs saying.
    pub reason: Option<String>,
    /// Who ordered.
    pub customer_id: Uuid,
    /// Where to tell them.
    pub customer_email: String,
    /// Through which channel it came, such as `customer_app`.
    pub channel: String,
    /// Who cooks.
    pub restaurant_id: Uuid,
    /// The restaurant's name then.
    pub restaurant_name: String,
    /// Where to pick it up.
    pub pick_up: Place,
    /// Whether the kitchen accepts by itself.
    pub auto_accept: bool,
    /// How long the kitchen usually takes.
    pub prep_minutes: i64,
    /// What was ordered.
    pub lines: Vec<OrderLine>,
    /// Currency of all amounts.
    pub currency: Currency,
    /// Sum of the lines.
    pub subtotal_minor: i64,
    /// Taken off.
    pub discount_minor: i64,
    /// Added for delivery.
    pub delivery_fee_minor: i64,
    /// Contained in the total.
    pub tax_minor: i64,
    /// What the customer pays.
    pub total_minor: i64,
    /// How they pay.
    pub card: Card,
    /// Where to bring it.
    pub deliver_to: DeliverTo,
    /// When it was placed.
    pub placed_at: Timestamp,
    /// When it reached this status.
    pub changed_at: Timestamp,
}

impl Payload for OrderState {
    fn subject(&self) -> Subject {
        Subject { org: self.org_id, id: self.order_id, version: self.version }
    }
}

kernel::events! {
    publisher "orders", topic "orders.events", aggregate "order";
    /// An order was taken; payment and stock are asked next.
    "order.created" v 1 ["ORDER_CREATED"] => OrderCreated(OrderState);
    /// An order moved on in a way that has no name of its own; see its status.
    "order.updated" v 1 [] => OrderUpdated(OrderState);
    /// The kitchen accepted and the money was taken: cook it.
    "order.confirmed" v 1 [] => OrderConfirmed(OrderState);
    /// An order was called off; what was done for it is undone.
    "order.cancelled" v 1 [] => OrderCancelled(OrderState);
    /// The kitchen refused an order.
    "order.rejected" v 1 [] => OrderRejected(OrderState);
    /// An order ended without success: payment or stock failed, or a deadline passed.
    "order.failed" v 1 [] => OrderFailed(OrderState);
    /// The courier has the order.
    "order.shipped" v 1 ["order.dispatched"] => OrderShipped(OrderState);
    /// The customer has the order.
    "order.delivered" v 1 [] => OrderDelivered(OrderState);
}
