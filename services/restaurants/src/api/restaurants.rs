//! Handlers about restaurants: finding, opening, showing and changing them.

use std::sync::Arc;
use std::time::Duration;

use contracts::Place;
use contracts::restaurants::{Hours, MenuChanged, RestaurantChanged, RestaurantState};
use garde::Validate;
use kernel::cache::Loaded;
use kernel::clock::Timestamp;
use kernel::http::{Body, Caller, Created, Fail, Json, Page, Path, Query};
use kernel::money::Currency;
use kernel::store::{Json as JsonColumn, Tx};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Refusal, RestaurantPath, editable, may_edit, plain_text};
use crate::restaurant::{anywhere, check_hours, fold, is_open, utc_week_minute};
use crate::store::{self, RestaurantRow, Wanted};
use crate::{Restaurants, demo};

/// Which restaurants to show, by name.
#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct FindRestaurants {
    /// Only this cuisine; case and accents do not matter.
    #[garde(length(min = 1, max = 40))]
    cuisine: Option<String>,
    /// Only names that contain this; case and accents do not matter.
    #[garde(length(min = 1, max = 80))]
    q: Option<String>,
    /// Only those that take orders now.
    #[serde(default)]
    #[garde(skip)]
    open_now: bool,
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

/// A restaurant, and whether it takes orders now.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RestaurantView {
    #[serde(flatten)]
    restaurant: RestaurantState,
    /// Whether it takes orders now.
    open_now: bool,
}

impl RestaurantView {
    fn new(restaurant: RestaurantState, now: Timestamp) -> Self {
        Self { open_now: is_open(&restaurant, now), restaurant }
    }
}

/// The list may be this old, so that a standby can give it; an order is priced from orders' own copy of the menu.
const LIST_AGE: Duration = Duration::from_secs(5);

pub(crate) async fn find_restaurants(
    state: Arc<Restaurants>,
    Query(find): Query<FindRestaurants>,
) -> Result<Json<Page<RestaurantView>>, Fail> {
    let now = state.clock.now();
    let after = match find.page_token {
        // The page before may have come from elsewhere: where it ended is known at the primary.
        Some(last) => Some(store::name_key(&state.store.read(), last).await?.ok_or(Refusal::PageTokenInvalid)?),
        None => None,
    };
    let wanted = Wanted {
        cuisine: find.cuisine.as_deref().map(fold),
        name_like: find.q.as_deref().map(anywhere),
        open_at: find.open_now.then(|| utc_week_minute(now)),
        after,
    };
    let rows = store::list(&state.store.read_stale(LIST_AGE), wanted, find.page_size + 1).await?;
    let page = Page::cut(rows, find.page_size, |last| last.id.simple().to_string());
    Ok(Json(page.map(|row| RestaurantView::new(row.state(), now))))
}

/// A restaurant to open.
#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewRestaurant {
    /// The organisation that runs it; one of yours.
    #[garde(skip)]
    org_id: Uuid,
    /// Its name.
    #[garde(length(min = 1, max = 80), custom(plain_text))]
    name: String,
    /// Such as `Italian`.
    #[garde(length(min = 1, max = 40), custom(plain_text))]
    cuisine: String,
    /// Street and number.
    #[garde(length(min = 1, max = 120), custom(plain_text))]
    street: String,
    /// City.
    #[garde(length(min = 1, max = 80), custom(plain_text))]
    city: String,
    /// Where it is.
    #[garde(custom(on_earth))]
    place: Place,
    /// Currency of all its prices; it cannot be changed later.
    #[garde(skip)]
    currency: Currency,
    /// Offset of its local time from UTC in minutes.
    #[garde(range(min = -720, max = 840))]
    utc_offset_minutes: i64,
    /// When it takes orders.
    #[garde(custom(good_hours))]
    hours: Vec<Hours>,
    /// Whether its kitchen accepts by itself.
    #[serde(default)]
    #[garde(skip)]
    auto_accept: bool,
    /// How long an order usually takes in the kitchen.
    #[garde(range(min = 1, max = 240))]
    prep_minutes: i64,
    /// What delivery costs the customer.
    #[garde(range(min = 0, max = 1_000_000))]
    delivery_fee_minor: i64,
    /// Orders below this are refused.
    #[garde(range(min = 0, max = 100_000_000))]
    minimum_order_minor: i64,
}

fn on_earth<C>(place: &Place, _: &C) -> garde::Result {
    if place.exists() { Ok(()) } else { Err(garde::Error::new("is not a point on Earth")) }
}

fn good_hours<C>(hours: &[Hours], _: &C) -> garde::Result {
    check_hours(hours).map_err(garde::Error::new)
}

impl NewRestaurant {
    fn row(self, now: Timestamp) -> RestaurantRow {
        RestaurantRow {
            org_id: self.org_id,
            id: kernel::ids::fresh(),
            version: 1,
            menu_version: 1,
            name_folded: fold(&self.name),
            name: self.name,
            cuisine_folded: fold(&self.cuisine),
            cuisine: self.cuisine,
            street: self.street,
            city: self.city,
            longitude_e6: self.place.longitude_e6,
            latitude_e6: self.place.latitude_e6,
            currency: self.currency,
            utc_offset_minutes: self.utc_offset_minutes,
            hours: JsonColumn(self.hours),
            paused: false,
            auto_accept: self.auto_accept,
            prep_minutes: self.prep_minutes,
            delivery_fee_minor: self.delivery_fee_minor,
            minimum_order_minor: self.minimum_order_minor,
            created_at: now,
        }
    }
}

