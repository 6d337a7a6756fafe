//! Handlers about deliveries: listing, following, picking up, handing over, giving back.

use std::sync::Arc;

use contracts::Place;
use contracts::orders::DeliverTo;
use contracts::permissions::{ADMIN, DELIVERY_WATCH, DELIVERY_WORK};
use garde::Validate;
use kernel::clock::Timestamp;
use kernel::http::{Caller, Fail, Json, Page, Path, Query};
use kernel::store::Tx;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::may;
use crate::Delivery;
use crate::assigning::{ASSIGN, move_on};
use crate::delivery::{DeliveryStatus, Refusal, Step};
use crate::steps::Outcome;
use crate::store::{self, DeliveryRow, PositionRow, Wanted};

/// Which deliveries to show, newest order first.
#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListDeliveries {
    /// Only those that stand here.
    #[garde(skip)]
    status: Option<DeliveryStatus>,
    /// How many to give at most.
    #[serde(default = "page_size")]
    #[garde(range(min = 1, max = 100))]
    page_size: i64,
    /// Where the page before ended.
    #[garde(skip)]
    page_token: Option<Uuid>,
}

fn page_size() -> i64 {
    20
}

/// Who brings it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CourierSeen {
    /// The courier.
    courier_id: Uuid,
    /// Their name.
    name: String,
    /// Where they were last; shown where one delivery is followed, while it is under way.
    place: Option<Place>,
    /// When that was.
    seen_at: Option<Timestamp>,
}

/// A delivery.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct DeliveryView {
    /// The order.
    order_id: Uuid,
    /// For people to say, such as `ORD-7K3QD`.
    code: String,
    /// Where it stands.
    status: DeliveryStatus,
    /// Whether the food waits to be picked up, or did.
    ready: bool,
    /// The restaurant.
    restaurant_id: Uuid,
    /// Its name.
    restaurant_name: String,
    /// Where to pick it up.
    pick_up: Place,
    /// Where to bring it.
    deliver_to: DeliverTo,
    /// Who brings it, or brought it.
    courier: Option<CourierSeen>,
    /// Why it ended without success.
    reason: Option<String>,
    /// When the order was confirmed.
    created_at: Timestamp,
    /// When this courier was found.
    assigned_at: Option<Timestamp>,
    /// When the food left the restaurant.
    picked_up_at: Option<Timestamp>,
    /// When it ended.
    ended_at: Option<Timestamp>,
    /// When it reached this status.
    changed_at: Timestamp,
}

impl DeliveryView {
    fn new(row: DeliveryRow, position: Option<PositionRow>) -> Self {
        let courier = row.courier_id.map(|courier_id| CourierSeen {
            courier_id,
            name: row.courier_name.unwrap_or_default(),
            place: position.as_ref().map(PositionRow::place),
            seen_at: position.map(|position| position.at),
        });
        Self {
            order_id: row.id,
            code: row.code,
            status: row.status,
            ready: row.ready,
            restaurant_id: row.restaurant_id,
            restaurant_name: row.restaurant_name,
            pick_up: row.pick_up.0,
            deliver_to: row.deliver_to.0,
            courier,
            reason: row.reason,
            created_at: row.created_at,
            assigned_at: row.assigned_at,
            picked_up_at: row.picked_up_at,
            ended_at: row.ended_at,
            changed_at: row.changed_at,
        }
    }
}

pub(crate) async fn list_deliveries(
    state: Arc<Delivery>,
    caller: Caller,
    Query(list): Query<ListDeliveries>,
) -> Result<Json<Page<DeliveryView>>, Fail> {
    let watches = may(&caller, DELIVERY_WATCH);
    if !watches && !may(&caller, DELIVERY_WORK) {
        return Err(Fail::forbidden());
    }
    let courier = (!watches).then(|| caller.id());
    let wanted = Wanted { courier, status: list.status, before: list.page_token };
    let rows = store::list_deliveries(&state.store.read(), wanted, list.page_size + 1).await?;
    let page = Page::cut(rows, list.page_size, |last| last.id.simple().to_string());
    Ok(Json(page.map(|row| DeliveryView::new(row, None))))
}

