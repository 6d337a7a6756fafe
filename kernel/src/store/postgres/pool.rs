//! Connections: a bounded number of them, kept while they are idle, and given on only in a clean state.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::store::error::StoreError;

use super::connect::Target;
use super::lane::Lane;

/// How long a connection may take to come out of what it was doing before it is given up.
const SETTLE: Duration = Duration::from_secs(2);

pub(super) struct Pool {
    target: Target,
    most: u16,
    slots: Arc<Semaphore>,
    idle: Mutex<Vec<Arc<Lane>>>,
}

impl Pool {
    /// Up to `most` connections to one place.
    pub(super) fn new(target: Target, most: u16) -> Self {
        let slots = Arc::new(Semaphore::new(most.into()));
        Self { target, most, slots, idle: Mutex::default() }
    }

    /// The right to one connection; an error once the pool is closed.
    pub(super) async fn slot(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        self.slots.clone().acquire_owned().await.map_err(|_| StoreError::Ended)
    }

    /// A connection for the holder of a slot.
    pub(super) async fn lane(&self) -> Result<Arc<Lane>, StoreError> {
        while let Some(lane) = self.take_idle() {
            if self.is_good(&lane) {
                return Ok(lane);
            }
        }
        self.target.connect().await.map(Arc::new)
    }

    fn take_idle(&self) -> Option<Arc<Lane>> {
        self.idle.lock().pop()
    }

    /// Takes back a connection that is in no transaction.
    pub(super) fn put(&self, lane: Arc<Lane>) {
        if self.is_good(&lane) && !self.slots.is_closed() {
            self.idle.lock().push(lane);
        }
    }

    /// Whether a connection may be used again. One of a login that was replaced is let go.
    fn is_good(&self, lane: &Lane) -> bool {
        !lane.client.is_closed() && self.target.is_current(lane)
    }

    /// Ends whatever a connection is in, and takes it back if that worked.
    pub(super) async fn settle(&self, lane: Arc<Lane>, busy: bool) {
        let rolled_back = tokio::time::timeout(SETTLE, async {
            if busy && !lane.client.is_closed() {
                lane.cancel().await;
            }
            lane.client.batch_execute("ROLLBACK").await.is_ok()
        });
        if rolled_back.await == Ok(true) {
            self.put(lane);
        } else {
            lane.cut();
        }
    }

    /// Waits until every connection is back, then closes them; nobody gets one afterwards.
    pub(super) async fn close(&self) {
        if let Ok(every) = self.slots.acquire_many(self.most.into()).await {
            self.slots.close();
            drop(every);
        }
        self.idle.lock().clear();
    }
}

/// A connection that is reading. Dropped in the middle, it is settled in the background before anybody else gets it.
pub(super) struct Loan {
    pool: Arc<Pool>,
    lane: Option<Arc<Lane>>,
    slot: Option<OwnedSemaphorePermit>,
}

impl Loan {
    pub(super) async fn take(pool: &Arc<Pool>) -> Result<Self, StoreError> {
        let slot = pool.slot().await?;
        let lane = pool.lane().await?;
        Ok(Self { pool: pool.clone(), lane: Some(lane), slot: Some(slot) })
    }

    pub(super) fn lane(&self) -> &Lane {
        self.lane.as_ref().expect("only the two ends of a loan take it")
    }

    /// Cuts a connection that leads to the wrong place or nowhere.
    pub(super) fn cut(mut self) {
        if let Some(lane) = self.lane.take() {
            lane.cut();
        }
    }

    /// Gives back a connection that is known to be in no transaction.
    pub(super) fn give_back(mut self) {
        if let Some(lane) = self.lane.take() {
            self.pool.put(lane);
        }
    }
}

impl Drop for Loan {
    #[expect(
        clippy::disallowed_methods,
        reason = "ends by itself within seconds, and cuts the connection if it cannot"
    )]
    fn drop(&mut self) {
        let Some(lane) = self.lane.take() else { return };
        let (pool, slot) = (self.pool.clone(), self.slot.take());
        // Without a runtime the process is ending, and dropping the connection is all there is to do.
        if tokio::runtime::Handle::try_current().is_ok() {
            tokio::spawn(async move {
                pool.settle(lane, true).await;
                drop(slot);
            });
        }
    }
}
