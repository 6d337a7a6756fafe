//! Topics are made once, and what differs is named; addresses, partitions and sizes that are wrong are told.

use kernel::events::kafka::ensure_topics;
use kernel::events::{Flow, KafkaSettings, Routing};
use kernel::ids;

use crate::{City, EVENTS, effects, emit, settings, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_made_once_and_each_difference_is_named() {
    let Some(mut settings) = settings() else { return };
    settings.routing = Routing::Literal;
    let mut city = City::with(settings).await;
    let topics = [format!("{}alpha.events", city.settings.prefix), format!("{}thing.changed", city.settings.prefix)];
    let again = ensure_topics(&city.connection("admin"), EVENTS).await.unwrap();
    assert_eq!((again.made.len(), again.differ.len()), (0, 0));
    assert_eq!(again.kept, topics);
    city.settings.partitions = 8;
    city.settings.retention_ms = 1000;
    let found = ensure_topics(&city.connection("admin"), EVENTS).await.unwrap();
    assert!(found.made.is_empty() && found.kept.is_empty(), "{found:?}");
    let told = found.differ.join("\n");
    for topic in topics {
        for what in
            [": it has 4 partitions, kafka.partitions says 8", ": its retention.ms is 604800000, the settings say 1000"]
        {
            assert!(told.contains(&format!("{topic}{what}")), "{told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_address_is_told_with_the_setting() {
    let Some(settings) = settings() else { return };
    let city = City::with(settings).await;
    let nobody = KafkaSettings { brokers: "127.0.0.1:1".into(), ..city.settings.clone() };
    let secrets = kernel::secrets::Secrets::open(city.folder.path()).unwrap();
    let connection = kernel::events::kafka::Connection::new(&nobody, "admin", &secrets).unwrap();
    let told = ensure_topics(&connection, EVENTS).await.unwrap_err();
    assert!(told.starts_with("kafka.brokers = 127.0.0.1:1: "), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_with_other_partitions_is_refused_by_relay_and_consumer_and_nothing_is_lost() {
    let Some(settings) = settings() else { return };
    let mut city = City::with(settings).await;
    city.settings.partitions = 8;
    let (alpha, beta) = (city.alpha().await, city.beta().await);
    emit(&alpha.store, ids::fresh(), 1, "").await;
    let wrong = |why: Option<String>| why.is_some_and(|why| why.contains("has 4 partitions, kafka.partitions says 8"));
    until("the relay says so", async || alpha.health.relays().get(&0).is_some_and(|r| wrong(r.last_error.clone())))
        .await;
    until("the consumer says so", async || {
        beta.health.publishers().get("alpha").is_some_and(|h| wrong(h.last_error.clone()))
    })
    .await;
    assert_ne!(beta.health.publishers()["alpha"].flow, Flow::Connected);
    alpha.stop().await;
    beta.stop().await;
    city.settings.partitions = 4;
    let (alpha, beta) = (city.alpha().await, city.beta().await);
    until("it came after all", async || effects(&beta.store).await == 1).await;
    alpha.stop().await;
    beta.stop().await;
}
