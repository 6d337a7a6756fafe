//! The bus of one service by hand, on its own port and for the city's own tools only.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{BusHealth, Carrier, Reaction, Road, adopt_epoch, drop_parked, edges, parked, parked_count, redrive};
use crate::clock::{Clock, Timestamp};
use crate::http::{Fail, Problem, Signer};
use crate::store::{Scalar, Store, StoreError};
use crate::{params, row, sql};

/// Rows that one question may return.
const MOST: i64 = 1000;

pub(crate) struct Hands {
    pub(crate) service: &'static str,
    pub(crate) store: Store,
    pub(crate) reactions: Vec<Reaction>,
    pub(crate) health: BusHealth,
    pub(crate) carrier: Carrier,
    pub(crate) signer: Signer,
    pub(crate) clock: Clock,
}

type Shared = State<Arc<Hands>>;

row! {
    /// An event as its publisher keeps it.
    struct Kept {
        seq: i64,
        id: Uuid,
        aggregate_type: String,
        aggregate_id: Uuid,
        aggregate_version: i64,
        event_type: String,
        payload: String,
        headers: String,
        created_at: Timestamp,
    }
}

row! {
    struct Waiting {
        step: String,
        due_at: Timestamp,
        attempts: i64,
    }
}

pub(crate) fn admin_router(hands: Hands) -> Router {
    let hands = Arc::new(hands);
    Router::new()
        .route("/internal/bus", get(bus))
        .route("/internal/history", get(history))
        .route("/internal/parked", get(list_parked))
        .route("/internal/redrive", post(redrive_now))
        .route("/internal/drop-parked", post(drop_one))
        .route("/internal/replay", post(replay_now))
        .route("/internal/adopt", post(adopt))
        .route("/internal/position-at", get(position_at))
        .route("/internal/bus-move", post(move_now))
        .route("/internal/bus-settings", get(settings))
        .layer(axum::middleware::from_fn_with_state(hands.clone(), only_workloads))
        .with_state(hands)
}

async fn only_workloads(State(hands): Shared, request: axum::extract::Request, next: Next) -> Response {
    match hands.signer.verify(request.headers(), hands.service, hands.clock.now()) {
        Ok((_, None)) => next.run(request).await,
        _ => Problem::new(401, "unverified_caller", "Only the city's own tools may call this.").into_response(),
    }
}

fn answer(result: Result<Value, StoreError>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(error) => Problem::from(Fail::from(error)).into_response(),
    }
}

async fn bus(State(hands): Shared) -> Response {
    let publishers: serde_json::Map<String, Value> = hands
        .health
        .publishers()
        .into_iter()
        .map(|(name, h)| {
            let partitions = h.partitions.iter().map(|((topic, part), p)| {
                json!({"topic": topic, "partition": part, "next": p.next, "end": p.end, "lag": p.lag()})
            });
            let told = json!({"flow": format!("{:?}", h.flow), "position": h.position, "head": h.head, "lag": h.lag(),
                "partitions": partitions.collect::<Vec<_>>(), "last_error": h.last_error});
            (name.to_owned(), told)
        })
        .collect();
    let db = hands.store.read();
    let asked = async {
        let (parked, edges) = (parked_count(&db).await?, edges(&db).await?);
        let roads: serde_json::Map<String, Value> =
            edges.into_iter().map(|edge| (edge.publisher, Value::from(edge.road))).collect();
        let head = *hands.store.head().borrow();
        Ok(json!({"service": hands.service, "publishers": publishers, "parked": parked, "roads": roads,
            "head": head, "relays": hands.health.relays()}))
    };
    answer(asked.await)
}

async fn settings(State(hands): Shared) -> Response {
    answer(Ok(json!({"service": hands.service, "settings": hands.carrier.shown()})))
}

#[derive(Deserialize)]
struct At {
    time: Timestamp,
}

/// The first position whose event happened at a time or later; none if there is none yet.
async fn position_at(State(hands): Shared, Query(at): Query<At>) -> Response {
    let sql = sql!(
        Scalar<i64>,
        "SELECT COALESCE(MIN(COALESCE(position, seq)), 0) AS value FROM outbox WHERE created_at >= $1 AND published_at IS NOT NULL"
    );
    let found = hands.store.read().one(sql, params![at.time]).await;
    answer(
        found.map(|Scalar(position)| json!({"service": hands.service, "position": (position > 0).then_some(position)})),
    )
}

#[derive(Deserialize)]
struct Move {
    to: Road,
    publisher: Option<String>,
}

