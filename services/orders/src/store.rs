//! All SQL of orders: its row types, its statements, and the copies of restaurants and menus that the kernel keeps.

pub(crate) mod carts;
pub(crate) mod discounts;

use contracts::Place;
use contracts::orders::{Card, DeliverTo, OrderLine, OrderState, OrderStatus, SoldChoice};
use contracts::restaurants::{MenuChanged, MenuState, RestaurantChanged, RestaurantState};
use kernel::clock::Timestamp;
use kernel::events::{Event as _, projected, projected_by_id};
use kernel::money::Currency;
use kernel::store::{Db, Glance, Json, List, Migration, StoreError, Tx, any};
use kernel::{params, row, sql};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::order::{Mark, Standing, Step};

/// The schema.
pub(crate) const STEPS: &[Migration] =
    &[Migration { name: "001_orders", sql: include_str!("../migrations/001_orders.sql") }];

row! {
    /// An order without its lines.
    pub(crate) struct OrderRow in "orders" {
        pub(crate) org_id: Uuid,
        pub(crate) id: Uuid,
        pub(crate) version: i64,
        pub(crate) code: String,
        pub(crate) status: OrderStatus,
        pub(crate) reason: Option<String>,
        pub(crate) customer_id: Uuid,
        pub(crate) customer_email: String,
        pub(crate) channel: String,
        pub(crate) restaurant_id: Uuid,
        pub(crate) restaurant_name: String,
        pub(crate) pick_up: Json<Place>,
        pub(crate) auto_accept: bool,
        pub(crate) prep_minutes: i64,
        pub(crate) currency: Currency,
        pub(crate) subtotal_minor: i64,
        pub(crate) discount_minor: i64,
        pub(crate) delivery_fee_minor: i64,
        pub(crate) tax_minor: i64,
        pub(crate) total_minor: i64,
        pub(crate) discount_org_id: Option<Uuid>,
        pub(crate) discount_code: Option<String>,
        pub(crate) card: Json<Card>,
        pub(crate) deliver_to: Json<DeliverTo>,
        pub(crate) payment_ok: bool,
        pub(crate) stock_ok: bool,
        pub(crate) kitchen_ok: bool,
        pub(crate) courier_id: Option<Uuid>,
        pub(crate) deadline_at: Option<Timestamp>,
        pub(crate) placed_at: Timestamp,
        pub(crate) changed_at: Timestamp,
    }
}

/// The columns of [`OrderRow`].
macro_rules! order_columns {
    () => {
        "org_id, id, version, code, status, reason, customer_id, customer_email, channel, restaurant_id, restaurant_name, pick_up, auto_accept, prep_minutes, currency, subtotal_minor, discount_minor, delivery_fee_minor, tax_minor, total_minor, discount_org_id, discount_code, card, deliver_to, payment_ok, stock_ok, kitchen_ok, courier_id, deadline_at, placed_at, changed_at"
    };
}

impl OrderRow {
    /// What decisions look at.
    pub(crate) fn standing(&self) -> Standing {
        let Self { status, payment_ok, stock_ok, kitchen_ok, .. } = *self;
        Standing { status, payment_ok, stock_ok, kitchen_ok }
    }

    /// The order one version on.
    pub(crate) fn after(&self, step: Step, deadline_at: Option<Timestamp>, now: Timestamp) -> Self {
        let reason = step.reason.map(|reason| reason.word().to_owned());
        Self { version: self.version + 1, status: step.to, reason, deadline_at, changed_at: now, ..self.clone() }
    }

    /// The order as others hear of it.
    pub(crate) fn state(self, lines: Vec<OrderLine>) -> OrderState {
        OrderState {
            org_id: self.org_id,
            order_id: self.id,
            version: self.version,
            code: self.code,
            status: self.status,
            reason: self.reason,
            customer_id: self.customer_id,
            customer_email: self.customer_email,
            channel: self.channel,
            restaurant_id: self.restaurant_id,
            restaurant_name: self.restaurant_name,
            pick_up: self.pick_up.0,
            auto_accept: self.auto_accept,
            prep_minutes: self.prep_minutes,
            lines,
            currency: self.currency,
            subtotal_minor: self.subtotal_minor,
            discount_minor: self.discount_minor,
            delivery_fee_minor: self.delivery_fee_minor,
            tax_minor: self.tax_minor,
            total_minor: self.total_minor,
            card: self.card.0,
            deliver_to: self.deliver_to.0,
            placed_at: self.placed_at,
            changed_at: self.changed_at,
        }
    }
}

