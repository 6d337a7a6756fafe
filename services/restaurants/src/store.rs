//! All SQL of the restaurants service.

use contracts::Place;
use contracts::restaurants::{Hours, MenuItem, MenuState, OptionGroup, RestaurantState};
use kernel::clock::Timestamp;
use kernel::money::Currency;
use kernel::store::{Db, Glance, Json, List, Migration, Scalar, StoreError, Tx};
use kernel::{params, row, sql};
use uuid::Uuid;

use crate::restaurant::in_week;

pub(crate) const STEPS: &[Migration] =
    &[Migration { name: "001_restaurants", sql: include_str!("../migrations/001_restaurants.sql") }];

row! {
    pub(crate) struct RestaurantRow in "restaurants" {
        pub(crate) org_id: Uuid,
        pub(crate) id: Uuid,
        pub(crate) version: i64,
        pub(crate) menu_version: i64,
        pub(crate) name: String,
        pub(crate) name_folded: String,
        pub(crate) cuisine: String,
        pub(crate) cuisine_folded: String,
        pub(crate) street: String,
        pub(crate) city: String,
        pub(crate) longitude_e6: i64,
        pub(crate) latitude_e6: i64,
        pub(crate) currency: Currency,
        pub(crate) utc_offset_minutes: i64,
        pub(crate) hours: Json<Vec<Hours>>,
        pub(crate) paused: bool,
        pub(crate) auto_accept: bool,
        pub(crate) prep_minutes: i64,
        pub(crate) delivery_fee_minor: i64,
        pub(crate) minimum_order_minor: i64,
        pub(crate) created_at: Timestamp,
    }
}

/// The columns of [`RestaurantRow`].
macro_rules! restaurant_columns {
    () => {
        "org_id, id, version, menu_version, name, name_folded, cuisine, cuisine_folded, street, city, longitude_e6, latitude_e6, currency, utc_offset_minutes, hours, paused, auto_accept, prep_minutes, delivery_fee_minor, minimum_order_minor, created_at"
    };
}

row! {
    struct OpeningRow in "opening_hours" {
        org_id: Uuid,
        restaurant_id: Uuid,
        from_minute: i64,
        to_minute: i64,
    }
}

row! {
    pub(crate) struct ItemRow in "menu_items" {
        pub(crate) org_id: Uuid,
        pub(crate) restaurant_id: Uuid,
        pub(crate) id: Uuid,
        pub(crate) position: i64,
        pub(crate) name: String,
        pub(crate) description: String,
        pub(crate) category: String,
        pub(crate) price_minor: i64,
        pub(crate) tax_basis_points: i64,
        pub(crate) sold_out: bool,
        pub(crate) daily_stock: Option<i64>,
        pub(crate) options: Json<Vec<OptionGroup>>,
    }
}

/// The columns of [`ItemRow`].
macro_rules! item_columns {
    () => {
        "org_id, restaurant_id, id, position, name, description, category, price_minor, tax_basis_points, sold_out, daily_stock, options"
    };
}

row! {
    struct NameKey {
        name_folded: String,
        id: Uuid,
    }
}

impl RestaurantRow {
    /// The restaurant as it is published.
    pub(crate) fn state(&self) -> RestaurantState {
        RestaurantState {
            org_id: self.org_id,
            restaurant_id: self.id,
            version: self.version,
            name: self.name.clone(),
            cuisine: self.cuisine.clone(),
            street: self.street.clone(),
            city: self.city.clone(),
            place: Place { longitude_e6: self.longitude_e6, latitude_e6: self.latitude_e6 },
            currency: self.currency,
            utc_offset_minutes: self.utc_offset_minutes,
            hours: self.hours.0.clone(),
            paused: self.paused,
            auto_accept: self.auto_accept,
            prep_minutes: self.prep_minutes,
            delivery_fee_minor: self.delivery_fee_minor,
            minimum_order_minor: self.minimum_order_minor,
        }
    }
}

impl ItemRow {
    /// The item as it is published.
    pub(crate) fn item(self) -> MenuItem {
        MenuItem {
            item_id: self.id,
            name: self.name,
            description: self.description,
            category: self.category,
            price_minor: self.price_minor,
            tax_basis_points: self.tax_basis_points,
            sold_out: self.sold_out,
            daily_stock: self.daily_stock,
            options: self.options.0,
        }
    }
}

