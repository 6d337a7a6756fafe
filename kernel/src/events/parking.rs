//! Parked events by hand: look at them, try them again in their order, or drop them with a reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::apply::{Stop, aggregate_of, react};
use super::inbox::{self, InboxRow, ParkedRow};
use super::{Envelope, Fault, Reaction};
use crate::store::{Db, Store, StoreError, Tx, WriteError};
use crate::{params, row, sql};

/// How a redrive went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redriven {
    /// Events that took effect now.
    pub handled: usize,
    /// Where it stopped: the aggregate, and why its first event still cannot be handled.
    pub stopped: Vec<(Uuid, String)>,
}

row! {
    struct Count {
        publisher: String,
        parked: i64,
    }
}

row! {
    struct Queue {
        publisher: String,
        aggregate_id: Uuid,
        first: i64,
    }
}

/// The parked events in the order they came, the oldest first.
pub async fn parked(db: &Db, limit: i64) -> Result<Vec<ParkedRow>, StoreError> {
    let sql = sql!(
        ParkedRow,
        "SELECT event_id, publisher, aggregate_id, aggregate_version, position, event_type, envelope, reason, parked_at FROM parked ORDER BY seq LIMIT $1"
    );
    db.all(sql, params![limit]).await
}

/// How many events are parked, by publisher.
pub async fn parked_count(db: &Db) -> Result<BTreeMap<String, i64>, StoreError> {
    let sql = sql!(Count, "SELECT publisher, COUNT(*) AS parked FROM parked GROUP BY publisher");
    Ok(db.all(sql, params![]).await?.into_iter().map(|c| (c.publisher, c.parked)).collect())
}

/// Tries the parked events of one aggregate, or of all, again: each in a unit of its own, in their order.
///
/// An event that fails again stops its aggregate and keeps all behind it parked. Events that arrive meanwhile park
/// behind the rest, or flow again once the last one is done.
pub async fn redrive(store: &Store, reactions: &[Reaction], aggregate: Option<Uuid>) -> Result<Redriven, StoreError> {
    let sql = sql!(
        Queue,
        "SELECT publisher, aggregate_id, MIN(seq) AS first FROM parked GROUP BY publisher, aggregate_id ORDER BY first"
    );
    let queues = store.read().all(sql, params![]).await?;
    let reactions: Arc<[Reaction]> = reactions.into();
    let mut done = Redriven::default();
    for queue in queues.into_iter().filter(|q| aggregate.is_none_or(|wanted| wanted == q.aggregate_id)) {
        let queue = Arc::new(queue);
        loop {
            match next(store, &reactions, &queue).await? {
                Next::Handled => done.handled += 1,
                Next::Empty => break,
                Next::Failed(why) => {
                    done.stopped.push((queue.aggregate_id, why));
                    break;
                }
            }
        }
    }
    Ok(done)
}

enum Next {
    Handled,
    Empty,
    Failed(String),
}

async fn next(store: &Store, reactions: &Arc<[Reaction]>, queue: &Arc<Queue>) -> Result<Next, StoreError> {
    let (reactions, queue) = (reactions.clone(), queue.clone());
    let for_unit = queue.clone();
    let unit = move |tx: Tx| {
        let (reactions, queue) = (reactions.clone(), for_unit.clone());
        async move { first_of(&tx, &reactions, &queue).await }
    };
    let why = match store.write(unit).await {
        Ok(true) => return Ok(Next::Handled),
        Ok(false) => return Ok(Next::Empty),
        Err(WriteError::Unit(Stop::Fault(fault))) => fault.to_string(),
        Err(WriteError::Panicked(why)) => format!("the reaction panicked: {why}"),
        Err(WriteError::Unit(Stop::Store(error)) | WriteError::Store(error)) => match error {
            StoreError::Lost(_) | StoreError::LockTimeout | StoreError::Conflict(_) | StoreError::Ended => {
                return Err(error);
            }
            other => other.to_string(),
        },
        Err(other) => return Err(StoreError::Engine(other.to_string())),
    };
    note(store, &queue, &why).await?;
    Ok(Next::Failed(why))
}