pub(crate) async fn open_restaurant(
    tx: Tx,
    _: Arc<Restaurants>,
    caller: Caller,
    Body(new): Body<NewRestaurant>,
) -> Result<Created<RestaurantView>, Fail> {
    if !may_edit(&caller, new.org_id) {
        return Err(Fail::forbidden());
    }
    let row = new.row(tx.now());
    store::add(&tx, &row).await?;
    tx.emit(RestaurantChanged(row.state()))?;
    // An empty menu is a menu: whoever knows the restaurant knows that there is nothing to order yet.
    tx.emit(MenuChanged(store::menu(&tx, &row, row.menu_version).await?))?;
    Ok(Created(format!("/api/v1/restaurants/{}", row.id), RestaurantView::new(row.state(), tx.now())))
}

pub(crate) async fn show_restaurant(
    state: Arc<Restaurants>,
    Path(path): Path<RestaurantPath>,
) -> Result<Json<RestaurantView>, Fail> {
    let load = async || {
        let found = store::find(&state.store.read(), path.id).await?;
        Ok::<_, Fail>(found.map(|row| Loaded { version: row.version, value: row.state() }))
    };
    let restaurant = state.shown.get(path.id, load).await?.ok_or_else(Fail::not_found)?;
    Ok(Json(RestaurantView::new(RestaurantState::clone(&restaurant), state.clock.now())))
}

/// Settings to change; what is absent or null stays as it is.
#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct RestaurantChange {
    /// Its name.
    #[garde(length(min = 1, max = 80), inner(custom(plain_text)))]
    name: Option<String>,
    /// Such as `Italian`.
    #[garde(length(min = 1, max = 40), inner(custom(plain_text)))]
    cuisine: Option<String>,
    /// Street and number.
    #[garde(length(min = 1, max = 120), inner(custom(plain_text)))]
    street: Option<String>,
    /// City.
    #[garde(length(min = 1, max = 80), inner(custom(plain_text)))]
    city: Option<String>,
    /// Where it is.
    #[garde(inner(custom(on_earth)))]
    place: Option<Place>,
    /// Offset of its local time from UTC in minutes.
    #[garde(range(min = -720, max = 840))]
    utc_offset_minutes: Option<i64>,
    /// When it takes orders; replaces all hours.
    #[garde(inner(custom(good_hours)))]
    hours: Option<Vec<Hours>>,
    /// Switched off by hand, for holidays or a broken oven.
    #[garde(skip)]
    paused: Option<bool>,
    /// Whether its kitchen accepts by itself.
    #[garde(skip)]
    auto_accept: Option<bool>,
    /// How long an order usually takes in the kitchen.
    #[garde(range(min = 1, max = 240))]
    prep_minutes: Option<i64>,
    /// What delivery costs the customer.
    #[garde(range(min = 0, max = 1_000_000))]
    delivery_fee_minor: Option<i64>,
    /// Orders below this are refused.
    #[garde(range(min = 0, max = 100_000_000))]
    minimum_order_minor: Option<i64>,
}

fn set<T: Clone>(field: &mut T, to: Option<&T>) {
    if let Some(value) = to {
        field.clone_from(value);
    }
}

impl RestaurantChange {
    fn onto(&self, mut row: RestaurantRow) -> RestaurantRow {
        set(&mut row.name, self.name.as_ref());
        set(&mut row.cuisine, self.cuisine.as_ref());
        set(&mut row.street, self.street.as_ref());
        set(&mut row.city, self.city.as_ref());
        set(&mut row.longitude_e6, self.place.as_ref().map(|p| &p.longitude_e6));
        set(&mut row.latitude_e6, self.place.as_ref().map(|p| &p.latitude_e6));
        set(&mut row.utc_offset_minutes, self.utc_offset_minutes.as_ref());
        set(&mut row.hours.0, self.hours.as_ref());
        set(&mut row.paused, self.paused.as_ref());
        set(&mut row.auto_accept, self.auto_accept.as_ref());
        set(&mut row.prep_minutes, self.prep_minutes.as_ref());
        set(&mut row.delivery_fee_minor, self.delivery_fee_minor.as_ref());
        set(&mut row.minimum_order_minor, self.minimum_order_minor.as_ref());
        row.name_folded = fold(&row.name);
        row.cuisine_folded = fold(&row.cuisine);
        row
    }
}

pub(crate) async fn change_restaurant(
    tx: Tx,
    state: Arc<Restaurants>,
    caller: Caller,
    Path(path): Path<RestaurantPath>,
    Body(change): Body<RestaurantChange>,
) -> Result<Json<RestaurantView>, Fail> {
    let found = editable(&tx, &caller, path.id).await?;
    if change.onto(found.clone()) == found {
        return Ok(Json(RestaurantView::new(found.state(), tx.now())));
    }
    let row = change.onto(store::next_version(&tx, found.org_id, found.id).await?);
    state.shown.expect(row.id, row.version);
    store::save(&tx, &row).await?;
    tx.emit(RestaurantChanged(row.state()))?;
    Ok(Json(RestaurantView::new(row.state(), tx.now())))
}

/// What founding the demo city did.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Founded {
    /// Restaurants that were not there before.
    opened: usize,
}

pub(crate) async fn found_demo_city(tx: Tx, _: Arc<Restaurants>) -> Result<Json<Founded>, Fail> {
    Ok(Json(Founded { opened: demo::found(&tx).await? }))
}