/// Which restaurants to list.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// Folded cuisine.
    pub(crate) cuisine: Option<String>,
    /// LIKE pattern over the folded name.
    pub(crate) name_like: Option<String>,
    /// Open at this minute of the UTC week.
    pub(crate) open_at: Option<i64>,
    /// Name and id of the last one of the page before.
    pub(crate) after: Option<(String, Uuid)>,
}

pub(crate) async fn list(db: &Glance, wanted: Wanted, limit: i64) -> Result<Vec<RestaurantRow>, StoreError> {
    List::new(concat!("SELECT ", restaurant_columns!(), " FROM restaurants"))
        .and_if("cuisine_folded = {}", wanted.cuisine)
        .and_if("name_folded LIKE {} ESCAPE '!'", wanted.name_like)
        .and_if(
            "NOT paused AND EXISTS (SELECT 1 FROM opening_hours o WHERE o.org_id = restaurants.org_id AND o.restaurant_id = restaurants.id AND o.from_minute <= ({} + restaurants.utc_offset_minutes + 10080) % 10080 AND o.to_minute > ({} + restaurants.utc_offset_minutes + 10080) % 10080)",
            wanted.open_at,
        )
        .and_pair("(name_folded, id) > ({}, {})", wanted.after)
        .fetch(db, "name_folded, id", limit)
        .await
}

/// Where a restaurant stands in the list.
pub(crate) async fn name_key(db: &Db, id: Uuid) -> Result<Option<(String, Uuid)>, StoreError> {
    let found = db.maybe(sql!(NameKey, "SELECT name_folded, id FROM restaurants WHERE id = $1"), params![id]).await?;
    Ok(found.map(|key| (key.name_folded, key.id)))
}

pub(crate) async fn find(db: &Db, id: Uuid) -> Result<Option<RestaurantRow>, StoreError> {
    db.maybe(
        sql!(RestaurantRow, concat!("SELECT ", restaurant_columns!(), " FROM restaurants WHERE id = $1")),
        params![id],
    )
    .await
}

pub(crate) async fn is_empty(db: &Db) -> Result<bool, StoreError> {
    let found = db.one(sql!(Scalar<i64>, "SELECT COUNT(*) AS value FROM restaurants"), params![]).await?;
    Ok(found.0 == 0)
}

/// Adds a restaurant with its hours unless it is there already; says whether it was new.
pub(crate) async fn add(tx: &Tx, restaurant: &RestaurantRow) -> Result<bool, StoreError> {
    let new = tx.add(restaurant).await?;
    if new {
        insert_hours(tx, restaurant).await?;
    }
    Ok(new)
}

/// Counts a change of the restaurant; whoever comes second waits here and sees the first one's change.
pub(crate) async fn next_version(tx: &Tx, org: Uuid, id: Uuid) -> Result<RestaurantRow, StoreError> {
    tx.one(
        sql!(
            RestaurantRow,
            concat!(
                "UPDATE restaurants SET version = version + 1 WHERE org_id = $1 AND id = $2 RETURNING ",
                restaurant_columns!()
            )
        ),
        params![org, id],
    )
    .await
}

/// Stores the settings of a restaurant whose change was counted by [`next_version`] in the same unit.
pub(crate) async fn save(tx: &Tx, r: &RestaurantRow) -> Result<(), StoreError> {
    let touched = tx
        .run(
            sql!(
                "UPDATE restaurants SET name = $1, name_folded = $2, cuisine = $3, cuisine_folded = $4, street = $5, city = $6, longitude_e6 = $7, latitude_e6 = $8, utc_offset_minutes = $9, hours = $10, paused = $11, auto_accept = $12, prep_minutes = $13, delivery_fee_minor = $14, minimum_order_minor = $15 WHERE org_id = $16 AND id = $17 AND version = $18"
            ),
            params![
                r.name, r.name_folded, r.cuisine, r.cuisine_folded, r.street, r.city, r.longitude_e6, r.latitude_e6,
                r.utc_offset_minutes, r.hours, r.paused, r.auto_accept, r.prep_minutes, r.delivery_fee_minor,
                r.minimum_order_minor, r.org_id, r.id, r.version
            ],
        )
        .await?;
    if touched != 1 {
        return Err(StoreError::NoRow);
    }
    tx.run(sql!("DELETE FROM opening_hours WHERE org_id = $1 AND restaurant_id = $2"), params![r.org_id, r.id]).await?;
    insert_hours(tx, r).await
}

