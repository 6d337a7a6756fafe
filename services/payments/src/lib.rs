//! Payments: the judge of money. One payment for each order, one row for each attempt to take it.
//!
//! Words: an *attempt* tries one card; a *hold* is money that the bank keeps for us; a *capture* takes what is held; a
//! *void* lets it go; a *refund* gives back what was taken; an *intent* is what we are about to ask of the provider,
//! written down with its key before the call; UNKNOWN is an intent whose outcome nobody has told us.
//!
//! Attempts: CREATED → AUTHORIZING → AUTHORIZED | `REQUIRES_ACTION` | DECLINED | UNKNOWN; AUTHORIZED → CAPTURING → CAPTURED,
//! → VOIDING → VOIDED, or → EXPIRED; UNKNOWN → only what its own operation can lead to. See `attempt`.
//!
//! What always holds:
//! - No call of the provider is made inside a unit of work, and none whose key was not committed before.
//! - A call without an answer is looked up by its order; it is sent again only under the same key, and never after the
//!   provider has forgotten that key.
//! - An order's money is captured at most once, refunded at most as far as it was captured, and never both voided and
//!   captured: all decisions about one order take its row in `orders_heard` first.
//! - A success that comes after the order's end is undone by itself.
//! - Every movement is one transfer between two accounts; transfers are never changed.
//! - A card is its provider's token, a brand and four digits; nothing else of it is ever here.

mod api;
pub mod attempt;
pub mod card_network;
mod figures;
mod guarded;
mod inquiry;
mod jobs;
pub mod ledger;
pub mod provider;
mod reactions;
pub mod reconcile;
pub mod refund;
mod refunding;
mod settings;
mod steps;
mod store;
#[cfg(test)]
mod tests;
mod views;
mod webhook;

use std::sync::Arc;
use std::time::Duration;

use kernel::clock::Clock;
use kernel::config::Live;
use kernel::resilience::Breaker;
use kernel::secrets::Pair;
use kernel::service::{Declared, Kit, StartError};
use kernel::store::Store;
use kernel::task::Tasks;
use kernel::telemetry::Metrics;
use kernel::telemetry::metrics::{Counter, Histogram};

use card_network::CardNetwork;
use guarded::Guarded;
use provider::Provider;
pub use settings::Settings;

/// Name of the secret that the provider knows us by.
pub const API_KEY_SECRET: &str = "card-network-api-key";
/// Name of the secret that the provider signs its messages with.
pub const WEBHOOK_SECRET: &str = "card-network-webhook-secret";

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The service.
pub fn service() -> Declared {
    kernel::describe!(Payments)
        .port(8087)
        .migrations(store::STEPS)
        .publishes(contracts::payments::EVENTS)
        .routes(api::routes)
        .on(reactions::order_created)
        .on(reactions::order_cancelled)
        .on(reactions::order_rejected)
        .on(reactions::order_failed)
        .on(reactions::kitchen_accepted)
        .woken(jobs::ASK, Duration::from_secs(30), jobs::ask_provider)
        .every(DAY, "forget-provider-events", jobs::forget_provider_events)
        .timer(steps::RETRY_WINDOW, jobs::retry_window_over)
        .timer(steps::LOOK_AGAIN, jobs::look_again)
        .timer(refunding::REFUND_AGAIN, jobs::refund_again)
        .refuses(refund::PaymentRefusal::DOCS)
        .refuses(refund::MessageRefusal::DOCS)
        .settings::<Settings>()
        .keep_answers_for(DAY * 30)
        .start_with(Payments::new)
}

/// The running service.
pub(crate) struct Payments {
    store: Store,
    clock: Clock,
    settings: Live<Settings>,
    provider: Arc<dyn Provider>,
    webhook_secret: Live<Pair>,
    tasks: Tasks,
    calls: jobs::Calls,
    requests: Counter,
    durations: Histogram,
}

impl Payments {
    fn new(kit: Kit) -> Result<Self, StartError> {
        let settings = kit.live::<Settings>()?;
        let now = settings.get();
        let secret = |error: std::io::Error| StartError(format!("payments: a secret of the provider: {error}"));
        let api_key = kit.secrets.live(API_KEY_SECRET).map_err(secret)?;
        let webhook_secret = kit.secrets.live(WEBHOOK_SECRET).map_err(secret)?;
        let network = CardNetwork::new(&now.provider_url, api_key, now.provider_timeout())
            .map_err(|error| StartError(format!("payments: {error}; set payments.provider_url")))?;
        Ok(Self::with(kit.store, &kit.metrics, settings, Arc::new(network), webhook_secret))
    }

    fn with(
        store: Store,
        metrics: &Metrics,
        settings: Live<Settings>,
        provider: Arc<dyn Provider>,
        webhook_secret: Live<Pair>,
    ) -> Self {
        let about = "Payments by what became of them";
        let requests = metrics.counter("payment_requests_total", about, ["status", "method"]);
        let about = "Time from asking the provider to its outcome being stored";
        let durations = metrics.histogram("payment_processing_duration_seconds", about, std::iter::empty::<&str>());
        let about = "1 for the state that a breaker is in";
        let state = metrics.gauge("circuit_breaker_state", about, ["name", "state"]);
        figures::show_open_intents(metrics, &store);
        let clock = store.clock().clone();
        let breaker = Breaker::new("paymentGateway", settings.get().breaker(), clock.clone());
        Self {
            store,
            clock,
            calls: jobs::Calls::new(settings.get().provider_calls),
            settings,
            provider: Arc::new(Guarded::new(provider, breaker, state)),
            webhook_secret,
            tasks: Tasks::new(),
            requests,
            durations,
        }
    }
}
