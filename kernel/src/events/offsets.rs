//! The consumer's offsets on Kafka, kept in its own database and moved in the unit that holds the effects.

use std::collections::HashMap;

use uuid::Uuid;

use super::Road;
use super::inbox::{self, Place};
use crate::store::{Db, StoreError, Tx};
use crate::{params, row, sql};

/// Stands for the beginning of whatever a partition still has.
pub(crate) const BEGINNING: i64 = -2;

row! {
    /// How far this service has come in one partition.
    pub(crate) struct OffsetRow in "kafka_offset" {
        pub(crate) topic: String,
        pub(crate) part: i64,
        pub(crate) publisher: String,
        pub(crate) epoch: Uuid,
        pub(crate) next_offset: i64,
        pub(crate) position: i64,
        pub(crate) adopts: bool,
    }
}

/// A piece of a partition that is being handled.
pub(crate) struct Slice {
    pub(crate) topic: String,
    pub(crate) part: i64,
    /// The offset behind each of its events.
    pub(crate) ends: HashMap<Uuid, i64>,
    /// The offset behind all of it, and the highest outbox position in it.
    pub(crate) to: i64,
    pub(crate) reached: i64,
}

/// Moves an offset on. False means that somebody else did, or that the events now come by another road.
pub(crate) async fn advance(tx: &Tx, slice: &Slice, from: &Place, to: i64, reached: i64) -> Result<bool, StoreError> {
    let sql = sql!(
        "UPDATE kafka_offset SET next_offset = $5, position = CASE WHEN position < $6 THEN $6 ELSE position END WHERE topic = $1 AND part = $2 AND epoch = $3 AND next_offset = $4"
    );
    let params = params![slice.topic, slice.part, from.epoch, from.position, to, reached];
    Ok(tx.run(sql, params).await? == 1)
}

/// The offsets of everything that is read of a publisher.
pub(crate) async fn of(db: &Db, publisher: &str) -> Result<Vec<OffsetRow>, StoreError> {
    let sql = sql!(
        OffsetRow,
        "SELECT topic, part, publisher, epoch, next_offset, position, adopts FROM kafka_offset WHERE publisher = $1 ORDER BY topic, part"
    );
    db.all(sql, params![publisher]).await
}

/// Makes sure that every partition has its row, beginning where the log begins; false if the road is no longer Kafka.
///
/// All partitions at once, whoever reads them: a move back takes the lowest position, so none may be missing.
pub(crate) async fn ensure(tx: &Tx, publisher: &str, topics: &[String], parts: i32) -> Result<bool, StoreError> {
    inbox::hold(tx, publisher).await?;
    if inbox::road(tx, publisher).await? != Some(Road::Kafka) {
        return Ok(false);
    }
    let known = of(tx, publisher).await?;
    let epoch = inbox::place(tx, publisher).await?.epoch;
    for topic in topics {
        for part in 0..i64::from(parts) {
            if known.iter().any(|row| row.topic == *topic && row.part == part) {
                continue;
            }
            let (topic, publisher) = (topic.clone(), publisher.to_owned());
            let row = OffsetRow { topic, part, publisher, epoch, next_offset: BEGINNING, position: 0, adopts: false };
            tx.add(&row).await?;
        }
    }
    Ok(true)
}

/// What became of an outbox that a partition meets for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Met {
    /// The partition has its events from here on.
    Taken,
    /// It is not the one that this service reads of its publisher, and nobody has accepted it.
    Stranger,
    /// The offset was moved meanwhile.
    Fenced,
}

/// Takes the outbox whose events this partition has from here on, if it is the publisher's or somebody accepted it.
pub(crate) async fn take_epoch(tx: &Tx, row: &OffsetRow, epoch: Uuid) -> Result<Met, StoreError> {
    inbox::hold(tx, &row.publisher).await?;
    let known = inbox::place(tx, &row.publisher).await?.epoch;
    if !known.is_nil() && known != epoch && !row.adopts {
        return Ok(Met::Stranger);
    }
    let sql = sql!(
        "UPDATE kafka_offset SET epoch = $5, position = 0, adopts = FALSE WHERE topic = $1 AND part = $2 AND epoch = $3 AND next_offset = $4"
    );
    if tx.run(sql, params![row.topic, row.part, row.epoch, row.next_offset, epoch]).await? == 0 {
        return Ok(Met::Fenced);
    }
    // From one outbox to another a partition only goes forward; one that is read for the first time may be behind.
    if known.is_nil() || (known != epoch && !row.epoch.is_nil()) {
        let sql = sql!("UPDATE bus_position SET epoch = $2, position = 0 WHERE publisher = $1");
        tx.run(sql, params![row.publisher, epoch]).await?;
    }
    Ok(Met::Taken)
}

/// Lets each partition go over to another outbox of its publisher when the first event of it comes.
pub(crate) async fn adopt(tx: &Tx, publisher: &str) -> Result<(), StoreError> {
    let sql = sql!("UPDATE kafka_offset SET adopts = TRUE WHERE publisher = $1");
    tx.run(sql, params![publisher]).await.map(drop)
}

/// Lets every partition be read from its beginning.
pub(crate) async fn rewind(tx: &Tx, publisher: &str) -> Result<(), StoreError> {
    let sql = sql!("UPDATE kafka_offset SET next_offset = $2, position = 0 WHERE publisher = $1");
    tx.run(sql, params![publisher, BEGINNING]).await.map(drop)
}

/// Lets one partition be read from an offset.
#[cfg(feature = "kafka")]
pub(crate) async fn rewind_to(tx: &Tx, topic: &str, part: i64, offset: i64) -> Result<(), StoreError> {
    let sql = sql!("UPDATE kafka_offset SET next_offset = $3, position = 0 WHERE topic = $1 AND part = $2");
    tx.run(sql, params![topic, part, offset]).await.map(drop)
}

/// Forgets the offsets of a publisher and gives what they were.
pub(crate) async fn forget(tx: &Tx, publisher: &str) -> Result<Vec<OffsetRow>, StoreError> {
    let sql = sql!(
        OffsetRow,
        "DELETE FROM kafka_offset WHERE publisher = $1 RETURNING topic, part, publisher, epoch, next_offset, position, adopts"
    );
    tx.all(sql, params![publisher]).await
}