/// Handles the first parked event of an aggregate; false if there is none.
async fn first_of(tx: &Tx, reactions: &[Reaction], queue: &Queue) -> Result<bool, Stop> {
    inbox::hold(tx, &queue.publisher).await?;
    let sql = sql!(
        ParkedRow,
        "SELECT event_id, publisher, aggregate_id, aggregate_version, position, event_type, envelope, reason, parked_at FROM parked WHERE publisher = $1 AND aggregate_id = $2 ORDER BY seq LIMIT 1"
    );
    let Some(row) = tx.maybe(sql, params![queue.publisher, queue.aggregate_id]).await? else { return Ok(false) };
    let envelope: Envelope = serde_json::from_str(&row.envelope)
        .map_err(|e| Stop::Fault(Fault::Park(format!("the parked event does not read: {e}"))))?;
    let aggregate = aggregate_of(reactions, &envelope)
        .ok_or_else(|| Stop::Fault(Fault::Park(format!("nothing here hears {} any more", envelope.kind))))?;
    if tx.add(&InboxRow::of(&envelope, aggregate, tx.now())).await? {
        react(tx, reactions, &envelope).await.map_err(Stop::Fault)?;
    }
    unpark(tx, row.event_id).await?;
    Ok(true)
}

async fn unpark(tx: &Tx, event: Uuid) -> Result<u64, StoreError> {
    tx.run(sql!("DELETE FROM parked WHERE event_id = $1"), params![event]).await
}

/// Remembers why the first event of an aggregate failed this time.
async fn note(store: &Store, queue: &Arc<Queue>, why: &str) -> Result<(), StoreError> {
    let shared = Arc::new((queue.clone(), why.to_owned()));
    let unit = move |tx: Tx| {
        let shared = shared.clone();
        async move {
            let (queue, why) = &*shared;
            let sql = sql!(
                "UPDATE parked SET reason = $3 WHERE seq = (SELECT MIN(seq) FROM parked WHERE publisher = $1 AND aggregate_id = $2)"
            );
            tx.run(sql, params![queue.publisher, queue.aggregate_id, why]).await
        }
    };
    store.write(unit).await.map(drop).map_err(plain)
}

/// Gives up on one parked event: it counts as received and never takes effect. False if it is not parked.
///
/// Later events of the same aggregate stay parked until they are redriven.
pub async fn drop_parked(store: &Store, event: Uuid, reason: &str) -> Result<bool, StoreError> {
    let reason: Arc<str> = reason.into();
    let unit = move |tx: Tx| {
        let reason = reason.clone();
        async move {
            let sql = sql!(
                ParkedRow,
                "SELECT event_id, publisher, aggregate_id, aggregate_version, position, event_type, envelope, reason, parked_at FROM parked WHERE event_id = $1"
            );
            let Some(row) = tx.maybe(sql, params![event]).await? else { return Ok(false) };
            inbox::hold(&tx, &row.publisher).await?;
            // A redrive may have been quicker; then there is nothing left to drop.
            if unpark(&tx, event).await? == 0 {
                return Ok(false);
            }
            let receipt = InboxRow {
                event_id: row.event_id,
                publisher: row.publisher,
                event_type: row.event_type,
                aggregate_type: String::new(),
                aggregate_id: row.aggregate_id,
                aggregate_version: row.aggregate_version,
                position: row.position,
                received_at: tx.now(),
                dropped: Some(reason.to_string()),
            };
            tx.add(&receipt).await?;
            Ok(true)
        }
    };
    store.write(unit).await.map_err(plain)
}

/// The error of a unit that has none of its own.
pub(super) fn plain(error: WriteError<StoreError>) -> StoreError {
    match error {
        WriteError::Unit(error) | WriteError::Store(error) => error,
        other => StoreError::Engine(other.to_string()),
    }
}