row! {
    struct ItemRow in "order_items" {
        org_id: Uuid,
        order_id: Uuid,
        line_no: i64,
        item_id: Uuid,
        name: String,
        quantity: i64,
        unit_price_minor: i64,
        line_total_minor: i64,
        tax_basis_points: i64,
        choices: Json<Vec<SoldChoice>>,
    }
}

row! {
    /// One step of an order, and what caused it.
    pub(crate) struct HistoryRow in "order_status_history" {
        pub(crate) org_id: Uuid,
        pub(crate) order_id: Uuid,
        pub(crate) version: i64,
        pub(crate) status: OrderStatus,
        pub(crate) reason: Option<String>,
        pub(crate) detail: Option<String>,
        pub(crate) caused_by: String,
        pub(crate) actor_id: Option<Uuid>,
        pub(crate) trace_id: String,
        pub(crate) at: Timestamp,
    }
}

row! {
    /// An order in a list.
    #[derive(Serialize, JsonSchema)]
    pub(crate) struct OrderSummary {
        /// The order.
        pub(crate) id: Uuid,
        /// Its organisation.
        pub(crate) org_id: Uuid,
        /// For people to say on the phone.
        pub(crate) code: String,
        /// Where it stands.
        pub(crate) status: OrderStatus,
        /// Why, if that needs saying.
        pub(crate) reason: Option<String>,
        /// Who ordered.
        pub(crate) customer_id: Uuid,
        /// Who cooks.
        pub(crate) restaurant_id: Uuid,
        /// The restaurant's name then.
        pub(crate) restaurant_name: String,
        /// Through which channel it came.
        pub(crate) channel: String,
        /// Currency of the total.
        pub(crate) currency: Currency,
        /// What the customer pays.
        pub(crate) total_minor: i64,
        /// When it was placed.
        pub(crate) placed_at: Timestamp,
        /// When it reached this status.
        pub(crate) changed_at: Timestamp,
    }
}

row! {
    /// Which order, and whose.
    pub(crate) struct OrderKey {
        pub(crate) org_id: Uuid,
        pub(crate) id: Uuid,
    }
}

/// Our copy of a restaurant.
pub(crate) async fn restaurant(db: &Db, id: Uuid) -> Result<Option<RestaurantState>, StoreError> {
    let found = projected_by_id(db, RestaurantChanged::DEF.aggregate, id).await?;
    Ok(found.map(|(state, _)| state))
}

/// Our copy of a restaurant's menu.
pub(crate) async fn menu(db: &Db, org: Uuid, restaurant: Uuid) -> Result<Option<MenuState>, StoreError> {
    let found = projected(db, MenuChanged::DEF.aggregate, org, restaurant).await?;
    Ok(found.map(|(state, _)| state))
}

/// Inserts a new order with its lines; false if its code is taken.
pub(crate) async fn add_order(tx: &Tx, order: &OrderRow, lines: &[OrderLine]) -> Result<bool, StoreError> {
    if !tx.add(order).await? {
        return Ok(false);
    }
    for (line, line_no) in lines.iter().zip(1..) {
        tx.insert(&ItemRow {
            org_id: order.org_id,
            order_id: order.id,
            line_no,
            item_id: line.item_id,
            name: line.name.clone(),
            quantity: line.quantity,
            unit_price_minor: line.unit_price_minor,
            line_total_minor: line.line_total_minor,
            tax_basis_points: line.tax_basis_points,
            choices: Json(line.choices.clone()),
        })
        .await?;
    }
    Ok(true)
}

/// An order by its identity alone, for callers who name one.
pub(crate) async fn find(db: &Db, id: Uuid) -> Result<Option<OrderRow>, StoreError> {
    db.maybe(sql!(OrderRow, concat!("SELECT ", order_columns!(), " FROM orders WHERE id = $1")), params![id]).await
}

/// An order of an organisation.
pub(crate) async fn order(db: &Db, org: Uuid, id: Uuid) -> Result<Option<OrderRow>, StoreError> {
    let sql = sql!(OrderRow, concat!("SELECT ", order_columns!(), " FROM orders WHERE org_id = $1 AND id = $2"));
    db.maybe(sql, params![org, id]).await
}

/// What was ordered, in the order of the cart.
pub(crate) async fn lines(db: &Db, org: Uuid, order: Uuid) -> Result<Vec<OrderLine>, StoreError> {
    let sql = sql!(
        ItemRow,
        "SELECT org_id, order_id, line_no, item_id, name, quantity, unit_price_minor, line_total_minor, tax_basis_points, choices FROM order_items WHERE org_id = $1 AND order_id = $2 ORDER BY line_no"
    );
    let rows = db.all(sql, params![org, order]).await?;
    let line = |row: ItemRow| OrderLine {
        item_id: row.item_id,
        name: row.name,
        quantity: row.quantity,
        unit_price_minor: row.unit_price_minor,
        line_total_minor: row.line_total_minor,
        tax_basis_points: row.tax_basis_points,
        choices: row.choices.0,
    };
    Ok(rows.into_iter().map(line).collect())
}

