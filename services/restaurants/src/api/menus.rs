//! Handlers about menus: showing one, putting items on it, taking them off, marking them sold out.

use std::sync::Arc;

use contracts::restaurants::{MenuChanged, MenuItem, MenuState, OptionGroup};
use garde::Validate;
use kernel::cache::Loaded;
use kernel::http::{Body, Caller, Done, Fail, Json, Path};
use kernel::store::{Json as JsonColumn, Tx};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{ItemPath, Refusal, RestaurantPath, editable, plain_text, without_card};
use crate::Restaurants;
use crate::menu::{MOST_ITEMS, check_options};
use crate::store::{self, ItemRow, RestaurantRow};

pub(crate) async fn show_menu(
    state: Arc<Restaurants>,
    Path(path): Path<RestaurantPath>,
) -> Result<Json<MenuState>, Fail> {
    let load = async || {
        let db = state.store.read();
        let Some(restaurant) = store::find(&db, path.id).await? else { return Ok(None) };
        let value = store::menu(&db, &restaurant, restaurant.menu_version).await?;
        Ok::<_, Fail>(Some(Loaded { version: restaurant.menu_version, value }))
    };
    let menu = state.menus.get(path.id, load).await?.ok_or_else(Fail::not_found)?;
    Ok(Json(MenuState::clone(&menu)))
}

/// An item as it shall stand on the menu.
#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct ItemToPut {
    /// Its name.
    #[garde(length(min = 1, max = 80), custom(plain_text))]
    name: String,
    /// A sentence about it.
    #[serde(default)]
    #[garde(length(max = 300), custom(without_card))]
    description: String,
    /// Such as `Starters`.
    #[garde(length(min = 1, max = 40), custom(plain_text))]
    category: String,
    /// Price of one, tax included.
    #[garde(range(min = 0, max = 10_000_000))]
    price_minor: i64,
    /// Tax contained in the price, in basis points.
    #[garde(range(min = 0, max = 10_000))]
    tax_basis_points: i64,
    /// Sold out items stay on the menu and cannot be ordered.
    #[serde(default)]
    #[garde(skip)]
    sold_out: bool,
    /// How many the kitchen can make a day; none means without limit.
    #[serde(default)]
    #[garde(range(min = 0, max = 1_000_000))]
    daily_stock: Option<i64>,
    /// What can be chosen with it.
    #[serde(default)]
    #[garde(custom(good_options))]
    options: Vec<OptionGroup>,
    /// Place in reading order; without it an item stays where it is, and a new one comes last.
    #[serde(default)]
    #[garde(range(min = 0, max = 1_000_000))]
    position: Option<i64>,
}

fn good_options<C>(groups: &[OptionGroup], _: &C) -> garde::Result {
    check_options(groups).map_err(garde::Error::new)
}

impl ItemToPut {
    fn row(self, restaurant: &RestaurantRow, path: &ItemPath, position: i64) -> ItemRow {
        ItemRow {
            org_id: restaurant.org_id,
            restaurant_id: restaurant.id,
            id: path.item_id,
            position,
            name: self.name,
            description: self.description,
            category: self.category,
            price_minor: self.price_minor,
            tax_basis_points: self.tax_basis_points,
            sold_out: self.sold_out,
            daily_stock: self.daily_stock,
            options: JsonColumn(self.options),
        }
    }
}

pub(crate) async fn put_item(
    tx: Tx,
    state: Arc<Restaurants>,
    caller: Caller,
    Path(path): Path<ItemPath>,
    Body(item): Body<ItemToPut>,
) -> Result<Json<MenuItem>, Fail> {
    let restaurant = editable(&tx, &caller, path.id).await?;
    let version = next_version(&tx, &state, &restaurant).await?;
    let before = store::menu(&tx, &restaurant, version).await?;
    let known = store::item(&tx, restaurant.org_id, restaurant.id, path.item_id).await?;
    if known.is_none() && before.items.len() >= MOST_ITEMS {
        return Err(Refusal::MenuFull.into());
    }
    let position = match (item.position, known) {
        (Some(wanted), _) => wanted,
        (None, Some(known)) => known.position,
        (None, None) => store::last_position(&tx, restaurant.org_id, restaurant.id).await? + 10,
    };
    let row = item.row(&restaurant, &path, position);
    store::put_item(&tx, &row).await?;
    publish(&tx, &restaurant, version).await?;
    Ok(Json(row.item()))
}

pub(crate) async fn remove_item(
    tx: Tx,
    state: Arc<Restaurants>,
    caller: Caller,
    Path(path): Path<ItemPath>,
) -> Result<Done, Fail> {
    let restaurant = editable(&tx, &caller, path.id).await?;
    let version = next_version(&tx, &state, &restaurant).await?;
    if !store::remove_item(&tx, restaurant.org_id, restaurant.id, path.item_id).await? {
        return Err(Fail::not_found());
    }
    publish(&tx, &restaurant, version).await?;
    Ok(Done)
}

/// Whether an item can be ordered.
#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct Availability {
    /// Whether it is sold out.
    #[garde(skip)]
    sold_out: bool,
}

pub(crate) async fn set_availability(
    tx: Tx,
    state: Arc<Restaurants>,
    caller: Caller,
    Path(path): Path<ItemPath>,
    Body(to): Body<Availability>,
) -> Result<Json<MenuItem>, Fail> {
    let restaurant = editable(&tx, &caller, path.id).await?;
    let known = store::item(&tx, restaurant.org_id, restaurant.id, path.item_id).await?.ok_or_else(Fail::not_found)?;
    if known.sold_out == to.sold_out {
        return Ok(Json(known.item()));
    }
    let version = next_version(&tx, &state, &restaurant).await?;
    // Read again behind the lock: the item may have been replaced or removed by whoever was first.
    let known = store::item(&tx, restaurant.org_id, restaurant.id, path.item_id).await?.ok_or_else(Fail::not_found)?;
    let row = ItemRow { sold_out: to.sold_out, ..known };
    store::put_item(&tx, &row).await?;
    publish(&tx, &restaurant, version).await?;
    Ok(Json(row.item()))
}

/// Counts a change of the menu, which nobody is shown in its old state from then on.
async fn next_version(tx: &Tx, state: &Restaurants, restaurant: &RestaurantRow) -> Result<i64, Fail> {
    let version = store::next_menu_version(tx, restaurant.org_id, restaurant.id).await?;
    state.menus.expect(restaurant.id, version);
    Ok(version)
}

/// Publishes the whole menu as it now stands.
async fn publish(tx: &Tx, restaurant: &RestaurantRow, version: i64) -> Result<(), Fail> {
    tx.emit(MenuChanged(store::menu(tx, restaurant, version).await?))?;
    Ok(())
}
