//! How far the outbox has been sent: a row per shard of aggregates, moved only by the relay whose term it is.

use crate::events::outbox::SHARDS;
use crate::events::wire::Stored;
use crate::jobs::Lease;
use crate::store::{List, Scalar, Store, StoreError, Tx};
use crate::{params, sql};

/// The most events that are in flight at once.
const BATCH: i64 = 200;
/// How far one batch may look ahead, where most events belong to other relays.
const WINDOW: i64 = 4096;

/// A relay's share of the aggregates: those whose shard leaves `rest` when divided by `of`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) of: u32,
    pub(super) rest: u32,
}

/// Makes the rows, and says that what is not sent must not be purged.
pub(super) async fn open(tx: &Tx) -> Result<(), StoreError> {
    for shard in 0..i64::from(SHARDS) {
        let sql = sql!(
            "INSERT INTO kafka_relay (shard, upto, wanted) VALUES ($1, 0, TRUE) ON CONFLICT (shard) DO UPDATE SET wanted = TRUE"
        );
        tx.run(sql, params![shard]).await?;
    }
    Ok(())
}

/// Up to which position everything of this share was sent.
pub(super) async fn upto(store: &Store, share: Share) -> Result<i64, StoreError> {
    let sql = sql!(Scalar<i64>, "SELECT COALESCE(MIN(upto), 0) AS value FROM kafka_relay WHERE shard % $1 = $2");
    let db = store.read();
    db.one(sql, params![i64::from(share.of), i64::from(share.rest)]).await.map(|Scalar(upto)| upto)
}

/// Notes that everything of this share up to `to` is on Kafka; refused if another relay took over meanwhile.
pub(super) async fn mark(store: &Store, lease: &Lease, share: Share, to: i64) -> Result<bool, String> {
    let lease = lease.clone();
    let unit = move |tx: Tx| {
        let lease = lease.clone();
        async move {
            if !lease.is_ours(&tx).await? {
                return Ok(false);
            }
            let sql = sql!("UPDATE kafka_relay SET upto = $3 WHERE shard % $1 = $2 AND upto < $3");
            tx.run(sql, params![i64::from(share.of), i64::from(share.rest), to]).await?;
            Ok::<_, StoreError>(true)
        }
    };
    store.write(unit).await.map_err(|e| format!("own database: {e}"))
}

/// The next events of a share behind `after`, and up to where that is all. Positions are given in commit order, one
/// by one, so nothing below `head` can still come to light: that, and not a number drawn before a commit, is followed.
pub(super) async fn batch(
    store: &Store,
    share: Share,
    after: i64,
    head: i64,
) -> Result<(Vec<Stored>, i64), StoreError> {
    let end = head.min(after.saturating_add(WINDOW));
    let some = (share.of > 1).then(|| (i64::from(share.of), i64::from(share.rest)));
    let db = store.read();
    let rows: Vec<Stored> = if store.orders_by_insert() {
        List::new("SELECT seq AS position, id, org_id, aggregate_id, aggregate_version, event_type, schema_version, payload, headers, created_at FROM outbox")
            .and("seq > {}", after)
            .and("seq <= {}", end)
            .and_pair("shard % {} = {}", some)
            .fetch(&db, "seq", BATCH)
            .await?
    } else {
        List::new("SELECT position, id, org_id, aggregate_id, aggregate_version, event_type, schema_version, payload, headers, created_at FROM outbox")
            .and("position > {}", after)
            .and("position <= {}", end)
            .and_pair("shard % {} = {}", some)
            .fetch(&db, "position", BATCH)
            .await?
    };
    let full = rows.len() >= usize::try_from(BATCH).expect("a small number");
    let upto = rows.last().filter(|_| full).map_or(end, |row| row.position);
    Ok((rows, upto))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::store::{Engine, Options};
    use std::time::Duration;

    #[tokio::test]
    async fn a_relay_that_wakes_after_another_took_over_marks_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual("2026-01-01T12:00:00Z".parse().unwrap());
        let engine = Engine::Sqlite { path: folder.path().join("relay.db") };
        let store = Store::open(Options::new(engine, clock.clone()), &[]).await.unwrap();
        store.write(|tx| async move { open(&tx).await }).await.unwrap();
        let (share, life) = (Share { of: 1, rest: 0 }, Duration::from_secs(3));
        let sleeper = Lease::acquire(&store, "relay", "a", life).await.unwrap().unwrap();
        assert!(mark(&store, &sleeper, share, 5).await.unwrap());
        assert!(Lease::acquire(&store, "relay", "b", life).await.unwrap().is_none(), "it is taken");
        clock.advance(life);
        let other = Lease::acquire(&store, "relay", "b", life).await.unwrap().unwrap();
        assert!(other.epoch() > sleeper.epoch());
        assert!(!mark(&store, &sleeper, share, 9).await.unwrap());
        assert_eq!(upto(&store, share).await.unwrap(), 5);
        assert!(mark(&store, &other, share, 7).await.unwrap());
        assert!(mark(&store, &other, Share { of: 4, rest: 1 }, 8).await.unwrap());
        assert_eq!(upto(&store, share).await.unwrap(), 7, "the share that is furthest behind");
    }
}
