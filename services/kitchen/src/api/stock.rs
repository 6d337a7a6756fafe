//! Handlers about stock: listing it, and correcting what is on hand.

use std::sync::Arc;

use garde::Validate;
use kernel::http::{Body, Caller, Fail, Json, Page, Path, Query};
use kernel::store::Tx;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{may_work, own_orgs};
use crate::Kitchen;
use crate::store::{self, StockRow};
use crate::ticket::Refusal;

/// Whose stock to show, by item.
#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListStock {
    /// The restaurant.
    #[garde(skip)]
    restaurant_id: Uuid,
    /// How many to give at most.
    #[serde(default = "page_size")]
    #[garde(range(min = 1, max = 100))]
    page_size: i64,
    /// Where the page before ended.
    #[garde(skip)]
    page_token: Option<Uuid>,
}

fn page_size() -> i64 {
    50
}

/// A counted item.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct StockView {
    /// The restaurant.
    restaurant_id: Uuid,
    /// The menu item.
    item_id: Uuid,
    /// Its name.
    name: String,
    /// How many the kitchen can make a day; none means that it is no longer limited.
    daily_stock: Option<i64>,
    /// How many there are, with those that are set aside.
    on_hand: i64,
    /// How many are set aside for orders.
    reserved: i64,
}

impl From<StockRow> for StockView {
    fn from(row: StockRow) -> Self {
        Self {
            restaurant_id: row.restaurant_id,
            item_id: row.item_id,
            name: row.name,
            daily_stock: row.daily_stock,
            on_hand: row.on_hand,
            reserved: row.reserved,
        }
    }
}

pub(crate) async fn list_stock(
    state: Arc<Kitchen>,
    caller: Caller,
    Query(list): Query<ListStock>,
) -> Result<Json<Page<StockView>>, Fail> {
    let db = state.store.read();
    let rows =
        store::list_stock(&db, own_orgs(&caller), list.restaurant_id, list.page_token, list.page_size + 1).await?;
    let page = Page::cut(rows, list.page_size, |last| last.item_id.simple().to_string());
    Ok(Json(page.map(StockView::from)))
}

/// Which item.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct StockPath {
    /// The menu item.
    item_id: Uuid,
}

/// What was counted.
#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct Counted {
    /// The restaurant.
    #[garde(skip)]
    restaurant_id: Uuid,
    /// How many there are, with those that are set aside for orders.
    #[garde(range(min = 0, max = 1_000_000))]
    on_hand: i64,
}

pub(crate) async fn count_stock(
    tx: Tx,
    _: Arc<Kitchen>,
    caller: Caller,
    Path(path): Path<StockPath>,
    Body(counted): Body<Counted>,
) -> Result<Json<StockView>, Fail> {
    let found = store::stock_item(&tx, counted.restaurant_id, path.item_id).await?;
    let row = found.filter(|row| may_work(&caller, row.org_id)).ok_or_else(Fail::not_found)?;
    if row.daily_stock.is_none() {
        return Err(Refusal::StockNotLimited.into());
    }
    let now = store::count_stock(&tx, &row, counted.on_hand).await?.ok_or(Refusal::StockReserved)?;
    Ok(Json(now.into()))
}
