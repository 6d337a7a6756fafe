//! An order's life: which step may follow which, what news from elsewhere means for it, and what people may ask of it.

use contracts::orders::OrderStatus;
use contracts::orders::OrderStatus::{
    AwaitingAcceptance, Cancelled, Confirmed, Delivered, Expired, Failed, OutForDelivery, Pending, Preparing, Ready,
    Rejected,
};
use kernel::http::Fail;

/// What may follow directly. Steps of the kitchen and the courier may overtake each other, so later ones may skip earlier ones.
pub(crate) const fn may_become(from: OrderStatus) -> &'static [OrderStatus] {
    match from {
        Pending => &[AwaitingAcceptance, Failed, Rejected, Expired, Cancelled],
        AwaitingAcceptance => &[Confirmed, Failed, Rejected, Expired, Cancelled],
        Confirmed => &[Preparing, Ready, OutForDelivery, Delivered, Cancelled],
        Preparing => &[Ready, OutForDelivery, Delivered, Cancelled],
        Ready => &[OutForDelivery, Delivered, Cancelled],
        OutForDelivery => &[Delivered, Cancelled],
        Delivered | Failed | Rejected | Expired | Cancelled => &[],
    }
}

kernel::words! {
    /// Why an order ended as it did. The words are stable; callers branch on them.
    pub(crate) enum Reason {
        OutOfStock = "out_of_stock",
        PaymentFailed = "payment_failed",
        PaymentTimeout = "payment_timeout",
        StockTimeout = "stock_timeout",
        AcceptanceTimeout = "acceptance_timeout",
        CaptureTimeout = "capture_timeout",
        KitchenRejected = "kitchen_rejected",
        KitchenExpired = "kitchen_expired",
        DeliveryFailed = "delivery_failed",
        NotDeliveredInTime = "not_delivered_in_time",
        ByCustomer = "cancelled_by_customer",
        ByRestaurant = "cancelled_by_restaurant",
        BySupport = "cancelled_by_support",
    }
}

/// Something that happened elsewhere, as far as orders care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    PaymentAuthorized,
    /// For good; a failure that may still be mended is no news.
    PaymentFailed,
    PaymentCaptured,
    StockReserved,
    StockRejected,
    KitchenAccepted,
    KitchenRejected,
    KitchenExpired,
    CookingStarted,
    FoodReady,
    PickedUp,
    HandedOver,
    DeliveryFailed,
    /// The order's own deadline has passed.
    Overdue,
}

/// A yes that is remembered on the order beside its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Payment,
    Stock,
    Kitchen,
}

impl News {
    /// The yes that this news is, if it is one.
    pub(crate) const fn mark(self) -> Option<Mark> {
        match self {
            Self::PaymentAuthorized => Some(Mark::Payment),
            Self::StockReserved => Some(Mark::Stock),
            Self::KitchenAccepted => Some(Mark::Kitchen),
            _ => None,
        }
    }
}

/// What a decision about an order looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) status: OrderStatus,
    pub(crate) payment_ok: bool,
    pub(crate) stock_ok: bool,
    pub(crate) kitchen_ok: bool,
}

/// A decided step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) to: OrderStatus,
    pub(crate) reason: Option<Reason>,
}

const fn on(to: OrderStatus) -> Step {
    Step { to, reason: None }
}

const fn end(to: OrderStatus, reason: Reason) -> Step {
    Step { to, reason: Some(reason) }
}

/// What news means for an order that stands like this; its mark is already set. None where it comes too late or too early.
pub(crate) fn follow(order: Standing, news: News) -> Option<Step> {
    let step = match news {
        News::PaymentAuthorized | News::StockReserved if order.payment_ok && order.stock_ok => on(AwaitingAcceptance),
        News::PaymentAuthorized | News::StockReserved | News::KitchenAccepted => return None,
        News::PaymentFailed => end(Failed, Reason::PaymentFailed),
        News::PaymentCaptured => on(Confirmed),
        News::StockRejected => end(Failed, Reason::OutOfStock),
        News::KitchenRejected => end(Rejected, Reason::KitchenRejected),
        News::KitchenExpired => end(Expired, Reason::KitchenExpired),
        News::CookingStarted => on(Preparing),
        News::FoodReady => on(Ready),
        News::PickedUp => on(OutForDelivery),
        News::HandedOver => on(Delivered),
        News::DeliveryFailed if !is_paid(order.status) => return None,
        News::DeliveryFailed => end(Cancelled, Reason::DeliveryFailed),
        News::Overdue => overdue(order),
    };
    may_become(order.status).contains(&step.to).then_some(step)
}

const fn overdue(order: Standing) -> Step {
    match order.status {
        Pending if order.payment_ok => end(Expired, Reason::StockTimeout),
        Pending => end(Failed, Reason::PaymentTimeout),
        AwaitingAcceptance if order.kitchen_ok => end(Expired, Reason::CaptureTimeout),
        AwaitingAcceptance => end(Expired, Reason::AcceptanceTimeout),
        _ => end(Cancelled, Reason::NotDeliveredInTime),
    }
}

