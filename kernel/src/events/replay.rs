//! The bus by hand: read again from a position, accept a publisher's new outbox, or just look.

use std::sync::Arc;

use uuid::Uuid;

use super::BusHealth;
use super::feed::{Feed, FeedError, Link};
use super::inbox::{self, Place};
use super::offsets;
use super::parking::plain;
use crate::store::{Store, StoreError, Tx};
use crate::{params, sql};

/// Accepts whatever outbox the publisher has now and reads it from its beginning. False if nothing was ever read of it.
///
/// What the inbox has seen takes no second effect; events with new identities do, which is why nobody but a person decides this.
pub async fn adopt_epoch(store: &Store, health: &BusHealth, publisher: &str) -> Result<bool, StoreError> {
    let publisher: Arc<str> = publisher.into();
    let unit = move |tx: Tx| {
        let publisher = publisher.clone();
        async move {
            // Before any of its partitions, as everybody does who takes both: two who took them crosswise would wait.
            inbox::hold(&tx, &publisher).await?;
            offsets::adopt(&tx, &publisher).await?;
            inbox::set_place(&tx, &publisher, &Place { epoch: Uuid::nil(), position: 0 }).await
        }
    };
    let moved = store.write(unit).await.map_err(plain)?;
    health.look_again();
    Ok(moved)
}

/// Reads a publisher's outbox again from `position` on. False if nothing was ever read of it.
///
/// Events that took effect take no second one, unless `again` clears their receipts first.
pub async fn replay(
    store: &Store,
    health: &BusHealth,
    publisher: &str,
    position: i64,
    again: bool,
) -> Result<bool, StoreError> {
    let publisher: Arc<str> = publisher.into();
    let unit = move |tx: Tx| {
        let publisher = publisher.clone();
        async move {
            inbox::hold(&tx, &publisher).await?;
            let epoch = inbox::place(&tx, &publisher).await?.epoch;
            if again {
                let sql = sql!("DELETE FROM inbox WHERE publisher = $1 AND position >= $2");
                tx.run(sql, params![&*publisher, position]).await?;
            }
            // On Kafka the position only says what is to be skipped; the log is read from its beginning.
            offsets::rewind(&tx, &publisher).await?;
            inbox::set_place(&tx, &publisher, &Place { epoch, position: (position - 1).max(0) }).await
        }
    };
    let moved = store.write(unit).await.map_err(plain)?;
    health.look_again();
    Ok(moved)
}

/// Follows a publisher's outbox without any effect: every type, from after a position.
pub(crate) async fn tail(link: &Link, publisher: &str, after: i64) -> Result<Feed, FeedError> {
    link.open(publisher, Uuid::nil(), after, Vec::new()).await
}
