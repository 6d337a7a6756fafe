//! What `kitchen` says: stock reserved or not, tickets accepted or not, cooked.

use kernel::clock::Timestamp;
use kernel::events::{Payload, Subject};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What became of the stock for one order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReservationState {
    /// The restaurant's organisation.
    pub org_id: Uuid,
    /// The order, which is also the reservation's identity.
    pub order_id: Uuid,
    /// Counts steps from 1.
    pub version: i64,
    /// The restaurant.
    pub restaurant_id: Uuid,
    /// Names of the items that were not in stock.
    pub missing: Vec<String>,
    /// When this happened.
    pub at: Timestamp,
}

impl Payload for ReservationState {
    fn subject(&self) -> Subject {
        Subject { org: self.org_id, id: self.order_id, version: self.version }
    }
}

/// A kitchen ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TicketState {
    /// The restaurant's organisation.
    pub org_id: Uuid,
    /// The order, which is also the ticket's identity.
    pub order_id: Uuid,
    /// Counts steps from 1.
    pub version: i64,
    /// The restaurant.
    pub restaurant_id: Uuid,
    /// Why, if the kitchen said no.
    pub reason: Option<String>,
    /// When the food is likely ready.
    pub ready_at: Option<Timestamp>,
    /// When this happened.
    pub at: Timestamp,
}

impl Payload for TicketState {
    fn subject(&self) -> Subject {
        Subject { org: self.org_id, id: self.order_id, version: self.version }
    }
}

/// Events about stock.
pub mod inventory {
    use super::ReservationState;
    kernel::events! {
        publisher "kitchen", topic "kitchen.events", aggregate "reservation";
        /// Everything an order needs is set aside.
        "inventory.reserved" v 1 [] => InventoryReserved(ReservationState);
        /// Something is not in stock; nothing was set aside.
        "inventory.rejected" v 1 [] => InventoryRejected(ReservationState);
        /// What was set aside is free again.
        "inventory.released" v 1 [] => InventoryReleased(ReservationState);
    }
}

/// Events about tickets.
pub mod ticket {
    use super::TicketState;
    kernel::events! {
        publisher "kitchen", topic "kitchen.events", aggregate "ticket";
        /// The kitchen will cook it, once it is paid.
        "kitchen.accepted" v 1 [] => KitchenAccepted(TicketState);
        /// The kitchen will not cook it.
        "kitchen.rejected" v 1 [] => KitchenRejected(TicketState);
        /// The kitchen did not answer in time.
        "kitchen.expired" v 1 [] => KitchenExpired(TicketState);
        /// Cooking began.
        "kitchen.started" v 1 [] => KitchenStarted(TicketState);
        /// The food is ready.
        "kitchen.ready" v 1 [] => KitchenReady(TicketState);
    }
}

pub use inventory::{InventoryRejected, InventoryReleased, InventoryReserved};
pub use ticket::{KitchenAccepted, KitchenExpired, KitchenReady, KitchenRejected, KitchenStarted};
