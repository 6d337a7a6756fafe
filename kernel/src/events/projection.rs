//! Projections: the newest full state of what other services own, kept by version, read-only for the service's own code.

use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{Event, Fault, Payload as _, Reaction, Received};
use crate::store::{Db, Json, StoreError, Tx};
use crate::{params, row, sql};

row! {
    struct Kept {
        data: String,
        version: i64,
    }
}

/// A reaction that keeps the newest state of each thing that `E` tells of (reliability rule 10).
pub(crate) fn keep<E: Event>() -> Reaction {
    Reaction::new(|tx: Tx, received: Received<E>| async move { upsert(&tx, &received).await.map_err(Fault::from) })
}

async fn upsert<E: Event>(tx: &Tx, received: &Received<E>) -> Result<(), StoreError> {
    let subject = received.event.payload().subject();
    let data = serde_json::to_value(received.event.payload()).map_err(|e| StoreError::Decode(e.to_string()))?;
    tx.run(
        sql!(
            "INSERT INTO projection (org_id, source, entity_id, data, version, last_event_id, last_updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (org_id, source, entity_id) DO UPDATE SET data = excluded.data, version = excluded.version, last_event_id = excluded.last_event_id, last_updated_at = excluded.last_updated_at WHERE projection.version < excluded.version"
        ),
        params![subject.org, E::DEF.aggregate, subject.id, Json(data), subject.version, received.id, received.time],
    )
    .await
    .map(drop)
}

fn open<P: DeserializeOwned>(kept: &Kept) -> Result<(P, i64), StoreError> {
    let state = serde_json::from_str(&kept.data).map_err(|e| StoreError::Decode(format!("projection: {e}")))?;
    Ok((state, kept.version))
}

/// The kept state of one thing and its version; `source` is the aggregate's name in the event declaration.
pub async fn projected<P: DeserializeOwned>(
    db: &Db,
    source: &str,
    org: Uuid,
    id: Uuid,
) -> Result<Option<(P, i64)>, StoreError> {
    let sql = sql!(Kept, "SELECT data, version FROM projection WHERE org_id = $1 AND source = $2 AND entity_id = $3");
    db.maybe(sql, params![org, source, id]).await?.map(|kept| open(&kept)).transpose()
}

/// The same where the organisation is not known yet.
pub async fn projected_by_id<P: DeserializeOwned>(
    db: &Db,
    source: &str,
    id: Uuid,
) -> Result<Option<(P, i64)>, StoreError> {
    let sql = sql!(Kept, "SELECT data, version FROM projection WHERE source = $1 AND entity_id = $2");
    db.maybe(sql, params![source, id]).await?.map(|kept| open(&kept)).transpose()
}
