//! The consumer's own tables: how far it has come with each publisher, what took effect, what is parked.

use uuid::Uuid;

use super::{Envelope, Road};
use crate::clock::Timestamp;
use crate::store::{Db, Scalar, StoreError, Tx};
use crate::{params, row, sql};

row! {
    /// How far this service has come with one publisher.
    pub(crate) struct Place {
        pub(crate) epoch: Uuid,
        pub(crate) position: i64,
    }
}

row! {
    /// An event that took effect here, or was dropped by hand.
    pub(crate) struct InboxRow in "inbox" {
        pub(crate) event_id: Uuid,
        pub(crate) publisher: String,
        pub(crate) event_type: String,
        pub(crate) aggregate_type: String,
        pub(crate) aggregate_id: Uuid,
        pub(crate) aggregate_version: i64,
        pub(crate) position: i64,
        pub(crate) received_at: Timestamp,
        pub(crate) dropped: Option<String>,
    }
}

row! {
    /// An event that waits for a hand.
    pub struct ParkedRow in "parked" {
        /// Identity of the event.
        pub event_id: Uuid,
        /// Who published it.
        pub publisher: String,
        /// What it is about.
        pub aggregate_id: Uuid,
        /// Which version of it.
        pub aggregate_version: i64,
        /// Its place in the outbox.
        pub position: i64,
        /// Its type.
        pub event_type: String,
        /// The whole event as JSON.
        pub envelope: String,
        /// Why it was parked.
        pub reason: String,
        /// When.
        pub parked_at: Timestamp,
    }
}

impl InboxRow {
    pub(crate) fn of(envelope: &Envelope, aggregate_type: &str, received_at: Timestamp) -> Self {
        Self {
            event_id: envelope.id,
            publisher: envelope.source.clone(),
            event_type: envelope.kind.clone(),
            aggregate_type: aggregate_type.to_owned(),
            aggregate_id: envelope.subject,
            aggregate_version: envelope.version,
            position: envelope.position,
            received_at,
            dropped: None,
        }
    }
}

/// Where this service stands with a publisher; nil epoch and 0 when it has read nothing or was told to begin again.
pub(crate) async fn place(db: &Db, publisher: &str) -> Result<Place, StoreError> {
    let sql = sql!(Place, "SELECT epoch, position FROM bus_position WHERE publisher = $1");
    let found = db.maybe(sql, params![publisher]).await?;
    Ok(found.unwrap_or(Place { epoch: Uuid::nil(), position: 0 }))
}

/// By which road a publisher's events come; none if nothing was decided yet.
pub(crate) async fn road(db: &Db, publisher: &str) -> Result<Option<Road>, StoreError> {
    let sql = sql!(Scalar<String>, "SELECT road AS value FROM bus_position WHERE publisher = $1");
    Ok(db.maybe(sql, params![publisher]).await?.map(|Scalar(word)| Road::of_word(&word)))
}

/// Takes an outbox as the one that positions are about, unless another was taken meanwhile.
pub(crate) async fn take_epoch(tx: &Tx, publisher: &str, epoch: Uuid) -> Result<bool, StoreError> {
    let sql = sql!(
        "INSERT INTO bus_position (publisher, epoch, position) VALUES ($1, $2, 0) ON CONFLICT (publisher) DO UPDATE SET epoch = excluded.epoch, position = 0 WHERE bus_position.epoch = $3 AND bus_position.road = 'stream'"
    );
    Ok(tx.run(sql, params![publisher, epoch, Uuid::nil()]).await? == 1)
}

/// Moves the position on. False means that somebody else moved it: the rest of the unit must not happen.
pub(crate) async fn advance(tx: &Tx, publisher: &str, from: &Place, to: i64) -> Result<bool, StoreError> {
    // Only while the stream is the road: a unit that began before a move must not end behind it.
    let sql = sql!(
        "UPDATE bus_position SET position = $4 WHERE publisher = $1 AND epoch = $2 AND position = $3 AND road = 'stream'"
    );
    Ok(tx.run(sql, params![publisher, from.epoch, from.position, to]).await? == 1)
}

/// Holds off the publisher's consumer until this unit ends. On one writer that is so anyway.
pub(crate) async fn hold(tx: &Tx, publisher: &str) -> Result<(), StoreError> {
    let sql = sql!("UPDATE bus_position SET position = position WHERE publisher = $1");
    tx.run(sql, params![publisher]).await?;
    // On Kafka each partition has a lane of its own.
    let sql = sql!("UPDATE kafka_offset SET position = position WHERE publisher = $1");
    tx.run(sql, params![publisher]).await.map(drop)
}

/// Puts a publisher's position somewhere else; a nil epoch takes whatever outbox is there next.
pub(crate) async fn set_place(tx: &Tx, publisher: &str, place: &Place) -> Result<bool, StoreError> {
    let sql = sql!("UPDATE bus_position SET epoch = $2, position = $3 WHERE publisher = $1");
    Ok(tx.run(sql, params![publisher, place.epoch, place.position]).await? == 1)
}

/// What becomes of an event that has arrived.
pub(crate) enum Arrival {
    /// It is written down here; its effect belongs into the same unit.
    Fresh,
    /// It took effect before.
    Seen,
    /// An earlier event of the same thing waits for a hand.
    HeldUp,
}

/// Writes a receipt unless the event has one or stands behind a parked one; nearly always one statement.
pub(crate) async fn receive(tx: &Tx, receipt: &InboxRow) -> Result<Arrival, StoreError> {
    let InboxRow { event_id, publisher, aggregate_id, .. } = receipt;
    let sql = sql!(
        "INSERT INTO inbox (event_id, publisher, event_type, aggregate_type, aggregate_id, aggregate_version, position, received_at) SELECT $1, CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS TEXT), $5, $6, $7, $8 WHERE NOT EXISTS (SELECT 1 FROM parked WHERE publisher = $2 AND aggregate_id = $5) ON CONFLICT DO NOTHING"
    );
    let values = params![
        *event_id,
        *publisher,
        receipt.event_type,
        receipt.aggregate_type,
        *aggregate_id,
        receipt.aggregate_version,
        receipt.position,
        receipt.received_at
    ];
    if tx.run(sql, values).await? == 1 {
        return Ok(Arrival::Fresh);
    }
    let sql = sql!(Scalar<Uuid>, "SELECT event_id AS value FROM inbox WHERE event_id = $1");
    Ok(if tx.maybe(sql, params![*event_id]).await?.is_some() { Arrival::Seen } else { Arrival::HeldUp })
}

/// Parks an event; one that is parked already keeps its place.
pub(crate) async fn park(tx: &Tx, envelope: &Envelope, reason: &str) -> Result<(), StoreError> {
    let row = ParkedRow {
        event_id: envelope.id,
        publisher: envelope.source.clone(),
        aggregate_id: envelope.subject,
        aggregate_version: envelope.version,
        position: envelope.position,
        event_type: envelope.kind.clone(),
        envelope: serde_json::to_string(envelope)
            .map_err(|e| StoreError::Refused(format!("event {} does not become JSON: {e}", envelope.id)))?,
        reason: reason.to_owned(),
        parked_at: tx.now(),
    };
    tx.add(&row).await.map(drop)
}
