//! What others may ask a running service: what it counted, and whether it can take work.

use axum::Router;
use axum::routing::get;
use http::header::CONTENT_TYPE;

use crate::events::{self, BusHealth, Flow};
use crate::health::Health;
use crate::store::Store;
use crate::telemetry::{BusMeasures, Metrics, metrics};

/// `/metrics`. How far the consumers lag is read when somebody asks, so that counting costs the bus nothing.
pub(super) fn metrics_page(name: &'static str, all: &Metrics, bus: &BusHealth) -> Router {
    let (lag, all, bus) = (BusMeasures::new(all), all.clone(), bus.clone());
    let page = move || {
        for (publisher, stands) in bus.publishers() {
            lag.set(name, publisher, stands.lag());
        }
        std::future::ready(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], all.render()))
    };
    Router::new().route("/metrics", get(page))
}

/// What the service needs to take work: its database, and publishers that do not turn it away.
pub(super) fn add_checks(health: &Health, store: &Store, bus: &BusHealth) {
    let own = store.clone();
    health.check_by_asking("database", move || {
        let own = own.clone();
        async move {
            let head = events::outbox_head(&own.read()).await.map_err(|error| error.to_string())?;
            Ok(format!("answers; {head} events published"))
        }
    });
    let (own, bus) = (store.clone(), bus.clone());
    health.check_by_asking("bus", move || {
        let (own, bus) = (own.clone(), bus.clone());
        async move { heard(&own, &bus).await }
    });
}

/// Only a refusal makes a consumer unready, because it ends by a hand alone. A publisher that is away comes back, and
/// parked events hold up their own aggregates, not the service.
async fn heard(store: &Store, bus: &BusHealth) -> Result<String, String> {
    let publishers = bus.publishers();
    let refused: Vec<String> = publishers
        .iter()
        .filter_map(|(publisher, stands)| match &stands.flow {
            Flow::Refused(why) => Some(format!("{publisher} refuses: {why}")),
            Flow::Waiting | Flow::Connected => None,
        })
        .collect();
    if !refused.is_empty() {
        return Err(refused.join("; "));
    }
    let stand = |flow: &Flow| if *flow == Flow::Connected { "connected" } else { "waiting" };
    let mut found: Vec<String> = publishers
        .iter()
        .map(|(publisher, stands)| format!("{publisher} {}, {} behind", stand(&stands.flow), stands.lag()))
        .collect();
    let parked = events::parked_count(&store.read()).await.unwrap_or_default();
    found.extend(parked.iter().map(|(publisher, count)| format!("{count} parked of {publisher}")));
    Ok(if found.is_empty() { "hears nobody".to_owned() } else { found.join("; ") })
}
