//! A projection made anew from the publisher's log, beside the old one, which it then replaces in one unit.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::feed::{FeedError, Link};
use super::parking::plain;
use super::projection::GONE;
use super::{Envelope, Reaction, inbox, offsets};
use crate::store::{Store, StoreError, Tx, any};
use crate::{ids, params, sql};

/// What a rebuild that was killed leaves behind is removed after this long.
const LEFTOVERS: Duration = Duration::from_secs(24 * 3600);

/// Makes every copy of `publisher`'s things anew and swaps it in; returns how many events were read.
///
/// The consumer goes on meanwhile. The result has exactly the rows that the log, read from its beginning, gives.
pub(crate) async fn rebuild(
    link: &Link,
    store: &Store,
    reactions: &[Reaction],
    publisher: &str,
) -> Result<usize, FeedError> {
    let own = |e: StoreError| FeedError::Broken(format!("own database: {e}"));
    let shadow = Arc::new(Shadow::new(store, reactions, publisher)?);
    shadow.sweep().await.map_err(own)?;
    let epoch = inbox::place(&store.read(), publisher).await.map_err(own)?.epoch;
    let types = shadow.keeps.iter().map(|r| r.def.name.to_owned()).collect();
    let mut feed = link.open(publisher, epoch, 0, types).await?;
    let (mut reached, mut count) = (0, 0);
    loop {
        let stretch = feed.next().await?;
        if stretch.after != reached {
            return Err(FeedError::Broken(format!("a hole after {reached} while rebuilding; start it again")));
        }
        (reached, count) = (stretch.upto, count + stretch.events.len());
        shadow.clone().draw(stretch.events).await.map_err(own)?;
        // The old copy may be ahead of what we have read: then the stream has more for us, up to where the copy is.
        if reached >= stretch.head && shadow.clone().swap(reached).await.map_err(own)? {
            return Ok(count);
        }
    }
}

struct Shadow {
    id: Uuid,
    store: Store,
    publisher: String,
    keeps: Vec<Reaction>,
    sources: Vec<String>,
}

impl Shadow {
    fn new(store: &Store, reactions: &[Reaction], publisher: &str) -> Result<Self, FeedError> {
        let (keeps, others): (Vec<&Reaction>, Vec<&Reaction>) =
            reactions.iter().filter(|r| r.keeps.is_some()).partition(|r| r.def.publisher == publisher);
        let sources: BTreeSet<&str> = keeps.iter().map(|r| r.def.aggregate).collect();
        if let Some(other) = others.iter().find(|r| sources.contains(r.def.aggregate)) {
            let (name, by) = (other.def.aggregate, other.def.publisher);
            return Err(FeedError::Refused(format!("{by} also tells of {name}; two owners cannot be rebuilt apart")));
        }
        if keeps.is_empty() {
            return Err(FeedError::Refused(format!("nothing of {publisher} is kept here")));
        }
        Ok(Self {
            id: ids::fresh(),
            store: store.clone(),
            publisher: publisher.to_owned(),
            sources: sources.into_iter().map(str::to_owned).collect(),
            keeps: keeps.into_iter().cloned().collect(),
        })
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        let before = self.store.clock().now().minus(LEFTOVERS);
        let unit = move |tx: Tx| async move {
            tx.run(sql!("DELETE FROM projection_shadow WHERE started_at < $1"), params![before]).await
        };
        self.store.write(unit).await.map(drop).map_err(plain)
    }

    /// Takes events into the shadow, as the reactions take them into the projection.
    async fn draw(self: Arc<Self>, events: Vec<Envelope>) -> Result<(), StoreError> {
        if events.is_empty() {
            return Ok(());
        }
        let (store, shared) = (self.store.clone(), Arc::new(events));
        let unit = move |tx: Tx| {
            let (shadow, events) = (self.clone(), shared.clone());
            async move {
                for envelope in events.iter() {
                    shadow.take(&tx, envelope).await?;
                }
                Ok(())
            }
        };
        store.write(unit).await.map_err(plain)
    }

    async fn take(&self, tx: &Tx, envelope: &Envelope) -> Result<(), StoreError> {
        for reaction in self.keeps.iter().filter(|r| r.def.name == envelope.kind) {
            // What cannot be read is parked where it was received; it has no place in the copy either.
            let Some(keeps) = reaction.keeps.filter(|k| (k.reads)(envelope).is_ok()) else { continue };
            let data = if keeps.gone { GONE } else { envelope.data.get() };
            let sql = sql!(
                "INSERT INTO projection_shadow (rebuild, started_at, org_id, source, entity_id, data, version, last_event_id, last_updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (rebuild, org_id, source, entity_id) DO UPDATE SET data = excluded.data, version = excluded.version, last_event_id = excluded.last_event_id, last_updated_at = excluded.last_updated_at WHERE projection_shadow.version < excluded.version"
            );
            let params = params![
                self.id,
                tx.now(),
                envelope.orgid,
                reaction.def.aggregate,
                envelope.subject,
                data,
                envelope.version,
                envelope.id,
                envelope.time
            ];
            tx.run(sql, params).await?;
        }
        Ok(())
    }

    /// Puts the shadow in the projection's place, unless the projection has events that the shadow has not.
    async fn swap(self: Arc<Self>, reached: i64) -> Result<bool, StoreError> {
        let store = self.store.clone();
        let unit = move |tx: Tx| {
            let shadow = self.clone();
            async move {
                inbox::hold(&tx, &shadow.publisher).await?;
                let partitions = offsets::of(&tx, &shadow.publisher).await?;
                let partitions = partitions.iter().map(|row| row.position).max().unwrap_or(0);
                if inbox::place(&tx, &shadow.publisher).await?.position.max(partitions) > reached {
                    return Ok(false);
                }
                tx.run(sql!("DELETE FROM projection WHERE source = ANY($1)"), params![any(&shadow.sources)]).await?;
                let sql = sql!(
                    "INSERT INTO projection (org_id, source, entity_id, data, version, last_event_id, last_updated_at) SELECT org_id, source, entity_id, data, version, last_event_id, last_updated_at FROM projection_shadow WHERE rebuild = $1"
                );
                tx.run(sql, params![shadow.id]).await?;
                tx.run(sql!("DELETE FROM projection_shadow WHERE rebuild = $1"), params![shadow.id]).await?;
                Ok(true)
            }
        };
        store.write(unit).await.map_err(plain)
    }
}
