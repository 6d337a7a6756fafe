//! What `restaurants` says: the full state of a restaurant and of its menu whenever either changes.

use kernel::events::{Payload, Subject};
use kernel::money::Currency;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Place;

/// One stretch of opening time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hours {
    /// 1 Monday to 7 Sunday, local time.
    #[schemars(range(min = 1, max = 7))]
    pub weekday: i64,
    /// Minutes after local midnight.
    #[schemars(range(min = 0, max = 1440))]
    pub opens_minute: i64,
    /// Minutes after local midnight; larger than `opens_minute`.
    #[schemars(range(min = 0, max = 1440))]
    pub closes_minute: i64,
}

/// A restaurant as others need it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestaurantState {
    /// The organisation that runs it.
    pub org_id: Uuid,
    /// The restaurant.
    pub restaurant_id: Uuid,
    /// Counts changes from 1.
    pub version: i64,
    /// Its name.
    pub name: String,
    /// Such as `Italian`.
    pub cuisine: String,
    /// Street and number.
    pub street: String,
    /// City.
    pub city: String,
    /// Where it is.
    pub place: Place,
    /// Currency of all its prices.
    pub currency: Currency,
    /// Offset of its local time from UTC in minutes.
    pub utc_offset_minutes: i64,
    /// When it takes orders.
    pub hours: Vec<Hours>,
    /// Switched off by hand, for holidays or a broken oven.
    pub paused: bool,
    /// Whether its kitchen accepts by itself.
    pub auto_accept: bool,
    /// How long an order usually takes in the kitchen.
    pub prep_minutes: i64,
    /// What delivery costs the customer.
    pub delivery_fee_minor: i64,
    /// Orders below this are refused.
    pub minimum_order_minor: i64,
}

impl Payload for RestaurantState {
    fn subject(&self) -> Subject {
        Subject { org: self.org_id, id: self.restaurant_id, version: self.version }
    }
}

/// One choice within an option group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// The choice.
    pub choice_id: Uuid,
    /// Its name.
    #[schemars(length(min = 1, max = 80))]
    pub name: String,
    /// Added to the item's price.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub price_minor: i64,
}

/// Choices of which some must or may be taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OptionGroup {
    /// The group.
    pub group_id: Uuid,
    /// Such as `Size`.
    #[schemars(length(min = 1, max = 80))]
    pub name: String,
    /// At least this many choices.
    #[schemars(range(min = 0, max = 20))]
    pub min: i64,
    /// At most this many choices.
    #[schemars(range(min = 1, max = 20))]
    pub max: i64,
    /// What there is to choose from.
    #[schemars(length(min = 1, max = 40))]
    pub choices: Vec<Choice>,
}

/// A dish or drink.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MenuItem {
    /// The item.
    pub item_id: Uuid,
    /// Its name.
    pub name: String,
    /// A sentence about it.
    pub description: String,
    /// Such as `Starters`.
    pub category: String,
    /// Price of one, tax included.
    pub price_minor: i64,
    /// Tax contained in the price, in basis points.
    pub tax_basis_points: i64,
    /// Sold out items stay on the menu and cannot be ordered.
    pub sold_out: bool,
    /// How many the kitchen can make a day; none means without limit.
    pub daily_stock: Option<i64>,
    /// What can be chosen with it.
    pub options: Vec<OptionGroup>,
}

/// A whole menu.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MenuState {
    /// The organisation.
    pub org_id: Uuid,
    /// The restaurant whose menu this is.
    pub restaurant_id: Uuid,
    /// Counts changes from 1.
    pub version: i64,
    /// Currency of the prices.
    pub currency: Currency,
    /// Everything on it, in reading order.
    pub items: Vec<MenuItem>,
}

impl Payload for MenuState {
    fn subject(&self) -> Subject {
        Subject { org: self.org_id, id: self.restaurant_id, version: self.version }
    }
}

/// Events about restaurants.
pub mod restaurant {
    use super::RestaurantState;
    kernel::events! {
        publisher "restaurants", topic "restaurants.events", aggregate "restaurant";
        /// A restaurant was opened or changed.
        "restaurant.changed" v 1 [] => RestaurantChanged(RestaurantState);
    }
}

/// Events about menus.
pub mod menu {
    use super::MenuState;
    kernel::events! {
        publisher "restaurants", topic "restaurants.events", aggregate "menu";
        /// A menu changed: items, prices, options or what is sold out.
        "menu.changed" v 1 [] => MenuChanged(MenuState);
    }
}

pub use menu::MenuChanged;
pub use restaurant::RestaurantChanged;
