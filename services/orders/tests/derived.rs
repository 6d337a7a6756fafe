//! What every service is held to for its declaration alone, here: orders.

use contracts::permissions::{CUSTOMER, ROLES};
use contracts::restaurants::{MenuChanged, RestaurantChanged};
use kernel::events::Event as _;
use kernel::testing::derived::{self, Fields};
use kernel::testing::room::Room;
use serde_json::json;

#[tokio::test]
async fn every_route_refuses_whom_and_what_it_must() {
    derived::every_route_refuses(&orders::service(), ROLES).await;
}

#[tokio::test]
async fn every_statement_prepares_on_a_fresh_database() {
    derived::statements_prepare(&orders::service()).await;
}

/// An open restaurant, its menu, and one order there.
async fn one_order(room: &Room) -> Fields {
    let mut restaurant = derived::sample(&RestaurantChanged::DEF);
    restaurant["paused"] = json!(false);
    restaurant["minimum_order_minor"] = json!(0);
    restaurant["hours"] = json!([{"weekday": 4, "opens_minute": 0, "closes_minute": 1440}]);
    room.hear(RestaurantChanged(serde_json::from_value(restaurant.clone()).unwrap())).await;
    let mut menu = derived::sample(&MenuChanged::DEF);
    (menu["items"][0]["sold_out"], menu["items"][0]["options"]) = (json!(false), json!([]));
    room.hear(MenuChanged(serde_json::from_value(menu.clone()).unwrap())).await;
    let order = json!({
        "restaurant_id": restaurant["restaurant_id"],
        "lines": [{"item_id": menu["items"][0]["item_id"], "quantity": 1}],
        "deliver_to": {"name": "Ann", "street": "Main Street 1", "city": "Springfield", "place": {"longitude_e6": 1, "latitude_e6": 2}},
        "card": {"token": "tok_1", "brand": "visa", "last4": "4242"},
    });
    let placed = room.as_role(CUSTOMER, kernel::ids::fresh(), &[]).post("/api/v1/orders", order).await;
    assert_eq!(placed.status, 201, "{}", placed.text);
    Fields::from_iter([("order_id".to_owned(), placed.body["id"].clone())])
}

#[tokio::test]
async fn every_heard_event_counts_once() {
    derived::every_heard_event_counts_once_after(&orders::service(), &[], one_order).await;
}
