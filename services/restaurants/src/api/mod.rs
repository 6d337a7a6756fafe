//! The routes of the restaurants service; handlers are in the file of their resource, in table order.

pub(crate) mod menus;
pub(crate) mod restaurants;

use contracts::permissions::{ADMIN, MENU_EDIT};
use kernel::http::{Caller, Fail, Routes};
use kernel::manifest::Access::{Anyone, May, Workload};
use kernel::store::Tx;
use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

use crate::Restaurants;
use crate::store::{self, RestaurantRow};

/// Why nobody has to sign in to read.
const HUNGRY: &str = "people look at menus before they sign in";

pub(crate) fn routes() -> Routes<Restaurants> {
    Routes::new()
        .get("/api/v1/restaurants", Anyone(HUNGRY), "Find restaurants", restaurants::find_restaurants)
        .post("/api/v1/restaurants", May(MENU_EDIT), "Open a restaurant", restaurants::open_restaurant)
        .get("/api/v1/restaurants/{id}", Anyone(HUNGRY), "Show one restaurant", restaurants::show_restaurant)
        .patch(
            "/api/v1/restaurants/{id}",
            May(MENU_EDIT),
            "Change a restaurant's settings",
            restaurants::change_restaurant,
        )
        .get("/api/v1/restaurants/{id}/menu", Anyone(HUNGRY), "Show a restaurant's menu", menus::show_menu)
        .put(
            "/api/v1/restaurants/{id}/menu/items/{item_id}",
            May(MENU_EDIT),
            "Put an item on the menu",
            menus::put_item,
        )
        .delete(
            "/api/v1/restaurants/{id}/menu/items/{item_id}",
            May(MENU_EDIT),
            "Take an item off the menu",
            menus::remove_item,
        )
        .put(
            "/api/v1/restaurants/{id}/menu/items/{item_id}/availability",
            May(MENU_EDIT),
            "Say whether an item is sold out",
            menus::set_availability,
        )
        .post(
            "/internal/demo-city",
            Workload,
            "Open the demo city's restaurants that are not there yet",
            restaurants::found_demo_city,
        )
}

kernel::refusals! {
    /// What the restaurants service refuses.
    pub enum Refusal {
        /// The menu is full; take an item off before you add another.
        MenuFull = 409 "menu_full",
        /// The page token is not one of this list; start again without one.
        PageTokenInvalid = 400 "page_token_invalid",
    }
}

/// Which restaurant.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct RestaurantPath {
    /// The restaurant.
    pub(crate) id: Uuid,
}

/// Which item of which restaurant.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct ItemPath {
    /// The restaurant.
    pub(crate) id: Uuid,
    /// The item; whoever adds it chooses its identity.
    pub(crate) item_id: Uuid,
}

fn may_edit(caller: &Caller, org: Uuid) -> bool {
    caller.has(ADMIN) || caller.belongs_to(org)
}

/// The restaurant, if the caller may edit it.
async fn editable(tx: &Tx, caller: &Caller, id: Uuid) -> Result<RestaurantRow, Fail> {
    store::find(tx, id).await?.filter(|found| may_edit(caller, found.org_id)).ok_or_else(Fail::not_found)
}

/// Text that people type: not blank, and no card number in it.
fn plain_text<C>(text: &str, _: &C) -> garde::Result {
    if text.trim().is_empty() {
        return Err(garde::Error::new("must not be blank"));
    }
    without_card(text, &())
}

/// Text that may be empty and has no card number in it.
fn without_card<C>(text: &str, _: &C) -> garde::Result {
    if kernel::cards::looks_like_a_card(text) {
        return Err(garde::Error::new("looks like a card number, which does not belong here"));
    }
    Ok(())
}
