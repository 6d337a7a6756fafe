//! The outbox: rows written in the transaction that made the change they tell of.

use uuid::Uuid;

use super::wire::Stored;
use super::{EventDef, Subject};
use crate::clock::Timestamp;
use crate::store::{Db, Json, Scalar, StoreError};
use crate::telemetry::Trace;
use crate::{ids, row, sql};

/// How many relays could share one outbox; an aggregate always falls into the same shard.
pub(super) const SHARDS: u32 = 8;

/// An event on its way into the outbox.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    id: Uuid,
    def: EventDef,
    subject: Subject,
    body: String,
    at: Timestamp,
    trace: Trace,
}

/// What travels beside the payload.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Headers {
    /// W3C trace context of the unit that published.
    #[serde(default)]
    pub(crate) traceparent: String,
}

row! {
    /// An outbox row as it is written; its number is given by the database.
    pub(crate) struct OutboxRow in "outbox" {
        pub(crate) id: Uuid,
        pub(crate) org_id: Uuid,
        pub(crate) aggregate_type: String,
        pub(crate) aggregate_id: Uuid,
        pub(crate) aggregate_version: i64,
        pub(crate) event_type: String,
        pub(crate) schema_version: i64,
        pub(crate) payload: String,
        pub(crate) headers: Json<Headers>,
        pub(crate) shard: i64,
        pub(crate) created_at: Timestamp,
        pub(crate) published_at: Option<Timestamp>,
        pub(crate) attempts: i64,
    }
}

impl Outgoing {
    /// The insert that takes [`OutboxRow`] in its column order.
    pub(crate) const INSERT: &'static str = "INSERT INTO outbox (id, org_id, aggregate_type, aggregate_id, aggregate_version, event_type, schema_version, payload, headers, shard, created_at, published_at, attempts) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";

    pub(crate) fn new(def: &EventDef, subject: Subject, body: String, at: Timestamp, trace: Trace) -> Self {
        Self { id: ids::fresh(), def: *def, subject, body, at, trace }
    }

    /// Whose it is.
    pub(crate) fn org(&self) -> Uuid {
        self.subject.org
    }

    /// Its identity.
    pub(crate) fn id(&self) -> Uuid {
        self.id
    }

    /// The row; `published_at` is set where the commit itself publishes.
    pub(crate) fn row(self, published_at: Option<Timestamp>) -> OutboxRow {
        OutboxRow {
            id: self.id,
            org_id: self.subject.org,
            aggregate_type: self.def.aggregate.to_owned(),
            aggregate_id: self.subject.id,
            aggregate_version: self.subject.version,
            event_type: self.def.name.to_owned(),
            schema_version: i64::from(self.def.version),
            payload: self.body,
            headers: Json(Headers { traceparent: self.trace.traceparent() }),
            shard: shard(self.subject.id),
            created_at: self.at,
            published_at,
            attempts: 0,
        }
    }
}

impl OutboxRow {
    /// The row as consumers get it, once its position is known.
    pub(crate) fn at(self, position: i64) -> Stored {
        Stored {
            position,
            id: self.id,
            org_id: self.org_id,
            aggregate_id: self.aggregate_id,
            aggregate_version: self.aggregate_version,
            event_type: self.event_type,
            schema_version: self.schema_version,
            payload: self.payload,
            headers: self.headers,
            created_at: self.created_at,
        }
    }
}

pub(super) fn shard(aggregate: Uuid) -> i64 {
    i64::try_from(aggregate.as_u64_pair().1 % u64::from(SHARDS)).expect("smaller than the number of shards")
}

row! {
    /// Events that are durable and have no position yet, so that nobody may have them.
    pub(crate) struct Waiting {
        /// How many, up to [`MOST_COUNTED`].
        pub(crate) events: i64,
        /// When the oldest of them was made.
        pub(crate) since: Option<Timestamp>,
    }
}

/// More are not counted: whoever is that far behind needs no exact figure, and counting would cost the database.
const MOST_COUNTED: i64 = 10_000;

/// What the relay has yet to do; always nothing where the commit itself publishes.
pub(crate) async fn outbox_waiting(db: &Db) -> Result<Waiting, StoreError> {
    let sql = sql!(
        Waiting,
        "SELECT COUNT(*) AS events, MIN(created_at) AS since FROM (SELECT created_at FROM outbox WHERE published_at IS NULL LIMIT $1) AS waiting"
    );
    db.one(sql, crate::params![MOST_COUNTED]).await
}

/// The highest number that consumers may have.
pub(crate) async fn outbox_head(db: &Db) -> Result<i64, StoreError> {
    let sql = sql!(
        Scalar<i64>,
        "SELECT COALESCE((SELECT MAX(position) FROM outbox WHERE position IS NOT NULL), (SELECT seq FROM outbox WHERE published_at IS NOT NULL AND position IS NULL ORDER BY seq DESC LIMIT 1), 0) AS value"
    );
    db.one(sql, Vec::new()).await.map(|Scalar(head)| head)
}
