//! The kitchen: what is in stock, what is set aside for whom, and which orders are accepted and cooked.
//!
//! Words: *stock* counts an item with a daily limit: what is *on hand*, and how much of it is *reserved*; an item without a
//! limit has no row or no daily stock. A *reservation* sets aside all that an order needs, or nothing. A *ticket* is an order
//! as the kitchen sees it.
//!
//! States of a reservation: RESERVED → RELEASED | CONSUMED; REJECTED; BARRED, where the order's end was heard first.
//! States of a ticket: OPEN → ACCEPTED → COOKING → READY → `HANDED_OVER`; OPEN → REJECTED | EXPIRED; WITHDRAWN from any before
//! it is handed over.
//!
//! Invariants:
//! - The kitchen alone judges whether an order is accepted, refused or was not answered in time; the ticket's status decides.
//! - 0 <= reserved <= on hand, always; what was set aside is put back or used up once, to the exact amount.
//! - Stock is used up when cooking starts, and cooking starts on `order.confirmed` only.
//! - A ticket is opened only over a live reservation, so an order that has ended never reaches the cooks.
//! - Rows are taken in the order ticket, reservation, stock by item id: two units never wait for each other.

mod api;
mod jobs;
mod needs;
mod reactions;
mod steps;
mod stock;
mod store;
mod ticket;

#[cfg(test)]
mod scenes;

use std::time::Duration;

use kernel::clock::Clock;
use kernel::config::{ConfigError, Live};
use kernel::service::{Declared, Kit};
use kernel::store::Store;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the kitchen service may be told.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How long a restaurant has to accept an order, in milliseconds.
    pub accept_within_ms: u64,
    /// Report food as ready by itself after this many milliseconds of cooking; for demos and rehearsals.
    pub auto_ready_after_ms: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { accept_within_ms: 300_000, auto_ready_after_ms: None }
    }
}

impl kernel::config::Settings for Settings {}

/// The running service.
pub(crate) struct Kitchen {
    store: Store,
    clock: Clock,
    settings: Live<Settings>,
}

impl Kitchen {
    fn new(kit: Kit) -> Result<Self, ConfigError> {
        Ok(Self { settings: kit.live()?, store: kit.store, clock: kit.clock })
    }
}

/// The declaration of the kitchen service.
pub fn service() -> Declared {
    kernel::describe!(Kitchen)
        .port(8088)
        .migrations(store::STEPS)
        .publishes(contracts::kitchen::inventory::EVENTS)
        .publishes(contracts::kitchen::ticket::EVENTS)
        .routes(api::routes)
        .keeps::<contracts::restaurants::RestaurantChanged>()
        .on(reactions::menu_changed)
        .on(reactions::order_created)
        .on(reactions::order_updated)
        .on(reactions::order_confirmed)
        .on(reactions::order_shipped)
        .on(reactions::order_delivered)
        .on(reactions::order_cancelled)
        .on(reactions::order_rejected)
        .on(reactions::order_failed)
        .timer(steps::ACCEPTANCE, jobs::acceptance_due)
        .timer(steps::READY, jobs::ready_due)
        .every(Duration::from_secs(600), "restock", jobs::restock)
        .refuses(ticket::Refusal::DOCS)
        .settings::<Settings>()
        .start_with(Kitchen::new)
}
