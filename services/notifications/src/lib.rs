//! Notifications: telling people what happened to their orders, once, the way they prefer.
//!
//! Words: a *message* tells one person of one event over one *channel*; a *template* is its text before names and
//! figures are filled in; its *kind* is what it is about. *Preferences* say which channels and kinds a person wants; who
//! never said gets everything by e-mail. The *mailbox* is the built-in channel: what it has delivered can be read over
//! the API.
//!
//! States of a message: QUEUED → SENT | FAILED.
//!
//! Invariants:
//! - One message for each event and channel, whatever is delivered twice; preferences count as they are when the event is heard.
//! - A message is a row before anything is sent, and a channel gets it under its own identity, so that it may be sent again.
//! - A channel is never called inside a unit of work; it is tried a limited number of times, then the message has failed.
//! - A courier who is heard of before the order waits here until the order is known; nobody is asked for it.
//! - A message carries the trace of the event that it tells of.

mod api;
mod channel;
mod jobs;
mod message;
mod preferences;
mod reactions;
mod store;
mod telling;
mod templates;

#[cfg(test)]
mod scenes;

use std::sync::Arc;
use std::time::Duration;

use contracts::orders::{
    OrderCancelled, OrderConfirmed, OrderCreated, OrderDelivered, OrderFailed, OrderRejected, OrderShipped,
    OrderUpdated,
};
use kernel::config::{ConfigError, Live};
use kernel::service::{Declared, Kit};
use kernel::store::Store;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use channel::{Channel, Mailbox};

/// What the notifications service may be told.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How often a message is tried before it has failed.
    pub most_tries: u32,
    /// Milliseconds between the first try and the second; each later wait is twice as long, up to a minute.
    pub first_wait_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { most_tries: 8, first_wait_ms: 1_000 }
    }
}

impl kernel::config::Settings for Settings {}

/// The running service.
pub(crate) struct Notifications {
    store: Store,
    settings: Live<Settings>,
    channel: Arc<dyn Channel>,
}

impl Notifications {
    fn new(kit: Kit) -> Result<Self, ConfigError> {
        let channel = Arc::new(Mailbox::new(kit.store.clone()));
        Ok(Self { settings: kit.live()?, store: kit.store, channel })
    }
}

/// The declaration of the notifications service.
pub fn service() -> Declared {
    kernel::describe!(Notifications)
        .port(8090)
        .migrations(store::STEPS)
        .publishes(contracts::notifications::EVENTS)
        .routes(api::routes)
        .on(reactions::order_moved::<OrderCreated>)
        .on(reactions::order_moved::<OrderUpdated>)
        .on(reactions::order_moved::<OrderConfirmed>)
        .on(reactions::order_moved::<OrderCancelled>)
        .on(reactions::order_moved::<OrderRejected>)
        .on(reactions::order_moved::<OrderFailed>)
        .on(reactions::order_moved::<OrderShipped>)
        .on(reactions::order_moved::<OrderDelivered>)
        .on(reactions::payment_failed)
        .on(reactions::payment_refunded)
        .on(reactions::delivery_assigned)
        .woken(jobs::SEND, Duration::from_secs(30), jobs::send_queued)
        .timer(jobs::SEND_AGAIN, jobs::send_again)
        .settings::<Settings>()
        .start_with(Notifications::new)
}
