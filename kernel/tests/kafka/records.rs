//! Records as others see them, records that others forge, and reading again from a time.

use std::sync::Arc;
use std::time::Duration;

use kernel::events::kafka::{replay_since, tail};
use kernel::events::{Routing, parked};
use kernel::ids;
use kernel::testing::bus;
use parking_lot::Mutex;
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::{City, EVENTS, effects, emit, settings, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_of_the_topics_shows_what_was_published_in_both_profiles_and_with_transactions() {
    let Some(mut settings) = settings() else { return };
    settings.routing = Routing::Literal;
    settings.transactional_id_prefix = format!("{}tx-", settings.prefix);
    settings.relays = 2;
    let city = City::with(settings).await;
    let alpha = city.alpha().await;
    for version in 1..=30 {
        emit(&alpha.store, ids::fresh(), version, "").await;
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = seen.clone();
    let connection = city.connection("tail");
    let following = tail(&connection, "alpha", EVENTS, 10, move |event| note.lock().push(event.position));
    let all = until("all are on the topic", async || seen.lock().len() >= 20);
    tokio::select! {
        ended = following => panic!("{ended:?}"),
        () = all => {}
    }
    let mut positions = seen.lock().clone();
    positions.sort_unstable();
    assert_eq!(positions, (11..=30).collect::<Vec<i64>>());
    alpha.stop().await;
}

fn raw(city: &City) -> FutureProducer {
    ClientConfig::new().set("bootstrap.servers", &city.settings.brokers).create().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_record_is_left_out_and_a_broken_one_parked_while_others_flow() {
    let Some(settings) = settings() else { return };
    let city = City::with(settings).await;
    let (alpha, beta) = (city.alpha().await, city.beta().await);
    let topic = format!("{}alpha.events", city.settings.prefix);
    let key = ids::fresh();
    for source in ["mallory", "alpha"] {
        let headers = OwnedHeaders::new().insert(Header { key: "ce_source", value: Some(source) });
        let text = key.to_string();
        let record = FutureRecord::to(&topic).partition(0).key(&text).payload("{}").headers(headers);
        raw(&city).send(record, Duration::from_secs(10)).await.unwrap();
    }
    for version in 1..=16 {
        emit(&alpha.store, ids::fresh(), version, "").await;
    }
    until("the others flow", async || effects(&beta.store).await == 16).await;
    until("one is parked", async || !parked(&beta.store.read(), 10).await.unwrap().is_empty()).await;
    let waiting = parked(&beta.store.read(), 10).await.unwrap();
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].aggregate_id, key);
    assert!(waiting[0].reason.contains("no header ce_"), "{}", waiting[0].reason);
    alpha.stop().await;
    beta.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_from_a_time_takes_effect_again_from_its_position_only() {
    let Some(settings) = settings() else { return };
    let city = City::with(settings).await;
    let (alpha, beta) = (city.alpha().await, city.beta().await);
    let thing = ids::fresh();
    for version in 1..=10 {
        emit(&alpha.store, thing, version, "").await;
        city.clock.advance(Duration::from_secs(3600));
    }
    until("all came", async || effects(&beta.store).await == 10).await;
    let seventh = "2026-01-01T18:00:00Z".parse().unwrap();
    let connection = city.connection("beta");
    let replayed = replay_since(&beta.store, &beta.health, &connection, "alpha", (seventh, 7), true).await.unwrap();
    assert!(replayed);
    until("four took effect again", async || effects(&beta.store).await == 14).await;
    // From the time's offset, not from the beginning: the tail of the partition is read, and the lag is nil in the end.
    until("it is level", async || beta.health.publishers()["alpha"].lag() == 0).await;
    emit(&alpha.store, thing, 11, "").await;
    until("it goes on", async || effects(&beta.store).await == 15).await;
    assert_eq!(bus::received(&beta.store, "alpha").await.unwrap().len(), 11);
    alpha.stop().await;
    beta.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_relays_share_the_aggregates_and_the_second_takes_over_when_the_first_is_gone() {
    let Some(mut settings) = settings() else { return };
    settings.relays = 4;
    let city = City::with(settings).await;
    let (alpha, beta) = (city.alpha().await, city.beta().await);
    let all: Vec<_> = (0..16).map(|_| ids::fresh()).collect();
    for version in 1..=5 {
        for thing in &all {
            emit(&alpha.store, *thing, version, "").await;
        }
    }
    drop(alpha);
    let alpha = city.alpha().await;
    for thing in &all {
        emit(&alpha.store, *thing, 6, "").await;
    }
    until("all came", async || effects(&beta.store).await == 96).await;
    let applied = bus::applied(&beta.store, "alpha").await.unwrap();
    assert_eq!(bus::disorder(&applied), Vec::<String>::new());
    alpha.stop().await;
    beta.stop().await;
}
