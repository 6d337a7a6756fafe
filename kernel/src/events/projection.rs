//! Full-state copies of what others own: the newest version wins, in whatever order versions arrive.

use uuid::Uuid;

use super::reaction::{Keeps, Reacting, foreign};
use super::{Envelope, Event, Fault, Payload, Reaction};
use crate::store::{Db, StoreError, Tx};
use crate::{params, row, sql};

row! {
    struct Kept {
        entity_id: Uuid,
        data: String,
        version: i64,
    }
}

/// What stands in place of the data of a thing that is gone.
pub(super) const GONE: &str = "null";

/// A reaction that keeps the newest state of each aggregate this event tells of, under the aggregate's name.
pub fn keep<E: Event>() -> Reaction {
    kept_by::<E>(false)
}

/// A reaction to an event that says a thing is gone. Its version stays, so that an older state cannot bring it back.
pub fn forget<E: Event>() -> Reaction {
    kept_by::<E>(true)
}

fn reads<E: Event>(envelope: &Envelope) -> Result<(), Fault> {
    match serde_json::from_str::<E::Payload>(envelope.data.get()) {
        Ok(payload) if payload.subject().org != envelope.orgid => Err(foreign(envelope)),
        Ok(_) => Ok(()),
        Err(error) => Err(Fault::Park(format!("{} does not read as {}: {error}", envelope.id, E::DEF.name))),
    }
}

fn kept_by<E: Event>(gone: bool) -> Reaction {
    Reaction::keeping(E::DEF, Keeps { reads: reads::<E>, gone }, move |tx: Tx, envelope: &Envelope| -> Reacting {
        let readable = reads::<E>(envelope);
        let envelope = envelope.clone();
        Box::pin(async move {
            readable?;
            upsert(&tx, E::DEF.aggregate, &envelope, gone).await.map_err(Fault::from)
        })
    })
}

/// Only a higher version replaces: identities and times say nothing about order.
async fn upsert(tx: &Tx, source: &str, envelope: &Envelope, gone: bool) -> Result<(), StoreError> {
    let data = if gone { GONE } else { envelope.data.get() };
    let sql = sql!(
        "INSERT INTO projection (org_id, source, entity_id, data, version, last_event_id, last_updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (org_id, source, entity_id) DO UPDATE SET data = excluded.data, version = excluded.version, last_event_id = excluded.last_event_id, last_updated_at = excluded.last_updated_at WHERE projection.version < excluded.version"
    );
    let params = params![envelope.orgid, source, envelope.subject, data, envelope.version, envelope.id, envelope.time];
    tx.run(sql, params).await.map(drop)
}

fn open<P: Payload>(kept: Kept) -> Result<Option<(P, i64)>, StoreError> {
    if kept.data == GONE {
        return Ok(None);
    }
    let payload = serde_json::from_str(&kept.data)
        .map_err(|e| StoreError::Decode(format!("projection of {}: {e}", kept.entity_id)))?;
    Ok(Some((payload, kept.version)))
}

/// The copy of one thing of an organisation, and its version. `source` is the aggregate's name.
pub async fn projected<P: Payload>(db: &Db, source: &str, org: Uuid, id: Uuid) -> Result<Option<(P, i64)>, StoreError> {
    let sql = sql!(
        Kept,
        "SELECT entity_id, data, version FROM projection WHERE org_id = $1 AND source = $2 AND entity_id = $3"
    );
    db.maybe(sql, params![org, source, id]).await?.map_or(Ok(None), open)
}

/// The copy of one thing whose organisation the caller does not know.
pub async fn projected_by_id<P: Payload>(db: &Db, source: &str, id: Uuid) -> Result<Option<(P, i64)>, StoreError> {
    let sql = sql!(
        Kept,
        "SELECT entity_id, data, version FROM projection WHERE source = $1 AND entity_id = $2 ORDER BY version DESC LIMIT 1"
    );
    db.maybe(sql, params![source, id]).await?.map_or(Ok(None), open)
}

/// An organisation's copies in the order of their ids, after one of them for the next page.
pub async fn projected_in_org<P: Payload>(
    db: &Db,
    source: &str,
    org: Uuid,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<(P, i64)>, StoreError> {
    let sql = sql!(
        Kept,
        "SELECT entity_id, data, version FROM projection WHERE org_id = $1 AND source = $2 AND entity_id > $3 AND data <> 'null' ORDER BY entity_id LIMIT $4"
    );
    let rows = db.all(sql, params![org, source, after.unwrap_or(Uuid::nil()), limit]).await?;
    rows.into_iter().filter_map(|kept| open(kept).transpose()).collect()
}
