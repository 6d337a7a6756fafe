//! Stock: limits, what is on hand, what is reserved.

use std::collections::BTreeMap;

use kernel::store::{AnyOf, Db, List, Scalar, StoreError, Tx, any};
use kernel::{params, row, sql};
use uuid::Uuid;

use super::exactly_one;
use crate::stock::{Change, Known};

row! {
    pub(crate) struct StockRow in "stock" {
        pub(crate) org_id: Uuid,
        pub(crate) restaurant_id: Uuid,
        pub(crate) item_id: Uuid,
        pub(crate) name: String,
        pub(crate) daily_stock: Option<i64>,
        pub(crate) on_hand: i64,
        pub(crate) reserved: i64,
        pub(crate) restocked_day: i64,
    }
}

/// The columns of [`StockRow`].
macro_rules! stock_columns {
    () => {
        "org_id, restaurant_id, item_id, name, daily_stock, on_hand, reserved, restocked_day"
    };
}

row! {
    /// A restaurant that counts some of its items.
    pub(crate) struct Counting {
        pub(crate) org_id: Uuid,
        pub(crate) restaurant_id: Uuid,
    }
}

/// What is known of a restaurant's items, by item.
pub(crate) async fn known_stock(db: &Db, org: Uuid, restaurant: Uuid) -> Result<BTreeMap<Uuid, Known>, StoreError> {
    let rows = db
        .all(
            sql!(
                StockRow,
                concat!("SELECT ", stock_columns!(), " FROM stock WHERE org_id = $1 AND restaurant_id = $2")
            ),
            params![org, restaurant],
        )
        .await?;
    Ok(rows.into_iter().map(|row| (row.item_id, Known { name: row.name, daily: row.daily_stock })).collect())
}

/// Makes one item's stock fit the menu; never below what is set aside.
pub(crate) async fn apply(tx: &Tx, at: &Counting, item: Uuid, change: Change, today: i64) -> Result<(), StoreError> {
    let (org, restaurant) = (at.org_id, at.restaurant_id);
    match change {
        Change::Count { name, daily } => {
            let (org_id, restaurant_id, item_id) = (org, restaurant, item);
            let (daily_stock, on_hand, reserved, restocked_day) = (Some(daily), daily, 0, today);
            tx.insert(&StockRow { org_id, restaurant_id, item_id, name, daily_stock, on_hand, reserved, restocked_day }).await
        }
        Change::Move { name, daily, by } => exactly_one(
            tx.run(
                sql!("UPDATE stock SET name = $1, daily_stock = $2, on_hand = CASE WHEN on_hand + $3 < reserved THEN reserved ELSE on_hand + $3 END WHERE org_id = $4 AND restaurant_id = $5 AND item_id = $6"),
                params![name, daily, by, org, restaurant, item],
            )
            .await?,
        ),
        Change::Refill { name, daily } => exactly_one(
            tx.run(
                sql!("UPDATE stock SET name = $1, daily_stock = $2, on_hand = CASE WHEN reserved > $2 THEN reserved ELSE $2 END, restocked_day = $3 WHERE org_id = $4 AND restaurant_id = $5 AND item_id = $6"),
                params![name, daily, today, org, restaurant, item],
            )
            .await?,
        ),
        Change::Lift => exactly_one(
            tx.run(
                sql!("UPDATE stock SET daily_stock = NULL WHERE org_id = $1 AND restaurant_id = $2 AND item_id = $3"),
                params![org, restaurant, item],
            )
            .await?,
        ),
    }
}

/// Restaurants with counted items that were last restocked before `day`, which is the latest day anywhere on Earth.
pub(crate) async fn counting(db: &Db, day: i64) -> Result<Vec<Counting>, StoreError> {
    db.all(
        sql!(
            Counting,
            "SELECT DISTINCT org_id, restaurant_id FROM stock WHERE daily_stock IS NOT NULL AND restocked_day < $1 ORDER BY org_id, restaurant_id"
        ),
        params![day],
    )
    .await
}

