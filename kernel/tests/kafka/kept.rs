//! How long topics keep events: from when they came to Kafka, however old they are.

use std::time::Duration;

use kernel::ids;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::{City, effects, emit, settings, until};

const PATIENCE: Duration = Duration::from_secs(10);

/// A topic that keeps nothing, to see that the broker has looked for what is too old.
struct Fleeting {
    topic: String,
    config: ClientConfig,
}

impl Fleeting {
    async fn make(city: &City) -> Self {
        let topic = format!("{}fleeting", city.settings.prefix);
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &city.settings.brokers);
        let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1)).set("retention.ms", "1");
        let made = Self { topic: topic.clone(), config };
        made.admin().create_topics(&[new], &AdminOptions::new()).await.unwrap();
        made
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config.create().unwrap()
    }

    async fn remove(self) {
        self.admin().delete_topics(&[&self.topic], &AdminOptions::new()).await.unwrap();
    }

    /// Waits until everything that stood on any topic before this call has been looked at.
    async fn see_a_round(&self) {
        let producer: FutureProducer = self.config.create().unwrap();
        let reader: BaseConsumer = self.config.create().unwrap();
        // The round that takes the first may have begun before it was sent; the second's did not.
        for _ in 0..2 {
            let old = FutureRecord::<(), _>::to(&self.topic).payload("old").timestamp(1);
            let sent = producer.send(old, PATIENCE).await.unwrap();
            until(
                "the broker drops what is too old (log.retention.check.interval.ms of `engines up` is a second)",
                async || {
                    let (first, _) = reader.fetch_watermarks(&self.topic, 0, PATIENCE).unwrap();
                    first > sent.offset
                },
            )
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_are_older_than_topics_keep_are_there_for_whoever_comes_late() {
    let Some(settings) = settings() else { return };
    let city = City::with(settings).await;
    // The clock of the city stands many times further back than a topic keeps.
    let week = Duration::from_millis(city.settings.retention_ms.unsigned_abs());
    let today = kernel::clock::Clock::system().now();
    assert!(city.clock.now() < today.minus(week * 2), "the events would be young");
    let alpha = city.alpha().await;
    for version in 1..=10 {
        emit(&alpha.store, ids::fresh(), version, "").await;
    }
    until("all are sent", async || alpha.health.relays().get(&0).is_some_and(|relay| relay.upto == 10)).await;
    let fleeting = Fleeting::make(&city).await;
    fleeting.see_a_round().await;
    let beta = city.beta().await;
    until("all came", async || effects(&beta.store).await == 10).await;
    fleeting.remove().await;
    alpha.stop().await;
    beta.stop().await;
}
