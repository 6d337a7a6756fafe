//! Couriers, their shifts and places, and their assignments. All of it belongs to the platform.

use contracts::Place;
use kernel::clock::Timestamp;
use kernel::store::{Db, Scalar, StoreError, Tx};
use kernel::{params, row, sql};
use uuid::Uuid;

use super::exactly_one;
use crate::delivery::GIVEN_BACK;
use crate::nearest::FreeCourier;

/// The organisation of what belongs to no restaurant.
pub(crate) const PLATFORM: Uuid = Uuid::nil();

row! {
    pub(crate) struct CourierRow in "couriers" {
        pub(crate) org_id: Uuid,
        pub(crate) id: Uuid,
        pub(crate) name: String,
        pub(crate) on_shift: bool,
        pub(crate) busy_with: Option<Uuid>,
        pub(crate) changed_at: Timestamp,
    }
}

row! {
    struct ShiftRow in "shifts" {
        org_id: Uuid,
        id: Uuid,
        courier_id: Uuid,
        began_at: Timestamp,
        ended_at: Option<Timestamp>,
    }
}

row! {
    pub(crate) struct PositionRow {
        pub(crate) longitude_e6: i64,
        pub(crate) latitude_e6: i64,
        pub(crate) at: Timestamp,
    }
}

impl PositionRow {
    pub(crate) fn place(&self) -> Place {
        Place { longitude_e6: self.longitude_e6, latitude_e6: self.latitude_e6 }
    }
}

row! {
    struct AssignmentRow in "assignments" {
        org_id: Uuid,
        id: Uuid,
        courier_id: Uuid,
        order_id: Uuid,
        assigned_at: Timestamp,
        ended_at: Option<Timestamp>,
        ending: Option<String>,
    }
}

pub(crate) async fn courier(db: &Db, id: Uuid) -> Result<Option<CourierRow>, StoreError> {
    let sql = sql!(
        CourierRow,
        "SELECT org_id, id, name, on_shift, busy_with, changed_at FROM couriers WHERE org_id = $1 AND id = $2"
    );
    db.maybe(sql, params![PLATFORM, id]).await
}

/// Puts a courier on shift under this name; whoever was not known is now.
pub(crate) async fn begin_shift(tx: &Tx, id: Uuid, name: &str) -> Result<(), StoreError> {
    let sql = sql!(
        "INSERT INTO couriers (org_id, id, name, on_shift, changed_at) VALUES ($1, $2, $3, TRUE, $4) ON CONFLICT (org_id, id) DO UPDATE SET name = excluded.name, on_shift = TRUE, changed_at = excluded.changed_at"
    );
    tx.run(sql, params![PLATFORM, id, *name, tx.now()]).await?;
    let shift =
        ShiftRow { org_id: PLATFORM, id: kernel::ids::fresh(), courier_id: id, began_at: tx.now(), ended_at: None };
    tx.add(&shift).await.map(drop)
}

/// Ends a courier's shift; what they bring, they still bring.
pub(crate) async fn end_shift(tx: &Tx, id: Uuid) -> Result<(), StoreError> {
    let off = sql!("UPDATE couriers SET on_shift = FALSE, changed_at = $1 WHERE org_id = $2 AND id = $3");
    tx.run(off, params![tx.now(), PLATFORM, id]).await?;
    let ended = sql!("UPDATE shifts SET ended_at = $1 WHERE org_id = $2 AND courier_id = $3 AND ended_at IS NULL");
    tx.run(ended, params![tx.now(), PLATFORM, id]).await.map(drop)
}

pub(crate) async fn position(db: &Db, courier: Uuid) -> Result<Option<PositionRow>, StoreError> {
    let sql =
        sql!(PositionRow, "SELECT longitude_e6, latitude_e6, at FROM positions WHERE org_id = $1 AND courier_id = $2");
    db.maybe(sql, params![PLATFORM, courier]).await
}

/// Keeps where a courier is.
pub(crate) async fn put_position(tx: &Tx, courier: Uuid, place: Place) -> Result<(), StoreError> {
    let sql = sql!(
        "INSERT INTO positions (org_id, courier_id, longitude_e6, latitude_e6, at) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (org_id, courier_id) DO UPDATE SET longitude_e6 = excluded.longitude_e6, latitude_e6 = excluded.latitude_e6, at = excluded.at"
    );
    tx.run(sql, params![PLATFORM, courier, place.longitude_e6, place.latitude_e6, tx.now()]).await.map(drop)
}

pub(crate) async fn free_couriers(db: &Db) -> Result<Vec<FreeCourier>, StoreError> {
    let sql = sql!(
        FreeCourier,
        "SELECT c.id, c.name, p.longitude_e6, p.latitude_e6 FROM couriers c JOIN positions p ON p.org_id = c.org_id AND p.courier_id = c.id WHERE c.org_id = $1 AND c.on_shift AND c.busy_with IS NULL ORDER BY c.id"
    );
    db.all(sql, params![PLATFORM]).await
}

/// Makes a free courier busy with an order; false if they are no longer free.
pub(crate) async fn occupy(tx: &Tx, courier: Uuid, order: Uuid) -> Result<bool, StoreError> {
    let sql = sql!(
        "UPDATE couriers SET busy_with = $1, changed_at = $2 WHERE org_id = $3 AND id = $4 AND on_shift AND busy_with IS NULL"
    );
    Ok(tx.run(sql, params![order, tx.now(), PLATFORM, courier]).await? == 1)
}

/// Makes a courier free again who is busy with this order.
pub(crate) async fn free(tx: &Tx, courier: Uuid, order: Uuid) -> Result<(), StoreError> {
    let sql =
        sql!("UPDATE couriers SET busy_with = NULL, changed_at = $1 WHERE org_id = $2 AND id = $3 AND busy_with = $4");
    exactly_one(tx.run(sql, params![tx.now(), PLATFORM, courier, order]).await?)
}

/// Records that a courier has taken on an order.
pub(crate) async fn begin_assignment(tx: &Tx, courier_id: Uuid, order_id: Uuid) -> Result<(), StoreError> {
    let (id, assigned_at) = (kernel::ids::fresh(), tx.now());
    let row = AssignmentRow { org_id: PLATFORM, id, courier_id, order_id, assigned_at, ended_at: None, ending: None };
    tx.insert(&row).await
}

/// Ends the one assignment of an order that is under way.
pub(crate) async fn end_assignment(tx: &Tx, order: Uuid, ending: &str) -> Result<(), StoreError> {
    let sql = sql!(
        "UPDATE assignments SET ended_at = $1, ending = $2 WHERE org_id = $3 AND order_id = $4 AND ended_at IS NULL"
    );
    exactly_one(tx.run(sql, params![tx.now(), *ending, PLATFORM, order]).await?)
}

/// Who gave this order back.
pub(crate) async fn gave_back(db: &Db, order: Uuid) -> Result<Vec<Uuid>, StoreError> {
    let sql = sql!(
        Scalar<Uuid>,
        "SELECT courier_id AS value FROM assignments WHERE org_id = $1 AND order_id = $2 AND ending = $3 ORDER BY courier_id"
    );
    let rows = db.all(sql, params![PLATFORM, order, *GIVEN_BACK]).await?;
    Ok(rows.into_iter().map(|Scalar(courier)| courier).collect())
}