/// Remembers a yes on the order and locks its row, so that two yeses at once see each other; false if there is no such order.
pub(crate) async fn mark(tx: &Tx, org: Uuid, order: Uuid, mark: Mark) -> Result<bool, StoreError> {
    let sql = match mark {
        Mark::Payment => sql!("UPDATE orders SET payment_ok = TRUE WHERE org_id = $1 AND id = $2"),
        Mark::Stock => sql!("UPDATE orders SET stock_ok = TRUE WHERE org_id = $1 AND id = $2"),
        Mark::Kitchen => sql!("UPDATE orders SET kitchen_ok = TRUE WHERE org_id = $1 AND id = $2"),
    };
    Ok(tx.run(sql, params![org, order]).await? == 1)
}

/// Remembers who brings the order, unless it has ended; an earlier courier is replaced.
pub(crate) async fn give_to(tx: &Tx, org: Uuid, order: Uuid, courier: Option<Uuid>) -> Result<(), StoreError> {
    let sql = sql!("UPDATE orders SET courier_id = $1 WHERE org_id = $2 AND id = $3 AND deadline_at IS NOT NULL");
    tx.run(sql, params![courier, org, order]).await.map(drop)
}

/// Moves the deadline of an order that stands as it did when it was read.
pub(crate) async fn postpone(tx: &Tx, order: &OrderRow, deadline: Timestamp) -> Result<bool, StoreError> {
    let sql = sql!("UPDATE orders SET deadline_at = $1 WHERE org_id = $2 AND id = $3 AND version = $4");
    Ok(tx.run(sql, params![deadline, order.org_id, order.id, order.version]).await? == 1)
}

/// Writes the next version of an order if nobody else did, with its history; false if somebody did.
pub(crate) async fn advance(tx: &Tx, next: &OrderRow, history: &HistoryRow) -> Result<bool, StoreError> {
    let sql = sql!(
        "UPDATE orders SET version = version + 1, status = $1, reason = $2, deadline_at = $3, changed_at = $4 WHERE org_id = $5 AND id = $6 AND version = $7"
    );
    let values =
        params![next.status, next.reason, next.deadline_at, next.changed_at, next.org_id, next.id, next.version - 1];
    if tx.run(sql, values).await? != 1 {
        return Ok(false);
    }
    tx.insert(history).await?;
    Ok(true)
}

/// Every step of an order, first to last.
pub(crate) async fn history(db: &Db, org: Uuid, order: Uuid) -> Result<Vec<HistoryRow>, StoreError> {
    let sql = sql!(
        HistoryRow,
        "SELECT org_id, order_id, version, status, reason, detail, caused_by, actor_id, trace_id, at FROM order_status_history WHERE org_id = $1 AND order_id = $2 ORDER BY version"
    );
    db.all(sql, params![org, order]).await
}

/// Which orders a list holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) customer: Option<Uuid>,
    /// Of these organisations; none for all.
    pub(crate) orgs: Option<Vec<Uuid>>,
    pub(crate) restaurant: Option<Uuid>,
    pub(crate) status: Option<OrderStatus>,
    /// Older than this one.
    pub(crate) before: Option<(Timestamp, Uuid)>,
}

/// Orders, newest first.
pub(crate) async fn list(db: &Glance, wanted: Wanted, limit: i64) -> Result<Vec<OrderSummary>, StoreError> {
    List::new("SELECT id, org_id, code, status, reason, customer_id, restaurant_id, restaurant_name, channel, currency, total_minor, placed_at, changed_at FROM orders")
        .and_if("customer_id = {}", wanted.customer)
        .and_if("org_id = ANY({})", wanted.orgs.as_ref().map(any))
        .and_if("restaurant_id = {}", wanted.restaurant)
        .and_if("status = {}", wanted.status)
        .and_pair("(placed_at, id) < ({}, {})", wanted.before)
        .fetch(db, "placed_at DESC, id DESC", limit)
        .await
}

/// Orders whose deadline lies before this moment, the longest overdue first.
pub(crate) async fn overdue(db: &Db, before: Timestamp, limit: i64) -> Result<Vec<OrderKey>, StoreError> {
    let sql = sql!(
        OrderKey,
        "SELECT org_id, id FROM orders WHERE deadline_at IS NOT NULL AND deadline_at < $1 ORDER BY deadline_at NULLS LAST, id LIMIT $2"
    );
    db.all(sql, params![before, limit]).await
}
