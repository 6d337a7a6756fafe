//! Copies of what a database keeps, in three tiers: this process, Redis, the database. Dropped by events.
//!
//! Every copy has the version that its owner's events carry. An event puts a marker of its version in both tiers, and
//! neither tier ever takes a version below its marker: a slow reader who loaded the old state cannot bring it back.
//! Copies count only while the feed of events is connected and has been read to its end; without it every reader asks
//! the database. What no event told of is read again after a while all the same.

mod feed;
mod memory;
mod shared;
mod tiers;

#[cfg(test)]
#[cfg(feature = "redis")]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::redis::Redis;
use crate::telemetry::Metrics;
use memory::Memory;
use shared::Copies;
use tiers::Tiers;

pub use feed::Changes;

/// How long a marker stays: longer than any reader may take to load.
const MARKER: Duration = Duration::from_secs(60);

/// How much is kept, and how long at most.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// Things in this process.
    pub entries: u64,
    /// Time after which a copy is read again even if nobody said that it changed; each copy's own is up to a tenth off.
    pub life: Duration,
}

/// A thing and its version, as an owner loads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded<V> {
    /// The thing.
    pub value: V,
    /// Its version, the one its events carry.
    pub version: i64,
}

/// Copies of one kind of thing by its id. Clones are the same cache.
pub struct Cache<V>(Arc<Whole<V>>);

impl<V> Clone for Cache<V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Whole<V> {
    keep: Keep,
    memory: Memory<V>,
    copies: Option<Copies>,
    tiers: Tiers,
    /// The outbox whose events are heard; none while they are not, and copies do not count.
    heard: ArcSwapOption<Uuid>,
    /// The outbox that was heard last, whose versions are those in memory.
    last: Mutex<Option<Uuid>>,
    flights: Mutex<HashMap<Uuid, Arc<tokio::sync::Mutex<()>>>>,
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Cache<V> {
    /// An empty cache; copies count once its [`Changes`] are heard.
    pub fn new(name: &'static str, keep: Keep, redis: Option<&Redis>, metrics: &Metrics) -> Self {
        Self(Arc::new(Whole {
            keep,
            memory: Memory::new(keep),
            copies: redis.map(|redis| Copies::new(name, redis)),
            tiers: Tiers::new(name, metrics),
            heard: ArcSwapOption::empty(),
            last: Mutex::default(),
            flights: Mutex::default(),
        }))
    }

    /// The thing with this id: from the nearest tier that has it, or else from `load`, whose result is kept. Of many who
    /// ask for the same thing at once, one loads.
    ///
    /// # Errors
    /// Those of `load`.
    pub async fn get<E, Fut>(&self, id: Uuid, load: impl FnOnce() -> Fut) -> Result<Option<Arc<V>>, E>
    where
        Fut: Future<Output = Result<Option<Loaded<V>>, E>>,
    {
        let whole = &*self.0;
        let begun = Instant::now();
        let Some(epoch) = whole.heard.load_full() else {
            let loaded = load().await?;
            whole.tiers.source.count(begun);
            return Ok(loaded.map(|loaded| Arc::new(loaded.value)));
        };
        if let Some(value) = whole.memory.get(&id) {
            whole.tiers.memory.count(begun);
            return Ok(Some(value));
        }
        let flight = Flight::of(&whole.flights, id);
        let _turn = flight.turn.lock().await;
        if let Some(value) = whole.memory.get(&id) {
            whole.tiers.memory.count(begun);
            return Ok(Some(value));
        }
        if let Some(value) = whole.copy(&epoch, id).await {
            whole.tiers.redis.count(begun);
            return Ok(Some(value));
        }
        let loaded = load().await?;
        whole.tiers.source.count(begun);
        let Some(Loaded { value, version }) = loaded else { return Ok(None) };
        let value = Arc::new(value);
        whole.memory.put(id, version, Some(value.clone()));
        if let Some(copies) = &whole.copies {
            copies.put(&epoch, id, version, Some(&*value), whole.keep.life).await;
        }
        Ok(Some(value))
    }

    /// A unit that runs now makes this version. From here on this process gives no older copy, so that whoever changed a
    /// thing sees the change; if the unit fails, that costs a few reads.
    pub fn expect(&self, id: Uuid, version: i64) {
        self.0.memory.put(id, version, None);
    }

    /// Whether copies count at the moment.
    pub fn is_trusted(&self) -> bool {
        self.0.heard.load().is_some()
    }
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Whole<V> {
    async fn copy(&self, epoch: &Uuid, id: Uuid) -> Option<Arc<V>> {
        let (version, value): (_, V) = self.copies.as_ref()?.get(epoch, id).await?;
        let value = Arc::new(value);
        // What is marked as old here may still lie there.
        self.memory.put(id, version, Some(value.clone())).then_some(value)
    }
}

/// A load under way, shared by all who want the same thing.
struct Flight<'a> {
    flights: &'a Mutex<HashMap<Uuid, Arc<tokio::sync::Mutex<()>>>>,
    id: Uuid,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl<'a> Flight<'a> {
    fn of(flights: &'a Mutex<HashMap<Uuid, Arc<tokio::sync::Mutex<()>>>>, id: Uuid) -> Self {
        let turn = flights.lock().entry(id).or_default().clone();
        Self { flights, id, turn }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut flights = self.flights.lock();
        // The list's and ours: nobody else waits.
        if flights.get(&self.id).is_some_and(|turn| Arc::strong_count(turn) <= 2) {
            flights.remove(&self.id);
        }
    }
}