async fn move_now(State(hands): Shared, Json(asked): Json<Move>) -> Response {
    let publisher = asked.publisher.as_deref();
    let moved = hands.carrier.move_to(&hands.store, &hands.health, &hands.reactions, publisher, asked.to).await;
    refused(moved.map(|moved| json!({"service": hands.service, "to": asked.to.word(), "moved": moved})))
}

/// What a person asked for and cannot have, with the reason for that person.
fn refused(result: Result<Value, String>) -> Response {
    match result {
        Ok(value) => Json(value).into_response(),
        Err(why) => Problem::new(409, "bus_refuses", why).into_response(),
    }
}

#[derive(Deserialize)]
struct About {
    entity: Uuid,
}

/// What this service published about a thing or with its identity inside, and what it waits for on its behalf.
async fn history(State(hands): Shared, Query(about): Query<About>) -> Response {
    let db = hands.store.read();
    let events = sql!(
        Kept,
        "SELECT seq, id, aggregate_type, aggregate_id, aggregate_version, event_type, payload, headers, created_at FROM outbox WHERE aggregate_id = $1 OR payload LIKE $2 ORDER BY seq LIMIT $3"
    );
    let timers =
        sql!(Waiting, "SELECT step, due_at, attempts FROM saga_timer WHERE entity_id = $1 ORDER BY due_at LIMIT $2");
    let asked = async {
        let events = db.all(events, params![about.entity, format!("%{}%", about.entity), MOST]).await?;
        let timers = db.all(timers, params![about.entity, MOST]).await?;
        Ok(json!({
            "service": hands.service,
            "events": events.iter().map(told).collect::<Vec<_>>(),
            "timers": timers.iter().map(|t| json!({"step": t.step, "due_at": t.due_at, "attempts": t.attempts})).collect::<Vec<_>>(),
        }))
    };
    answer(asked.await)
}

fn told(event: &Kept) -> Value {
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap_or(Value::Null);
    json!({
        "position": event.seq, "id": event.id, "type": event.event_type, "aggregate": event.aggregate_type,
        "subject": event.aggregate_id, "version": event.aggregate_version, "time": event.created_at,
        "traceparent": parsed(&event.headers)["traceparent"], "data": parsed(&event.payload),
    })
}

async fn list_parked(State(hands): Shared) -> Response {
    let rows = parked(&hands.store.read(), MOST).await;
    answer(rows.map(|rows| {
        let told = rows.iter().map(|p| {
            json!({"event_id": p.event_id, "publisher": p.publisher, "type": p.event_type, "subject": p.aggregate_id,
                "version": p.aggregate_version, "position": p.position, "reason": p.reason, "parked_at": p.parked_at})
        });
        json!({"service": hands.service, "parked": told.collect::<Vec<_>>()})
    }))
}

#[derive(Deserialize)]
struct Redrive {
    aggregate: Option<Uuid>,
}

async fn redrive_now(State(hands): Shared, Json(asked): Json<Redrive>) -> Response {
    let done = redrive(&hands.store, &hands.reactions, asked.aggregate).await;
    answer(done.map(|d| json!({"service": hands.service, "handled": d.handled, "stopped": d.stopped})))
}

#[derive(Deserialize)]
struct DropOne {
    event_id: Uuid,
    reason: String,
}

async fn drop_one(State(hands): Shared, Json(asked): Json<DropOne>) -> Response {
    let done = drop_parked(&hands.store, asked.event_id, &asked.reason).await;
    answer(done.map(|dropped| json!({"service": hands.service, "dropped": dropped})))
}

#[derive(Deserialize)]
struct Replay {
    publisher: String,
    #[serde(default)]
    position: i64,
    /// When that position's event happened, for a log that is found by time.
    time: Option<Timestamp>,
    #[serde(default)]
    again: bool,
}

async fn replay_now(State(hands): Shared, Json(asked): Json<Replay>) -> Response {
    let from = (asked.position, asked.time);
    let done = hands.carrier.replay(&hands.store, &hands.health, &asked.publisher, from, asked.again).await;
    refused(done.map(|found| json!({"service": hands.service, "replaying": found})))
}

#[derive(Deserialize)]
struct Adopt {
    publisher: String,
}

async fn adopt(State(hands): Shared, Json(asked): Json<Adopt>) -> Response {
    let done = adopt_epoch(&hands.store, &hands.health, &asked.publisher).await;
    answer(done.map(|found| json!({"service": hands.service, "adopted": found})))
}
