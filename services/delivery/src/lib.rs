//! Deliveries: who brings an order, and how far it has come.
//!
//! Words: a *courier* takes *shifts*; during one they are *free* or *busy with* one order. A *delivery* is an order as
//! the courier sees it. An *assignment* is one courier's go at one delivery; who cannot do it *gives it back*. The food
//! is *ready* when the kitchen says so.
//!
//! States of a delivery: WAITING → ASSIGNED → `PICKED_UP` → DELIVERED; ASSIGNED → WAITING when given back; FAILED when
//! nobody is found or the food does not arrive in time; CANCELLED when the order ends first.
//!
//! Invariants:
//! - This service alone judges who drives; one guarded UPDATE of the delivery and one of the courier decide.
//! - A courier has at most one delivery under way, and a delivery at most one courier; a unique index says so too.
//! - A courier is busy exactly while their delivery is ASSIGNED or `PICKED_UP`; every way out of these frees them.
//! - Nothing is picked up before it is ready; a delivery that waits or is on its way has a deadline and a timer for it.
//! - A version counts steps that are published: assigned, picked up, completed, failed.
//! - Rows are taken in the order heard, delivery, courier; a free courier may be taken before the delivery that waits.

mod api;
mod assigning;
mod couriers;
mod delivery;
mod jobs;
mod nearest;
mod reactions;
mod steps;
mod store;

#[cfg(test)]
mod scenes;

use std::time::Duration;

use kernel::config::{ConfigError, Live};
use kernel::service::{Declared, Kit};
use kernel::store::Store;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the delivery service may be told.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Seconds in which a courier must be found, after which the delivery fails.
    pub assign_within_s: u64,
    /// Seconds from the restaurant to the door, after which the delivery fails.
    pub deliver_within_s: u64,
    /// Let couriers pick up by themselves this many milliseconds after the food is ready, and deliver as many after that;
    /// for demos and rehearsals.
    pub auto_drive_after_ms: Option<u64>,
    /// How many couriers of the demo city are always on shift.
    #[schemars(extend("x-restart" = true))]
    pub demo_couriers: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { assign_within_s: 3600, deliver_within_s: 7200, auto_drive_after_ms: None, demo_couriers: 0 }
    }
}

impl kernel::config::Settings for Settings {}

/// The running service.
pub(crate) struct Delivery {
    store: Store,
    settings: Live<Settings>,
}

impl Delivery {
    fn new(kit: Kit) -> Result<Self, ConfigError> {
        Ok(Self { settings: kit.live()?, store: kit.store })
    }
}

/// The declaration of the delivery service.
pub fn service() -> Declared {
    kernel::describe!(Delivery)
        .port(8089)
        .migrations(store::STEPS)
        .publishes(contracts::delivery::EVENTS)
        .routes(api::routes)
        .on(reactions::order_confirmed)
        .on(reactions::order_shipped)
        .on(reactions::order_delivered)
        .on(reactions::order_cancelled)
        .on(reactions::order_rejected)
        .on(reactions::order_failed)
        .on(reactions::kitchen_ready)
        .timer(steps::DEADLINE, jobs::deadline_passed)
        .timer(steps::DRIVE, jobs::drive)
        .woken(assigning::ASSIGN, Duration::from_secs(30), jobs::assign_waiting)
        .woken("demo-couriers", Duration::from_secs(24 * 3600), jobs::begin_demo_shifts)
        .refuses(delivery::Refusal::DOCS)
        .settings::<Settings>()
        .start_with(Delivery::new)
}
