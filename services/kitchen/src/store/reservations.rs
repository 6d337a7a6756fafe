//! Reservations and their lines.

use contracts::kitchen::ReservationState;
use kernel::clock::Timestamp;
use kernel::store::{Db, Json, Scalar, StoreError, Tx};
use kernel::{params, row, sql};
use uuid::Uuid;

use super::exactly_one;

kernel::words! {
    /// What became of a reservation.
    pub(crate) enum ReservationStatus {
        /// Everything is set aside.
        Reserved = "RESERVED",
        /// Something was missing; nothing was set aside.
        Rejected = "REJECTED",
        /// What was set aside is free again.
        Released = "RELEASED",
        /// What was set aside is used up.
        Consumed = "CONSUMED",
        /// The order ended before it could be set aside for.
        Barred = "BARRED",
    }
}

row! {
    pub(crate) struct ReservationRow in "reservations" {
        pub(crate) org_id: Uuid,
        pub(crate) id: Uuid,
        pub(crate) restaurant_id: Uuid,
        pub(crate) version: i64,
        pub(crate) status: ReservationStatus,
        pub(crate) missing: Json<Vec<String>>,
        pub(crate) changed_at: Timestamp,
    }
}

row! {
    pub(crate) struct LineRow in "reservation_lines" {
        pub(crate) org_id: Uuid,
        pub(crate) order_id: Uuid,
        pub(crate) item_id: Uuid,
        pub(crate) quantity: i64,
    }
}

impl ReservationRow {
    /// The reservation as it is published.
    pub(crate) fn state(self) -> ReservationState {
        ReservationState {
            org_id: self.org_id,
            order_id: self.id,
            version: self.version,
            restaurant_id: self.restaurant_id,
            missing: self.missing.0,
            at: self.changed_at,
        }
    }
}

/// Turns a fresh reservation into a refusal.
pub(crate) async fn reject_reservation(tx: &Tx, row: &ReservationRow) -> Result<(), StoreError> {
    let touched = tx
        .run(
            sql!("UPDATE reservations SET status = 'REJECTED', missing = $1 WHERE org_id = $2 AND id = $3 AND status = 'RESERVED'"),
            params![row.missing, row.org_id, row.id],
        )
        .await?;
    exactly_one(touched)
}

/// Ends a live reservation with its stock free again; gives it, or none if it was not live.
pub(crate) async fn release(tx: &Tx, org: Uuid, order: Uuid) -> Result<Option<ReservationRow>, StoreError> {
    tx.maybe(
        sql!(
            ReservationRow,
            "UPDATE reservations SET status = 'RELEASED', version = version + 1, changed_at = $1 WHERE org_id = $2 AND id = $3 AND status = 'RESERVED' RETURNING org_id, id, restaurant_id, version, status, missing, changed_at"
        ),
        params![tx.now(), org, order],
    )
    .await
}

/// Ends a live reservation with its stock used up, which is published as the start of cooking; gives its restaurant.
pub(crate) async fn consume(tx: &Tx, org: Uuid, order: Uuid) -> Result<Option<Uuid>, StoreError> {
    let found = tx
        .maybe(
            sql!(
                Scalar<Uuid>,
                "UPDATE reservations SET status = 'CONSUMED', changed_at = $1 WHERE org_id = $2 AND id = $3 AND status = 'RESERVED' RETURNING restaurant_id AS value"
            ),
            params![tx.now(), org, order],
        )
        .await?;
    Ok(found.map(|Scalar(restaurant)| restaurant))
}

pub(crate) async fn reservation_status(
    db: &Db,
    org: Uuid,
    order: Uuid,
) -> Result<Option<ReservationStatus>, StoreError> {
    let found = db
        .maybe(
            sql!(Scalar<ReservationStatus>, "SELECT status AS value FROM reservations WHERE org_id = $1 AND id = $2"),
            params![org, order],
        )
        .await?;
    Ok(found.map(|Scalar(status)| status))
}

/// What was set aside for an order, in the order in which stock is taken.
pub(crate) async fn lines(db: &Db, org: Uuid, order: Uuid) -> Result<Vec<LineRow>, StoreError> {
    db.all(
        sql!(
            LineRow,
            "SELECT org_id, order_id, item_id, quantity FROM reservation_lines WHERE org_id = $1 AND order_id = $2 ORDER BY item_id"
        ),
        params![org, order],
    )
    .await
}
