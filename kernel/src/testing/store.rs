//! Doors into the store for its own tests: the relay, run as a whole or step by step.

use tokio_util::sync::CancellationToken;

use crate::events::relay;
use crate::store::Store;

/// Runs the relay of a service until `shutdown`.
pub async fn run_relay(store: Store, owner: &str, shutdown: CancellationToken) {
    relay::run(store, owner.to_owned(), shutdown).await;
}

/// A relay that goes on only when told to, as one does whose process is stopped in between.
pub struct PausedRelay(relay::Lead);

impl PausedRelay {
    /// A relay that has just taken the lead; none if somebody else has it.
    pub async fn take(store: &Store, owner: &str) -> Option<Self> {
        relay::Lead::take(store, owner).await.expect("the database answers").map(Self)
    }

    /// Does one step: how many events it published, or nothing if it has lost the lead.
    pub async fn publish(&self, store: &Store) -> Option<i64> {
        self.0.publish(store).await.expect("the database answers").map(|moved| moved.moved)
    }
}