/// Fills a restaurant's stock up for a new day, once a day; gives how many items were filled up.
pub(crate) async fn restock(tx: &Tx, at: &Counting, day: i64) -> Result<usize, StoreError> {
    let due = tx
        .all(
            sql!(
                Scalar<Uuid>,
                "SELECT item_id AS value FROM stock WHERE org_id = $1 AND restaurant_id = $2 AND daily_stock IS NOT NULL AND restocked_day < $3 ORDER BY item_id"
            ),
            params![at.org_id, at.restaurant_id, day],
        )
        .await?;
    for Scalar(item) in &due {
        tx.run(
            sql!("UPDATE stock SET on_hand = CASE WHEN reserved > daily_stock THEN reserved ELSE daily_stock END, restocked_day = $1 WHERE org_id = $2 AND restaurant_id = $3 AND item_id = $4 AND daily_stock IS NOT NULL AND restocked_day < $1"),
            params![day, at.org_id, at.restaurant_id, *item],
        )
        .await?;
    }
    Ok(due.len())
}

/// Which of these items are counted.
pub(crate) async fn limited(db: &Db, org: Uuid, restaurant: Uuid, items: &[Uuid]) -> Result<Vec<Uuid>, StoreError> {
    let found = db
        .all(
            sql!(
                Scalar<Uuid>,
                "SELECT item_id AS value FROM stock WHERE org_id = $1 AND restaurant_id = $2 AND daily_stock IS NOT NULL AND item_id = ANY($3) ORDER BY item_id"
            ),
            params![org, restaurant, any(items)],
        )
        .await?;
    Ok(found.into_iter().map(|Scalar(item)| item).collect())
}

/// Sets some of an item aside if there is enough; says whether there was.
pub(crate) async fn set_aside(
    tx: &Tx,
    org: Uuid,
    restaurant: Uuid,
    item: Uuid,
    quantity: i64,
) -> Result<bool, StoreError> {
    let touched = tx
        .run(
            sql!("UPDATE stock SET reserved = reserved + $1 WHERE org_id = $2 AND restaurant_id = $3 AND item_id = $4 AND on_hand - reserved >= $1"),
            params![quantity, org, restaurant, item],
        )
        .await?;
    Ok(touched == 1)
}

/// Frees what was set aside.
pub(crate) async fn put_back(
    tx: &Tx,
    org: Uuid,
    restaurant: Uuid,
    item: Uuid,
    quantity: i64,
) -> Result<(), StoreError> {
    let touched = tx
        .run(
            sql!("UPDATE stock SET reserved = reserved - $1 WHERE org_id = $2 AND restaurant_id = $3 AND item_id = $4 AND reserved >= $1"),
            params![quantity, org, restaurant, item],
        )
        .await?;
    exactly_one(touched)
}

/// Uses up what was set aside.
pub(crate) async fn use_up(tx: &Tx, org: Uuid, restaurant: Uuid, item: Uuid, quantity: i64) -> Result<(), StoreError> {
    let touched = tx
        .run(
            sql!("UPDATE stock SET on_hand = on_hand - $1, reserved = reserved - $1 WHERE org_id = $2 AND restaurant_id = $3 AND item_id = $4 AND reserved >= $1"),
            params![quantity, org, restaurant, item],
        )
        .await?;
    exactly_one(touched)
}

/// Counted items of a restaurant by item, after one of them.
pub(crate) async fn list_stock(
    db: &Db,
    orgs: Option<AnyOf>,
    restaurant: Uuid,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<StockRow>, StoreError> {
    List::new(concat!("SELECT ", stock_columns!(), " FROM stock"))
        .and("restaurant_id = {}", restaurant)
        .and_if("org_id = ANY({})", orgs)
        .and_if("item_id > {}", after)
        .fetch(db, "item_id", limit)
        .await
}

pub(crate) async fn stock_item(db: &Db, restaurant: Uuid, item: Uuid) -> Result<Option<StockRow>, StoreError> {
    db.maybe(
        sql!(StockRow, concat!("SELECT ", stock_columns!(), " FROM stock WHERE restaurant_id = $1 AND item_id = $2")),
        params![restaurant, item],
    )
    .await
}

/// Corrects what is on hand; none if more is set aside than that.
pub(crate) async fn count_stock(tx: &Tx, row: &StockRow, on_hand: i64) -> Result<Option<StockRow>, StoreError> {
    tx.maybe(
        sql!(
            StockRow,
            concat!(
                "UPDATE stock SET on_hand = $1 WHERE org_id = $2 AND restaurant_id = $3 AND item_id = $4 AND reserved <= $1 RETURNING ",
                stock_columns!()
            )
        ),
        params![on_hand, row.org_id, row.restaurant_id, row.item_id],
    )
    .await
}
