//! The routes of the kitchen service; handlers are in the file of their resource, in table order.

mod stock;
pub(crate) mod tickets;

use contracts::permissions::{ADMIN, KITCHEN_WORK};
use kernel::http::{Caller, Routes};
use kernel::manifest::Access::May;
use kernel::store::{AnyOf, any};
use uuid::Uuid;

use crate::Kitchen;

pub(crate) fn routes() -> Routes<Kitchen> {
    Routes::new()
        .get("/api/v1/kitchen/tickets", May(KITCHEN_WORK), "List tickets", tickets::list_tickets)
        .post("/api/v1/kitchen/tickets/{order_id}/accept", May(KITCHEN_WORK), "Accept an order", tickets::accept_ticket)
        .post("/api/v1/kitchen/tickets/{order_id}/reject", May(KITCHEN_WORK), "Refuse an order", tickets::reject_ticket)
        .post(
            "/api/v1/kitchen/tickets/{order_id}/ready",
            May(KITCHEN_WORK),
            "Say that the food is ready",
            tickets::finish_ticket,
        )
        .get("/api/v1/kitchen/stock", May(KITCHEN_WORK), "List a restaurant's counted items", stock::list_stock)
        .put("/api/v1/kitchen/stock/{item_id}", May(KITCHEN_WORK), "Correct what is on hand", stock::count_stock)
}

/// The organisations whose kitchens the caller may look into; none means all.
fn own_orgs(caller: &Caller) -> Option<AnyOf> {
    (!caller.has(ADMIN)).then(|| any(&caller.orgs))
}

fn may_work(caller: &Caller, org: Uuid) -> bool {
    caller.has(ADMIN) || caller.belongs_to(org)
}
