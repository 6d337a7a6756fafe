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
}

impl PublisherHealth {
    /// How many positions the consumer is behind, as far as it knows.
    pub fn lag(&self) -> i64 {
        (self.head - self.position).max(0)
    }
}

/// How a consumer stands with all its publishers. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct BusHealth(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
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

    /// Has every loop read its position anew: somebody has set one by hand.
    pub fn look_again(&self) {
        self.0.moves.send_modify(|moves| *moves += 1);
    }

    pub(crate) fn moved(&self) -> Moved {
        Moved(self.0.moves.subscribe())
    }

    fn with(&self, publisher: &'static str, change: impl FnOnce(&mut PublisherHealth)) {
        let mut all = self.0.publishers.lock();
        let fresh = || PublisherHealth { flow: Flow::Waiting, position: 0, head: 0, last_error: None };
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
            *h = PublisherHealth { flow: Flow::Connected, position, head: head.max(position), last_error: None };
        });
    }
}
