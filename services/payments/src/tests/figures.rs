//! What the metrics say of intents whose outcome nobody knows.

use std::sync::Arc;
use std::time::Duration;

use kernel::clock::Clock;
use kernel::config::Live;
use kernel::secrets::{Pair, Secret};
use kernel::telemetry::Metrics;

use super::{Desk, order};
use crate::card_network::CardNetwork;
use crate::{figures, store};

#[tokio::test]
async fn open_intents_are_shown_by_what_is_known_of_them_and_with_the_age_of_the_oldest() {
    let key = Live::fixed(Pair::only(Secret::new(b"key")));
    let provider = Arc::new(CardNetwork::new("http://127.0.0.1:9", key, Duration::from_millis(50)).unwrap());
    let clock = Clock::manual("2026-01-01T12:00:00Z".parse().unwrap());
    let desk = Desk::open(provider, clock.clone()).await;
    let metrics = Metrics::new("payments");
    figures::show_open_intents(&metrics, &desk.state.store);
    let shows = async |state: &str, intents: u64, age: u64| {
        let (_, page) = metrics.page(None).await;
        for (name, value) in [("payments_unresolved", intents), ("payments_oldest_unresolved_seconds", age)] {
            let line = format!("{name}{{service=\"payments\",state=\"{state}\"}} {value}\n");
            assert!(page.contains(&line), "{line} in\n{page}");
        }
    };
    shows("asked", 0, 0).await;
    desk.create(&order("tok")).await;
    clock.advance(Duration::from_secs(30));
    desk.create(&order("tok")).await;
    clock.advance(Duration::from_secs(10));
    shows("asked", 2, 40).await;
    shows("unknown", 0, 0).await;
    desk.unit(|tx| async move { store::doubt_calls_under_way(&tx).await.map(drop) }).await;
    shows("unknown", 2, 40).await;
    shows("asked", 0, 0).await;
}
