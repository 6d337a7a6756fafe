//! Deliveries, and what was heard of their orders.

use contracts::Place;
use contracts::delivery::DeliveryState;
use contracts::orders::DeliverTo;
use kernel::clock::Timestamp;
use kernel::store::{Db, Json, List, Scalar, StoreError, Tx};
use kernel::telemetry::{Name, Role, Span};
use kernel::{params, row, sql};
use uuid::Uuid;

use crate::delivery::DeliveryStatus;

row! {
    pub(crate) struct DeliveryRow in "deliveries" {
        pub(crate) org_id: Uuid,
        pub(crate) id: Uuid,
        pub(crate) version: i64,
        pub(crate) status: DeliveryStatus,
        pub(crate) ready: bool,
        pub(crate) customer_id: Uuid,
        pub(crate) code: String,
        pub(crate) restaurant_id: Uuid,
        pub(crate) restaurant_name: String,
        pub(crate) pick_up: Json<Place>,
        pub(crate) deliver_to: Json<DeliverTo>,
        pub(crate) courier_id: Option<Uuid>,
        pub(crate) courier_name: Option<String>,
        pub(crate) given_back: i64,
        pub(crate) reason: Option<String>,
        pub(crate) deadline_at: Option<Timestamp>,
        pub(crate) traceparent: String,
        pub(crate) created_at: Timestamp,
        pub(crate) assigned_at: Option<Timestamp>,
        pub(crate) picked_up_at: Option<Timestamp>,
        pub(crate) ended_at: Option<Timestamp>,
        pub(crate) changed_at: Timestamp,
    }
}

/// The columns of [`DeliveryRow`].
macro_rules! delivery_columns {
    () => {
        "org_id, id, version, status, ready, customer_id, code, restaurant_id, restaurant_name, pick_up, deliver_to, courier_id, courier_name, given_back, reason, deadline_at, traceparent, created_at, assigned_at, picked_up_at, ended_at, changed_at"
    };
}

impl DeliveryRow {
    /// The delivery as it is published.
    pub(crate) fn state(&self) -> DeliveryState {
        DeliveryState {
            org_id: self.org_id,
            order_id: self.id,
            version: self.version,
            courier_id: self.courier_id,
            courier_name: self.courier_name.clone(),
            reason: self.reason.clone(),
            at: self.changed_at,
        }
    }

    /// A further step of the trace that the order was confirmed in.
    pub(crate) fn span(&self, step: &'static str) -> Span {
        Span::after(&self.traceparent, Role::Internal, Name("delivery", step))
    }
}

row! {
    /// What was heard of an order.
    #[derive(Copy)]
    pub(crate) struct Heard {
        pub(crate) ready: bool,
        pub(crate) ended: bool,
    }
}

/// Writes down what was heard of an order, gives all that was, and keeps everybody else from judging it meanwhile.
pub(crate) async fn hear(tx: &Tx, org: Uuid, order: Uuid, news: Heard) -> Result<Heard, StoreError> {
    let sql = sql!(
        Heard,
        "INSERT INTO orders_heard (org_id, order_id, ready, ended) VALUES ($1, $2, $3, $4) ON CONFLICT (org_id, order_id) DO UPDATE SET ready = orders_heard.ready OR excluded.ready, ended = orders_heard.ended OR excluded.ended RETURNING ready, ended"
    );
    tx.one(sql, params![org, order, news.ready, news.ended]).await
}

pub(crate) async fn delivery(db: &Db, org: Uuid, order: Uuid) -> Result<Option<DeliveryRow>, StoreError> {
    let sql =
        sql!(DeliveryRow, concat!("SELECT ", delivery_columns!(), " FROM deliveries WHERE org_id = $1 AND id = $2"));
    db.maybe(sql, params![org, order]).await
}

/// The same where the organisation is not known yet.
pub(crate) async fn delivery_by_id(db: &Db, order: Uuid) -> Result<Option<DeliveryRow>, StoreError> {
    let sql = sql!(DeliveryRow, concat!("SELECT ", delivery_columns!(), " FROM deliveries WHERE id = $1"));
    db.maybe(sql, params![order]).await
}

/// The first to wait come first.
pub(crate) async fn waiting(db: &Db, limit: i64) -> Result<Vec<DeliveryRow>, StoreError> {
    let sql = sql!(
        DeliveryRow,
        concat!(
            "SELECT ",
            delivery_columns!(),
            " FROM deliveries WHERE status = 'WAITING' ORDER BY created_at, id LIMIT $1"
        )
    );
    db.all(sql, params![limit]).await
}

/// Moves a delivery on from exactly what it was, and says whether its food is ready; none if somebody else was first.
pub(crate) async fn move_delivery(tx: &Tx, from: &DeliveryRow, to: &DeliveryRow) -> Result<Option<bool>, StoreError> {
    let sql = sql!(
        Scalar<bool>,
        "UPDATE deliveries SET status = $1, version = $2, courier_id = $3, courier_name = $4, given_back = $5, reason = $6, deadline_at = $7, assigned_at = $8, picked_up_at = $9, ended_at = $10, changed_at = $11 WHERE org_id = $12 AND id = $13 AND status = $14 AND version = $15 RETURNING ready AS value"
    );
    let values = params![
        to.status,
        to.version,
        to.courier_id,
        to.courier_name,
        to.given_back,
        to.reason,
        to.deadline_at,
        to.assigned_at,
        to.picked_up_at,
        to.ended_at,
        to.changed_at,
        from.org_id,
        from.id,
        from.status,
        from.version
    ];
    Ok(tx.maybe(sql, values).await?.map(|Scalar(ready)| ready))
}

/// Notes that the food is ready; gives the delivery, or none if there is none or it was known.
pub(crate) async fn mark_ready(tx: &Tx, org: Uuid, order: Uuid) -> Result<Option<DeliveryRow>, StoreError> {
    let sql = sql!(
        DeliveryRow,
        concat!(
            "UPDATE deliveries SET ready = TRUE WHERE org_id = $1 AND id = $2 AND NOT ready RETURNING ",
            delivery_columns!()
        )
    );
    tx.maybe(sql, params![org, order]).await
}

/// Which deliveries to list; newest order first.
pub(crate) struct Wanted {
    pub(crate) courier: Option<Uuid>,
    pub(crate) status: Option<DeliveryStatus>,
    /// The last one of the page before.
    pub(crate) before: Option<Uuid>,
}

pub(crate) async fn list_deliveries(db: &Db, wanted: Wanted, limit: i64) -> Result<Vec<DeliveryRow>, StoreError> {
    List::new(concat!("SELECT ", delivery_columns!(), " FROM deliveries"))
        .and_if("courier_id = {}", wanted.courier)
        .and_if("status = {}", wanted.status)
        .and_if("id < {}", wanted.before)
        .fetch(db, "id DESC", limit)
        .await
}
