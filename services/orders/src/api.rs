//! The public face of orders: every route, then what its handlers share.

mod carts;
mod discounts;
mod new_order;
mod orders;
mod placing;
mod views;

use contracts::permissions::{
    ADMIN, DELIVERY_PARTNER, MENU_EDIT, ORDER_CANCEL, ORDER_PLACE, ORDER_STATUS, RESTAURANT_OWNER, SUPPORT,
};
use garde::Validate;
use kernel::http::{Caller, Fail, Routes};
use kernel::manifest::Access::{May, SignedIn};
use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

use crate::Orders;
use crate::order::Role;
use crate::store::OrderRow;
use carts::{empty_cart, put_cart, show_cart};
use discounts::{list_discounts, put_discount};
use orders::{cancel_order, change_status, list_customer_orders, list_orders, show_history, show_order};
use placing::place_order;

pub(crate) fn routes() -> Routes<Orders> {
    Routes::new()
        .post("/api/v1/orders", May(ORDER_PLACE), "Place an order", place_order)
        .get("/api/v1/orders", May(ORDER_STATUS), "List the orders of one's restaurants", list_orders)
        .get("/api/v1/orders/{id}", SignedIn, "Show one order", show_order)
        .get("/api/v1/orders/{id}/history", SignedIn, "Show how an order came to stand as it does", show_history)
        .get("/api/v1/orders/customer/{customerId}", SignedIn, "List a customer's orders", list_customer_orders)
        .put("/api/v1/orders/{id}/status", May(ORDER_STATUS), "Move an order on by hand", change_status)
        .post("/api/v1/orders/{id}/cancel", May(ORDER_CANCEL), "Cancel an order", cancel_order)
        .get("/api/v1/cart", May(ORDER_PLACE), "Show one's cart with its price", show_cart)
        .put("/api/v1/cart", May(ORDER_PLACE), "Fill one's cart", put_cart)
        .delete("/api/v1/cart", May(ORDER_PLACE), "Empty one's cart", empty_cart)
        .get("/api/v1/discounts/{org_id}", May(MENU_EDIT), "List an organisation's discounts", list_discounts)
        .put("/api/v1/discounts/{org_id}/{code}", May(MENU_EDIT), "Set up a discount", put_discount)
}

/// The order in the path.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
struct OrderPath {
    /// The order.
    id: Uuid,
}

/// Which page of a list.
#[derive(Clone, Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    /// How many at once; 20 unless told.
    #[garde(range(min = 1, max = 100))]
    page_size: Option<i64>,
    /// Where to go on: `next_page_token` of the page before.
    #[garde(length(max = 100))]
    page_token: Option<String>,
}

const PAGE_SIZE: i64 = 20;

/// As what the caller deals with this order; none for a stranger, to whom it does not exist.
fn role(caller: &Caller, order: &OrderRow) -> Option<Role> {
    let support = caller.has(ADMIN) || caller.has(SUPPORT);
    let restaurant = caller.has(RESTAURANT_OWNER) && caller.belongs_to(order.org_id);
    let courier = caller.has(DELIVERY_PARTNER) && order.courier_id == Some(caller.id());
    [
        (support, Role::Support),
        (restaurant, Role::Restaurant),
        (courier, Role::Courier),
        (order.customer_id == caller.id(), Role::Customer),
    ]
    .into_iter()
    .find_map(|(is, role)| is.then_some(role))
}

/// Refuses what has no place in a text that people type.
fn check_text(pointer: &str, text: &str) -> Result<(), Fail> {
    if text.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        return Err(Fail::invalid(pointer, "must not contain control characters"));
    }
    if kernel::cards::looks_like_a_card(text) {
        return Err(Fail::invalid(pointer, "looks like a card number; card numbers never belong here"));
    }
    Ok(())
}

#[cfg(test)]
mod scenarios;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_carry_neither_card_numbers_nor_control_characters() {
        assert!(check_text("/note", "second floor,\nring twice").is_ok());
        assert!(check_text("/note", "pay with 4242 4242 4242 4242").is_err());
        assert!(check_text("/note", "a\u{0}b").is_err());
    }
}