async fn insert_hours(tx: &Tx, r: &RestaurantRow) -> Result<(), StoreError> {
    for hours in &r.hours.0 {
        let (from_minute, to_minute) = in_week(hours);
        tx.insert(&OpeningRow { org_id: r.org_id, restaurant_id: r.id, from_minute, to_minute }).await?;
    }
    Ok(())
}

/// Counts a change of the menu and gives its new version; whoever comes second waits here.
pub(crate) async fn next_menu_version(tx: &Tx, org: Uuid, id: Uuid) -> Result<i64, StoreError> {
    let version = tx
        .one(
            sql!(
                Scalar<i64>,
                "UPDATE restaurants SET menu_version = menu_version + 1 WHERE org_id = $1 AND id = $2 RETURNING menu_version AS value"
            ),
            params![org, id],
        )
        .await?;
    Ok(version.0)
}

/// The whole menu in reading order.
pub(crate) async fn menu(db: &Db, restaurant: &RestaurantRow, version: i64) -> Result<MenuState, StoreError> {
    let items = db
        .all(
            sql!(
                ItemRow,
                concat!(
                    "SELECT ",
                    item_columns!(),
                    " FROM menu_items WHERE org_id = $1 AND restaurant_id = $2 ORDER BY position, id"
                )
            ),
            params![restaurant.org_id, restaurant.id],
        )
        .await?;
    Ok(MenuState {
        org_id: restaurant.org_id,
        restaurant_id: restaurant.id,
        version,
        currency: restaurant.currency,
        items: items.into_iter().map(ItemRow::item).collect(),
    })
}

pub(crate) async fn item(db: &Db, org: Uuid, restaurant: Uuid, id: Uuid) -> Result<Option<ItemRow>, StoreError> {
    db.maybe(
        sql!(
            ItemRow,
            concat!(
                "SELECT ",
                item_columns!(),
                " FROM menu_items WHERE org_id = $1 AND restaurant_id = $2 AND id = $3"
            )
        ),
        params![org, restaurant, id],
    )
    .await
}

pub(crate) async fn last_position(db: &Db, org: Uuid, restaurant: Uuid) -> Result<i64, StoreError> {
    let found = db
        .one(
            sql!(
                Scalar<i64>,
                "SELECT COALESCE(MAX(position), 0) AS value FROM menu_items WHERE org_id = $1 AND restaurant_id = $2"
            ),
            params![org, restaurant],
        )
        .await?;
    Ok(found.0)
}

/// Puts an item on the menu, or replaces the one with its id.
pub(crate) async fn put_item(tx: &Tx, item: &ItemRow) -> Result<(), StoreError> {
    tx.run(
        sql!(concat!(
            "INSERT INTO menu_items (",
            item_columns!(),
            ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (org_id, restaurant_id, id) DO UPDATE SET position = excluded.position, name = excluded.name, description = excluded.description, category = excluded.category, price_minor = excluded.price_minor, tax_basis_points = excluded.tax_basis_points, sold_out = excluded.sold_out, daily_stock = excluded.daily_stock, options = excluded.options"
        )),
        params![
            item.org_id, item.restaurant_id, item.id, item.position, item.name, item.description, item.category,
            item.price_minor, item.tax_basis_points, item.sold_out, item.daily_stock, item.options
        ],
    )
    .await
    .map(drop)
}

/// Takes an item off the menu; says whether it was there.
pub(crate) async fn remove_item(tx: &Tx, org: Uuid, restaurant: Uuid, id: Uuid) -> Result<bool, StoreError> {
    let touched = tx
        .run(
            sql!("DELETE FROM menu_items WHERE org_id = $1 AND restaurant_id = $2 AND id = $3"),
            params![org, restaurant, id],
        )
        .await?;
    Ok(touched == 1)
}
