//! The client of a consumer group: it passes on what the group decides, and is closed without waiting for anybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::OwnedMessage;
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::mpsc;

use super::client::{self, Connection};
use crate::events::BusHealth;

/// What the group decided about this member's partitions.
pub(super) enum Change {
    Assigned(Vec<(String, i32)>),
    Revoked,
}

/// Hears from the client what the group decided. Who answers it is the member, once its lanes are ready.
pub(super) struct Listening {
    changes: mpsc::UnboundedSender<Change>,
    closing: Arc<AtomicBool>,
    health: BusHealth,
}

impl ClientContext for Listening {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::say(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "a consumer has trouble with its broker");
    }

    fn stats(&self, statistics: Statistics) {
        for (topic, told) in &statistics.topics {
            for (part, stands) in told.partitions.iter().filter(|(part, stands)| **part >= 0 && stands.hi_offset >= 0) {
                self.health.partition(topic, *part, |health, key| {
                    let known = health.partitions.entry(key).or_default();
                    known.end = known.end.max(stands.hi_offset);
                });
            }
        }
    }
}

impl ConsumerContext for Listening {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, told: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if self.closing.load(Ordering::SeqCst) {
            // The member is gone; without an answer its client would wait for ever.
            drop(consumer.unassign());
            return;
        }
        let change = match told {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                let all = list.elements();
                Change::Assigned(all.iter().map(|e| (e.topic().to_owned(), e.partition())).collect())
            }
            _ => Change::Revoked,
        };
        if self.changes.send(change).is_err() {
            drop(consumer.unassign());
        }
    }
}

/// The client, which must learn that it is closing before it closes.
pub(super) struct Membership {
    consumer: Option<Arc<StreamConsumer<Listening>>>,
    closing: Arc<AtomicBool>,
}

impl Membership {
    /// A client of this instance, and what its group will decide.
    pub(super) fn open(
        connection: &Connection,
        instance: &str,
        health: &BusHealth,
    ) -> Result<(Self, mpsc::UnboundedReceiver<Change>), String> {
        let (changes, changed) = mpsc::unbounded_channel();
        let closing = Arc::new(AtomicBool::new(false));
        let context = Listening { changes, closing: closing.clone(), health: health.clone() };
        let consumer = connection.make(connection.consumer(instance), context)?;
        Ok((Self { consumer: Some(Arc::new(consumer)), closing }, changed))
    }

    pub(super) fn consumer(&self) -> &StreamConsumer<Listening> {
        self.consumer.as_deref().expect("it is there until it is dropped")
    }

    /// The same for work that waits on another thread.
    pub(super) fn shared(&self) -> Arc<StreamConsumer<Listening>> {
        self.consumer.clone().expect("it is there until it is dropped")
    }

    /// The next record, or what the client has to say instead of one.
    pub(super) async fn next(&self) -> Result<OwnedMessage, KafkaError> {
        self.consumer().recv().await.map(|message| message.detach())
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        let consumer = self.consumer.take();
        // Closing waits for the broker; nobody else shall.
        std::thread::spawn(move || drop(consumer));
    }
}
