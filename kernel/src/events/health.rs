//! How a consumer stands with each publisher: for readiness, for metrics, for people.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

/// What the loop of one publisher is doing.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "is", content = "why")]
pub enum Flow {
    /// Looking for the publisher.
    Waiting,
    /// Following its outbox.
    Connected,
    /// The publisher refuses until somebody decides, for instance because its database was made anew.
    Refused(String),
}

/// How a consumer stands with one publisher.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct PublisherHealth {
    /// What its loop is doing.
    pub flow: Flow,
    /// The last position that is handled.
    pub position: i64,
    /// The publisher's last known position.
    pub head: i64,
    /// The last thing that went wrong, while it has not been made good.
    pub last_error: Option<String>,
    /// On Kafka: how it stands in each partition that this instance reads. Empty on the stream.
    pub partitions: BTreeMap<(String, i32), PartitionHealth>,
}

/// How a consumer stands in one partition of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct PartitionHealth {
    /// The first offset that has not been handled.
    pub next: i64,
    /// The end of the partition, as last told by a broker.
    pub end: i64,
}

impl PartitionHealth {
    /// How many offsets the consumer is behind.
    pub fn lag(self) -> i64 {
        (self.end - self.next).max(0)
    }
}

impl PublisherHealth {
    /// How many positions the consumer is behind, or offsets on Kafka, as far as it knows.
    pub fn lag(&self) -> i64 {
        if self.partitions.is_empty() {
            return (self.head - self.position).max(0);
        }
        self.partitions.values().map(|p| p.lag()).sum()
    }
}

/// How a consumer stands with all its publishers. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct BusHealth(Arc<Shared>);

/// How a relay of this service stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct RelayHealth {
    /// Up to which position everything of its share is on Kafka.
    pub upto: i64,
    /// How many producers it has had: each begins at the first event that was not acknowledged.
    pub producers: u64,
    /// The last thing that went wrong, while it has not been made good.
    pub last_error: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    relays: Mutex<BTreeMap<u32, RelayHealth>>,
    publishers: Mutex<BTreeMap<&'static str, PublisherHealth>>,
    /// Counts how often positions were set by hand.
    moves: watch::Sender<u64>,
}

/// Waits for a position being set by hand.
pub(crate) struct Moved(watch::Receiver<u64>);

impl Moved {
    pub(crate) async fn wait(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl BusHealth {
    /// Every publisher by name. How many events are parked is in the database: see [`parked_count`](super::parked_count).
    pub fn publishers(&self) -> BTreeMap<&'static str, PublisherHealth> {
        self.0.publishers.lock().clone()
    }

    /// The relays of this instance by number; none where no Kafka is set.
    pub fn relays(&self) -> BTreeMap<u32, RelayHealth> {
        self.0.relays.lock().clone()
    }

    #[cfg(feature = "kafka")]
    pub(crate) fn relayed(&self, relay: u32, change: impl FnOnce(&mut RelayHealth)) {
        change(self.0.relays.lock().entry(relay).or_default());
    }

    /// Has every loop read its position anew: somebody has set one by hand.
    pub fn look_again(&self) {
        self.0.moves.send_modify(|moves| *moves += 1);
    }

    pub(crate) fn moved(&self) -> Moved {
        Moved(self.0.moves.subscribe())
    }

    fn with(&self, publisher: &'static str, change: impl FnOnce(&mut PublisherHealth)) {
        let mut all = self.0.publishers.lock();
        let fresh = || PublisherHealth {
            flow: Flow::Waiting,
            position: 0,
            head: 0,
            last_error: None,
            partitions: BTreeMap::new(),
        };
        change(all.entry(publisher).or_insert_with(fresh));
    }

    pub(crate) fn waiting(&self, publisher: &'static str, why: Option<String>) {
        self.with(publisher, |h| {
            h.flow = Flow::Waiting;
            h.last_error = why;
        });
    }

    pub(crate) fn refused(&self, publisher: &'static str, why: String) {
        self.with(publisher, |h| {
            h.flow = Flow::Refused(why.clone());
            h.last_error = Some(why);
        });
    }

    pub(crate) fn at(&self, publisher: &'static str, position: i64, head: i64) {
        self.with(publisher, |h| {
            let partitions = BTreeMap::new();
            *h = PublisherHealth {
                flow: Flow::Connected,
                position,
                head: head.max(position),
                last_error: None,
                partitions,
            };
        });
    }

    /// The partitions of a publisher that this instance reads from now on.
    #[cfg(feature = "kafka")]
    pub(crate) fn reads(&self, publisher: &'static str, partitions: BTreeMap<(String, i32), PartitionHealth>) {
        self.with(publisher, |h| {
            h.flow = Flow::Connected;
            h.last_error = None;
            h.partitions = partitions;
        });
    }

    /// Something became known of a partition; what is not read here is not told of.
    #[cfg(feature = "kafka")]
    pub(crate) fn partition(&self, topic: &str, part: i32, change: impl FnOnce(&mut PublisherHealth, (String, i32))) {
        let key = (topic.to_owned(), part);
        let mut all = self.0.publishers.lock();
        if let Some(health) = all.values_mut().find(|h| h.partitions.contains_key(&key)) {
            change(health, key);
        }
    }
}
