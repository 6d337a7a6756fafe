//! Hearing what changed: every process follows the events itself, because each has copies of its own.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Cache, MARKER};
use crate::events::{Backoff, Envelope, Event, FeedError, Link, outbox_head, outbox_identity};
use crate::http::Signer;
use crate::service::Kit;
use crate::store::Store;
use crate::task::Tasks;
use crate::{clock::Clock, registry::Directory, telemetry};

/// Between two tries to tell Redis what it did not hear.
const SETTLE: Duration = Duration::from_secs(1);

/// A cache whose kind of thing is not known.
trait Heard: Send + Sync {
    fn changed<'a>(&'a self, epoch: &'a Uuid, id: Uuid, version: i64) -> BoxFuture<'a, ()>;
    /// The events of this outbox have been heard to its end; or none are heard, and copies do not count.
    fn hears(&self, epoch: Option<Uuid>);
    /// Tells Redis what it has not heard; then, that everything up to this position has been told.
    fn settle<'a>(&'a self, epoch: &'a Uuid, upto: i64) -> BoxFuture<'a, bool>;
    fn position<'a>(&'a self, epoch: &'a Uuid) -> BoxFuture<'a, Option<i64>>;
}

impl<V: Serialize + DeserializeOwned + Send + Sync + 'static> Heard for Cache<V> {
    fn changed<'a>(&'a self, epoch: &'a Uuid, id: Uuid, version: i64) -> BoxFuture<'a, ()> {
        self.0.tiers.drops.inc();
        self.0.memory.put(id, version, None);
        Box::pin(async move {
            if let Some(copies) = &self.0.copies {
                copies.put::<()>(epoch, id, version, None, MARKER).await;
            }
        })
    }

    fn hears(&self, epoch: Option<Uuid>) {
        let known = self.0.heard.load().as_ref().map(|known| **known);
        if known == epoch {
            return;
        }
        // Another outbox counts its versions anew, and it may be another one that a broken feed comes back to.
        let before = epoch.and_then(|epoch| self.0.last.lock().replace(epoch));
        if before.is_some() && before != epoch {
            self.0.memory.clear();
        }
        self.0.heard.store(epoch.map(Arc::new));
    }

    fn settle<'a>(&'a self, epoch: &'a Uuid, upto: i64) -> BoxFuture<'a, bool> {
        Box::pin(async move {
            let Some(copies) = &self.0.copies else { return true };
            let settled = copies.settle(epoch).await;
            if settled {
                copies.note(epoch, upto, self.0.keep.life).await;
            }
            settled
        })
    }

    fn position<'a>(&'a self, epoch: &'a Uuid) -> BoxFuture<'a, Option<i64>> {
        Box::pin(async move { self.0.copies.as_ref()?.position(epoch).await })
    }
}

/// Which events drop which copies.
pub struct Changes {
    store: Store,
    link: Link,
    publisher: &'static str,
    drops: Vec<(&'static str, Arc<dyn Heard>)>,
}

impl Changes {
    /// Follows the service's own outbox: what one instance changed, all others hear.
    pub fn of_own(kit: &Kit) -> Self {
        Self::of(kit.service, kit.store.clone(), kit.directory.clone(), kit.signer.clone(), kit.clock.clone())
    }

    pub(crate) fn of(service: &'static str, store: Store, directory: Directory, signer: Signer, clock: Clock) -> Self {
        let authorize = Arc::new(move |publisher: &str| signer.sign(service, publisher, None, clock.now()));
        let link = Link { consumer: service, directory, authorize };
        Self { store, link, publisher: service, drops: Vec::new() }
    }

    /// Copies in this cache are dropped by this event, whose subject and version are those of the copy.
    ///
    /// # Panics
    /// If the event is another service's: its versions would not be those that this service loads.
    pub fn drop<E: Event, V>(mut self, cache: &Cache<V>) -> Self
    where
        V: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        assert_eq!(E::DEF.publisher, self.publisher, "a cache is dropped by the events of its own service");
        self.drops.push((E::DEF.name, Arc::new(cache.clone())));
        self
    }

    /// Listens for as long as the service runs.
    pub fn listen(self, tasks: &Tasks) {
        let (name, stop) = (self.publisher, tasks.stopping());
        tasks.spawn("cache", telemetry::in_service(name, self.run(stop)));
    }

    async fn run(self, stop: CancellationToken) {
        let mut at = None;
        let mut waits = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        loop {
            let ended = tokio::select! {
                Err(ended) = self.hear(&mut at, &mut waits) => ended,
                () = stop.cancelled() => return,
            };
            self.each(|cache| cache.hears(None));
            if let FeedError::Refused(why) = &ended {
                tracing::warn!(publisher = self.publisher, %why, "refused; looking for the end of the outbox anew");
                at = None;
            }
            tokio::select! {
                () = tokio::time::sleep(waits.wait()) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    fn each(&self, what: impl Fn(&dyn Heard)) {
        self.drops.iter().for_each(|(_, cache)| what(&**cache));
    }

    async fn hear(&self, at: &mut Option<(Uuid, i64)>, waits: &mut Backoff) -> Result<(), FeedError> {
        let (epoch, after) = match *at {
            Some(place) => place,
            None => self.start().await?,
        };
        let types = self.drops.iter().map(|(name, _)| (*name).to_owned()).collect();
        let mut feed = self.link.open(self.publisher, epoch, after, types).await?;
        let mut settled = false;
        loop {
            let stretch = tokio::select! {
                stretch = feed.next() => stretch?,
                () = tokio::time::sleep(SETTLE), if !settled => {
                    settled = self.settle(*at).await;
                    continue;
                }
            };
            waits.reset();
            for event in &stretch.events {
                self.take(&stretch.epoch, event).await;
            }
            *at = Some((stretch.epoch, stretch.upto));
            settled = self.settle(*at).await;
            if stretch.upto >= stretch.head {
                self.each(|cache| cache.hears(Some(stretch.epoch)));
            }
        }
    }

    async fn take(&self, epoch: &Uuid, event: &Envelope) {
        for (_, cache) in self.drops.iter().filter(|(name, _)| *name == event.kind) {
            cache.changed(epoch, event.subject, event.version).await;
        }
    }

    async fn settle(&self, at: Option<(Uuid, i64)>) -> bool {
        let Some((epoch, upto)) = at else { return false };
        let mut settled = true;
        for (_, cache) in &self.drops {
            settled &= cache.settle(&epoch, upto).await;
        }
        settled
    }

    /// Where to begin: where the copies in Redis were last told of changes, or at the end if there are none.
    async fn start(&self) -> Result<(Uuid, i64), FeedError> {
        let broken = |error: crate::store::StoreError| FeedError::Broken(error.to_string());
        let head = outbox_head(&self.store.read()).await.map_err(broken)?;
        let known = outbox_identity(&self.store).await.map_err(broken)?;
        let mut after = head;
        for (_, cache) in &self.drops {
            let told = cache.position(&known.epoch).await.unwrap_or(head);
            // What was purged meanwhile is older than any copy lives.
            after = after.min(told.max(known.purged_upto));
        }
        Ok((known.epoch, after))
    }
}
