//! Orders: a customer fills a *cart* from one restaurant's menu; placing it makes an *order*, priced here from our own copy of
//! the menu, with names, prices, address and card copied by value.
//!
//! An order is PENDING until payment and stock have both said yes, `AWAITING_ACCEPTANCE` until the kitchen has accepted and the
//! money was taken, then CONFIRMED, PREPARING, READY, `OUT_FOR_DELIVERY` and DELIVERED. It may end as FAILED, REJECTED, EXPIRED or
//! CANCELLED instead.
//!
//! What holds at every commit:
//! - this service alone judges an order's status, by one guarded UPDATE a step; `order::may_become` is the whole table;
//! - each version of an order has exactly one history row and exactly one event, from the same transaction;
//! - an order that has not ended has a deadline on its row and a timer for it; a sweeper ends it should the timer be lost;
//! - nobody is asked at request time: with every other service down, orders are still taken;
//! - subtotal − discount + delivery fee = total, and the tax is contained in it.
//!
//! Money, stock, acceptance and delivery are judged elsewhere. An order that ends says so; whoever did something for it undoes it.

mod api;
mod cart;
mod discount;
mod jobs;
mod order;
mod pricing;
mod progress;
mod reactions;
mod store;

use std::time::Duration;

use contracts::restaurants::{MenuChanged, RestaurantChanged};
use kernel::config::{ConfigError, Live};
use kernel::service::{Declared, Kit};
use kernel::store::Store;
use kernel::telemetry::metrics::Counter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What may be set for orders.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Seconds in which payment and stock must answer. It must be longer than the time in which payments lets people try another card.
    #[schemars(extend("x-longer-than" = "payments.retry_window_s"))]
    pub pay_within_s: u64,
    /// Seconds in which the kitchen must answer. It must be longer than the kitchen's own deadline, which it only backs up.
    #[schemars(extend("x-longer-than" = "kitchen.accept_within_ms"))]
    pub accept_within_s: u64,
    /// Seconds in which the money must be taken once the kitchen has accepted.
    pub capture_within_s: u64,
    /// Seconds from confirmation to the door, after which the order is called off and paid back.
    pub deliver_within_s: u64,
    /// Seconds that the sweeper waits beyond a deadline before it does the timer's work.
    pub sweep_after_s: u64,
    /// Minutes that the courier usually needs; for the expected time of delivery only.
    pub usual_ride_minutes: u64,
    /// Days after which an untouched cart is thrown away.
    pub keep_carts_days: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            pay_within_s: 180,
            accept_within_s: 600,
            capture_within_s: 600,
            deliver_within_s: 3 * 3600,
            sweep_after_s: 30,
            usual_ride_minutes: 20,
            keep_carts_days: 30,
        }
    }
}

impl kernel::config::Settings for Settings {}

/// The running service's state.
pub(crate) struct Orders {
    pub(crate) store: Store,
    pub(crate) settings: Live<Settings>,
    pub(crate) created: Counter,
}

impl Orders {
    fn new(kit: Kit) -> Result<Self, ConfigError> {
        let settings = kit.live()?;
        let created = kit.metrics.counter("order_created_total", "Orders placed", ["restaurant_id"]);
        Ok(Self { store: kit.store, settings, created })
    }
}

/// The declaration.
pub fn service() -> Declared {
    kernel::describe!(Orders)
        .port(8086)
        .migrations(store::STEPS)
        .publishes(contracts::orders::EVENTS)
        .routes(api::routes)
        .keeps::<RestaurantChanged>()
        .keeps::<MenuChanged>()
        .on(reactions::payment_authorized)
        .on(reactions::payment_failed)
        .on(reactions::payment_succeeded)
        .on(reactions::inventory_reserved)
        .on(reactions::inventory_rejected)
        .on(reactions::kitchen_accepted)
        .on(reactions::kitchen_rejected)
        .on(reactions::kitchen_expired)
        .on(reactions::kitchen_started)
        .on(reactions::kitchen_ready)
        .on(reactions::delivery_assigned)
        .on(reactions::delivery_picked_up)
        .on(reactions::delivery_completed)
        .on(reactions::delivery_failed)
        .timer(progress::PAYMENT, jobs::deadline_passed)
        .timer(progress::ACCEPTANCE, jobs::deadline_passed)
        .timer(progress::FULFILMENT, jobs::deadline_passed)
        .every(Duration::from_secs(15), "sweep-overdue", jobs::sweep_overdue)
        .every(Duration::from_secs(3600), "drop-old-carts", jobs::drop_old_carts)
        .refuses(order::OrderRefusal::DOCS)
        .settings::<Settings>()
        .start_with(Orders::new)
}