/// Which delivery.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct DeliveryPath {
    /// The order.
    pub(crate) order_id: Uuid,
}

pub(crate) async fn show_delivery(
    state: Arc<Delivery>,
    caller: Caller,
    Path(path): Path<DeliveryPath>,
) -> Result<Json<DeliveryView>, Fail> {
    let db = state.store.read();
    let found = store::delivery_by_id(&db, path.order_id).await?;
    let row = found.filter(|row| may_follow(&caller, row)).ok_or_else(Fail::not_found)?;
    let position = match row.courier_id.filter(|_| row.status.has_courier()) {
        Some(courier) => store::position(&db, courier).await?,
        None => None,
    };
    Ok(Json(DeliveryView::new(row, position)))
}

fn may_follow(caller: &Caller, row: &DeliveryRow) -> bool {
    row.customer_id == caller.id()
        || row.courier_id == Some(caller.id())
        || caller.belongs_to(row.org_id)
        || may(caller, DELIVERY_WATCH)
}

pub(crate) async fn pick_up(
    tx: Tx,
    state: Arc<Delivery>,
    caller: Caller,
    Path(path): Path<DeliveryPath>,
) -> Result<Json<DeliveryView>, Fail> {
    let delivery = brought_by(&tx, &caller, path.order_id).await?;
    if delivery.status == DeliveryStatus::Assigned && !delivery.ready {
        return Err(Refusal::FoodNotReady.into());
    }
    let now = take(&tx, &state, &delivery, Step::PickUp, Refusal::DeliveryNotAssigned).await?;
    Ok(Json(DeliveryView::new(now, None)))
}

pub(crate) async fn hand_over(
    tx: Tx,
    state: Arc<Delivery>,
    caller: Caller,
    Path(path): Path<DeliveryPath>,
) -> Result<Json<DeliveryView>, Fail> {
    let delivery = brought_by(&tx, &caller, path.order_id).await?;
    let now = take(&tx, &state, &delivery, Step::HandOver, Refusal::DeliveryNotPickedUp).await?;
    Ok(Json(DeliveryView::new(now, None)))
}

pub(crate) async fn give_back(
    tx: Tx,
    state: Arc<Delivery>,
    caller: Caller,
    Path(path): Path<DeliveryPath>,
) -> Result<Json<DeliveryView>, Fail> {
    let delivery = brought_by(&tx, &caller, path.order_id).await?;
    let now = take(&tx, &state, &delivery, Step::GiveBack, Refusal::DeliveryNotAssigned).await?;
    // A courier who became free in a unit beside this one did not see that it waits.
    tx.wake(ASSIGN);
    Ok(Json(DeliveryView::new(now, None)))
}

/// The delivery, if the caller brings it, or runs the platform.
async fn brought_by(tx: &Tx, caller: &Caller, order: Uuid) -> Result<DeliveryRow, Fail> {
    let found = store::delivery_by_id(tx, order).await?;
    let theirs = |row: &DeliveryRow| row.courier_id == Some(caller.id()) || caller.has(ADMIN);
    found.filter(theirs).ok_or_else(Fail::not_found)
}

async fn take(
    tx: &Tx,
    state: &Delivery,
    delivery: &DeliveryRow,
    step: Step,
    otherwise: Refusal,
) -> Result<DeliveryRow, Fail> {
    match move_on(tx, &state.settings.get(), delivery, step).await? {
        Outcome::Taken(now) => Ok(*now),
        Outcome::Impossible => Err(otherwise.problem().with("status", delivery.status.word()).into()),
        Outcome::Overtaken => Err(Fail::Busy),
    }
}
