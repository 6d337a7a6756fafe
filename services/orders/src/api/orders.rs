//! Orders that exist: shown, listed, moved on by hand, cancelled.

use std::sync::Arc;
use std::time::Duration;

use contracts::orders::OrderStatus;
use contracts::permissions::{ADMIN, SUPPORT};
use garde::Validate;
use kernel::http::page::{read_token, write_token};
use kernel::http::{Body, Caller, Fail, Json, Page, Path, Query};
use kernel::store::{Db, Glance, Tx};
use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

use super::views::{HistoryView, OrderView};
use super::{OrderPath, PAGE_SIZE, PageQuery, check_text, role};
use crate::order::{self, Role};
use crate::progress::{self, Cause};
use crate::store::{self, OrderRow, OrderSummary, Wanted};
use crate::{Orders, Settings};

/// A list may be this old, so that a standby can give it: people look at it again, and nothing is decided from it.
const LIST_AGE: Duration = Duration::from_secs(2);

/// Which of one's restaurants' orders.
#[derive(Clone, Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(super) struct OrdersQuery {
    /// Only those that stand here.
    #[garde(skip)]
    status: Option<OrderStatus>,
    /// Only this restaurant's.
    #[garde(skip)]
    restaurant_id: Option<Uuid>,
    /// How many at once; 20 unless told.
    #[garde(range(min = 1, max = 100))]
    page_size: Option<i64>,
    /// Where to go on: `next_page_token` of the page before.
    #[garde(length(max = 100))]
    page_token: Option<String>,
}

pub(super) async fn list_orders(
    orders: Arc<Orders>,
    caller: Caller,
    Query(query): Query<OrdersQuery>,
) -> Result<Json<Page<OrderSummary>>, Fail> {
    let wanted = Wanted {
        orgs: (!sees_all(&caller)).then(|| caller.orgs.clone()),
        restaurant: query.restaurant_id,
        status: query.status,
        before: read_token(query.page_token.as_deref())?,
        ..Wanted::default()
    };
    list(&orders.store.read_stale(LIST_AGE), wanted, query.page_size).await
}

pub(super) async fn show_order(
    orders: Arc<Orders>,
    caller: Caller,
    Path(path): Path<OrderPath>,
) -> Result<Json<OrderView>, Fail> {
    let db = orders.store.read();
    let (order, _) = find(&db, &caller, path.id).await?;
    let lines = store::lines(&db, order.org_id, order.id).await?;
    Ok(Json(OrderView::new(order.state(lines), &orders.settings.get())))
}

pub(super) async fn show_history(
    orders: Arc<Orders>,
    caller: Caller,
    Path(path): Path<OrderPath>,
) -> Result<Json<HistoryView>, Fail> {
    let db = orders.store.read();
    let (order, _) = find(&db, &caller, path.id).await?;
    let steps = store::history(&db, order.org_id, order.id).await?;
    Ok(Json(HistoryView::new(&order, steps)))
}

/// The customer in the path.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(super) struct CustomerPath {
    /// The customer.
    #[serde(rename = "customerId")]
    customer_id: Uuid,
}

pub(super) async fn list_customer_orders(
    orders: Arc<Orders>,
    caller: Caller,
    Path(path): Path<CustomerPath>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<OrderSummary>>, Fail> {
    if path.customer_id != caller.id() && !sees_all(&caller) {
        return Err(Fail::not_found());
    }
    let before = read_token(query.page_token.as_deref())?;
    let wanted = Wanted { customer: Some(path.customer_id), before, ..Wanted::default() };
    list(&orders.store.read_stale(LIST_AGE), wanted, query.page_size).await
}

/// A step asked for by hand.
#[derive(Clone, Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(super) struct StatusChange {
    /// Where the order shall stand.
    #[garde(skip)]
    status: OrderStatus,
    /// Why, for people; kept in the history.
    #[garde(length(chars, max = 300))]
    note: Option<String>,
}

pub(super) async fn change_status(
    tx: Tx,
    orders: Arc<Orders>,
    caller: Caller,
    Path(path): Path<OrderPath>,
    Body(change): Body<StatusChange>,
) -> Result<Json<OrderView>, Fail> {
    command(&tx, &orders.settings.get(), &caller, path.id, change.status, change.note).await
}

/// Why an order is called off.
#[derive(Clone, Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(super) struct Cancellation {
    /// Why, for people; kept in the history.
    #[garde(length(chars, max = 300))]
    note: Option<String>,
}

pub(super) async fn cancel_order(
    tx: Tx,
    orders: Arc<Orders>,
    caller: Caller,
    Path(path): Path<OrderPath>,
    Body(cancellation): Body<Cancellation>,
) -> Result<Json<OrderView>, Fail> {
    command(&tx, &orders.settings.get(), &caller, path.id, OrderStatus::Cancelled, cancellation.note).await
}

async fn command(
    tx: &Tx,
    settings: &Settings,
    caller: &Caller,
    id: Uuid,
    to: OrderStatus,
    note: Option<String>,
) -> Result<Json<OrderView>, Fail> {
    if let Some(note) = &note {
        check_text("/note", note)?;
    }
    let (order, role) = find(tx, caller, id).await?;
    let step = order::command(order.status, role, to)?;
    let cause = Cause { by: role.word(), actor: Some(caller.id()), detail: note };
    let state = progress::take(tx, settings, order, step, cause).await?;
    Ok(Json(OrderView::new(state, settings)))
}

fn sees_all(caller: &Caller) -> bool {
    caller.has(ADMIN) || caller.has(SUPPORT)
}

/// An order that is the caller's to see.
async fn find(db: &Db, caller: &Caller, id: Uuid) -> Result<(OrderRow, Role), Fail> {
    let order = store::find(db, id).await?.ok_or_else(Fail::not_found)?;
    let role = role(caller, &order).ok_or_else(Fail::not_found)?;
    Ok((order, role))
}

async fn list(db: &Glance, wanted: Wanted, size: Option<i64>) -> Result<Json<Page<OrderSummary>>, Fail> {
    let size = size.unwrap_or(PAGE_SIZE);
    let found = store::list(db, wanted, size + 1).await?;
    Ok(Json(Page::cut(found, size, |order| write_token((order.placed_at, order.id)))))
}
