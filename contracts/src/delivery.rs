//! What `delivery` says: who brings an order and how far it has come.

use kernel::clock::Timestamp;
use kernel::events::{Payload, Subject};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The delivery of one order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeliveryState {
    /// The restaurant's organisation.
    pub org_id: Uuid,
    /// The order, which is also the delivery's identity.
    pub order_id: Uuid,
    /// Counts steps from 1.
    pub version: i64,
    /// Who brings it.
    pub courier_id: Option<Uuid>,
    /// Their name.
    pub courier_name: Option<String>,
    /// Why, if it failed.
    pub reason: Option<String>,
    /// When this happened.
    pub at: Timestamp,
}

impl Payload for DeliveryState {
    fn subject(&self) -> Subject {
        Subject { org: self.org_id, id: self.order_id, version: self.version }
    }
}

kernel::events! {
    publisher "delivery", topic "delivery.events", aggregate "delivery";
    /// A courier is on it.
    "delivery.assigned" v 1 [] => DeliveryAssigned(DeliveryState);
    /// The courier has the food.
    "delivery.picked_up" v 1 [] => DeliveryPickedUp(DeliveryState);
    /// The customer has the food.
    "delivery.completed" v 1 [] => DeliveryCompleted(DeliveryState);
    /// Nobody could bring it.
    "delivery.failed" v 1 [] => DeliveryFailed(DeliveryState);
}
