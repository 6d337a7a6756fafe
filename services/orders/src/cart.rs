//! What a customer wants before it has a price: lines of items and choices, and the cart that keeps them.

use garde::Validate;
use kernel::clock::Timestamp;
use kernel::store::Json;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// More lines than this are refused.
pub(crate) const MAX_LINES: usize = 100;

/// One line: an item, how many, and what was chosen with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct WantedLine {
    /// The menu item.
    #[garde(skip)]
    pub(crate) item_id: Uuid,
    /// How many.
    #[garde(range(min = 1, max = 99))]
    pub(crate) quantity: i64,
    /// The choices taken, of all option groups together; each at most once.
    #[serde(default)]
    #[garde(length(max = 100))]
    pub(crate) choices: Vec<Uuid>,
}

kernel::row! {
    /// A customer's one cart. It is of one restaurant, because an order is.
    pub(crate) struct Cart in "carts" {
        pub(crate) org_id: Uuid,
        pub(crate) customer_id: Uuid,
        pub(crate) restaurant_id: Uuid,
        pub(crate) lines: Json<Vec<WantedLine>>,
        pub(crate) discount_code: Option<String>,
        pub(crate) updated_at: Timestamp,
    }
}

impl Cart {
    /// A cart as it was filled just now.
    pub(crate) fn new(
        customer_id: Uuid,
        restaurant_id: Uuid,
        lines: Vec<WantedLine>,
        discount_code: Option<String>,
        now: Timestamp,
    ) -> Self {
        // A customer is of no organisation; see the schema.
        Self { org_id: Uuid::nil(), customer_id, restaurant_id, lines: Json(lines), discount_code, updated_at: now }
    }
}