const fn is_paid(status: OrderStatus) -> bool {
    matches!(status, Confirmed | Preparing | Ready | OutForDelivery)
}

/// As what somebody deals with an order; the later ones may do more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Customer,
    Courier,
    Restaurant,
    Support,
}

impl Role {
    /// The word that stands in the history.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Courier => "courier",
            Self::Restaurant => "restaurant",
            Self::Support => "support",
        }
    }

    /// Whether this role ever asks for this status. Payment, stock and acceptance are judged elsewhere, so nobody asks for their results.
    const fn asks_for(self, to: OrderStatus) -> bool {
        match to {
            Cancelled => !matches!(self, Self::Courier),
            Preparing | Ready => matches!(self, Self::Restaurant | Self::Support),
            // A courier says so to delivery, which alone knows whether the order is still in their hands.
            OutForDelivery | Delivered => matches!(self, Self::Support),
            Pending | AwaitingAcceptance | Confirmed | Failed | Rejected | Expired => false,
        }
    }

    const fn cancels_as(self) -> Reason {
        match self {
            Self::Customer | Self::Courier => Reason::ByCustomer,
            Self::Restaurant => Reason::ByRestaurant,
            Self::Support => Reason::BySupport,
        }
    }
}

/// Whether people may take this step at all: one at a time, and nothing is called off that has been picked up.
const fn is_for_people(from: OrderStatus, to: OrderStatus) -> bool {
    matches!(
        (from, to),
        (Confirmed, Preparing)
            | (Confirmed | Preparing, Ready)
            | (Ready, OutForDelivery)
            | (OutForDelivery, Delivered)
            | (Pending | AwaitingAcceptance | Confirmed | Preparing | Ready, Cancelled)
    )
}

/// Decides a person's command.
///
/// # Errors
/// 403 for a step that is another role's, 409 `invalid_transition` for one that the order cannot take.
pub(crate) fn command(from: OrderStatus, role: Role, to: OrderStatus) -> Result<Step, Fail> {
    if !is_for_people(from, to) {
        return Err(invalid_transition(from, to));
    }
    if !role.asks_for(to) {
        return Err(Fail::forbidden());
    }
    // From the moment the money is taken, calling off is not the customer's alone to decide.
    if role == Role::Customer && is_paid(from) {
        return Err(invalid_transition(from, to));
    }
    let reason = (to == Cancelled).then(|| role.cancels_as());
    Ok(Step { to, reason })
}

fn invalid_transition(from: OrderStatus, to: OrderStatus) -> Fail {
    let may: Vec<&str> = may_become(from).iter().map(|status| status.word()).collect();
    OrderRefusal::InvalidTransition
        .problem()
        .with("current_status", from.word())
        .with("asked_for", to.word())
        .with("may_become", may)
        .into()
}

kernel::refusals! {
    /// What orders says no to.
    pub(crate) enum OrderRefusal {
        /// The order cannot take this step from where it stands; see current_status.
        InvalidTransition = 409 "invalid_transition",
        /// The total is not the one you were shown; show the customer total_minor and order again with a new key.
        PriceChanged = 409 "price_changed",
        /// This restaurant is not known here.
        RestaurantUnknown = 422 "restaurant_unknown",
        /// This restaurant has no menu to order from right now.
        MenuUnknown = 422 "menu_unknown",
        /// The restaurant takes no orders right now.
        RestaurantClosed = 409 "restaurant_closed",
        /// Something is not on the menu; see errors.
        ItemUnknown = 422 "item_unknown",
        /// Something is sold out; see errors.
        ItemSoldOut = 409 "item_sold_out",
        /// The choices do not fit what the menu offers; see errors.
        ChoicesInvalid = 422 "choices_invalid",
        /// The order is below the restaurant's minimum; see minimum_order_minor.
        BelowMinimum = 409 "below_minimum_order",
        /// There is nothing to pay for this order, and an order that nobody pays for is not taken.
        NothingToPay = 409 "nothing_to_pay",
        /// The amount is beyond what one order may cost.
        AmountTooLarge = 422 "amount_too_large",
        /// There is no such discount for this restaurant.
        DiscountUnknown = 422 "discount_unknown",
        /// The discount is not valid now.
        DiscountNotValidNow = 409 "discount_not_valid_now",
        /// The order is too small for the discount, or in another currency.
        DiscountNotEarned = 409 "discount_not_earned",
        /// You have used this discount as often as one may.
        DiscountUsedUp = 409 "discount_used_up",
        /// There is nothing in your cart.
        CartEmpty = 409 "cart_empty",
    }
}

#[cfg(test)]
mod tests;
