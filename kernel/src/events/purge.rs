//! Old events and old receipts go; the newest of each kind stays, so that a copy can always be made anew.

use std::time::Duration;

use super::parking::plain;
use crate::clock::Timestamp;
use crate::store::{Store, StoreError, Tx, any};
use crate::{params, row, sql};

/// Rows looked at in one unit, so that no other unit waits long.
const BATCH: i64 = 500;

/// How many rows went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Purged {
    /// Outbox rows.
    pub events: u64,
    /// Inbox rows.
    pub receipts: u64,
}

row! {
    struct Old {
        seq: i64,
        position: i64,
        superseded: bool,
    }
}

/// Removes events older than `keep` that a newer one of the same type and aggregate has superseded, and their receipts.
///
/// Receipts stay twice as long: a publisher that purges later than we do must not find us forgetful.
pub async fn purge(store: &Store, keep: Duration) -> Result<Purged, StoreError> {
    let now = store.clock().now();
    let (events, receipts) = (now.minus(keep), now.minus(keep * 2));
    let mut purged = Purged::default();
    let (mut after, mut inbox_after) = (Some(0), Some(0));
    while let Some(from) = after {
        let unit = move |tx: Tx| async move { purge_outbox(&tx, from, events).await };
        let (gone, next) = store.write(unit).await.map_err(plain)?;
        purged.events += gone;
        after = next;
    }
    if purged.events > 0 {
        store.recent().forget();
    }
    while let Some(from) = inbox_after {
        let unit = move |tx: Tx| async move { purge_inbox(&tx, from, receipts).await };
        let (gone, next) = store.write(unit).await.map_err(plain)?;
        purged.receipts += gone;
        inbox_after = next;
    }
    Ok(purged)
}

/// Where the next batch begins, if there is one.
fn next(rows: &[Old]) -> Option<i64> {
    let full = rows.len() >= usize::try_from(BATCH).expect("a small number");
    rows.last().filter(|_| full).map(|row| row.seq)
}

async fn purge_outbox(tx: &Tx, after: i64, before: Timestamp) -> Result<(u64, Option<i64>), StoreError> {
    let sql = sql!(
        Old,
        "SELECT o.seq, COALESCE(o.position, o.seq) AS position, EXISTS (SELECT 1 FROM outbox n WHERE n.aggregate_type = o.aggregate_type AND n.aggregate_id = o.aggregate_id AND n.aggregate_version > o.aggregate_version AND n.event_type = o.event_type AND n.published_at IS NOT NULL) AS superseded FROM outbox o WHERE o.seq > $1 AND o.created_at < $2 AND o.published_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM kafka_relay k WHERE k.wanted AND k.upto < COALESCE(o.position, o.seq)) ORDER BY o.seq LIMIT $3"
    );
    let rows = tx.all(sql, params![after, before, BATCH]).await?;
    let gone: Vec<&Old> = rows.iter().filter(|r| r.superseded).collect();
    let Some(upto) = gone.iter().map(|r| r.position).max() else { return Ok((0, next(&rows))) };
    let seqs: Vec<i64> = gone.iter().map(|r| r.seq).collect();
    let count = tx.run(sql!("DELETE FROM outbox WHERE seq = ANY($1)"), params![any(&seqs)]).await?;
    // A consumer that stands before this may have missed something and is told so.
    let sql = sql!("UPDATE outbox_epoch SET purged_upto = $1 WHERE id = 1 AND purged_upto < $1");
    tx.run(sql, params![upto]).await?;
    Ok((count, next(&rows)))
}

async fn purge_inbox(tx: &Tx, after: i64, before: Timestamp) -> Result<(u64, Option<i64>), StoreError> {
    let sql = sql!(
        Old,
        "SELECT o.seq, o.position, EXISTS (SELECT 1 FROM inbox n WHERE n.aggregate_id = o.aggregate_id AND n.aggregate_version > o.aggregate_version AND n.publisher = o.publisher AND n.aggregate_type = o.aggregate_type AND n.event_type = o.event_type) AS superseded FROM inbox o WHERE o.seq > $1 AND o.received_at < $2 ORDER BY o.seq LIMIT $3"
    );
    let rows = tx.all(sql, params![after, before, BATCH]).await?;
    let seqs: Vec<i64> = rows.iter().filter(|r| r.superseded).map(|r| r.seq).collect();
    let count = tx.run(sql!("DELETE FROM inbox WHERE seq = ANY($1)"), params![any(&seqs)]).await?;
    Ok((count, next(&rows)))
}
