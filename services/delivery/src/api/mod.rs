//! The routes of the delivery service; handlers are in the file of their resource, in table order.

pub(crate) mod couriers;
pub(crate) mod deliveries;

use contracts::permissions::DELIVERY_WORK;
use kernel::http::{Caller, Routes};
use kernel::manifest::Access::{May, SignedIn};
use kernel::manifest::Permission;

use crate::Delivery;

pub(crate) fn routes() -> Routes<Delivery> {
    Routes::new()
        .put("/api/v1/couriers/me/shift", May(DELIVERY_WORK), "Begin or end one's shift", couriers::change_shift)
        .put("/api/v1/couriers/me/position", May(DELIVERY_WORK), "Say where one is", couriers::move_courier)
        .get("/api/v1/deliveries", SignedIn, "List the deliveries one brings, or all", deliveries::list_deliveries)
        .get("/api/v1/deliveries/{order_id}", SignedIn, "Follow a delivery", deliveries::show_delivery)
        .post(
            "/api/v1/deliveries/{order_id}/picked-up",
            May(DELIVERY_WORK),
            "Say that one has the food",
            deliveries::pick_up,
        )
        .post(
            "/api/v1/deliveries/{order_id}/delivered",
            May(DELIVERY_WORK),
            "Say that the customer has the food",
            deliveries::hand_over,
        )
        .post(
            "/api/v1/deliveries/{order_id}/give-back",
            May(DELIVERY_WORK),
            "Let another courier bring it",
            deliveries::give_back,
        )
}

/// Whether one of the caller's roles grants this permission.
fn may(caller: &Caller, permission: Permission) -> bool {
    permission.roles.iter().any(|role| caller.has(role))
}
