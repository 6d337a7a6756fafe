//! Restaurants and their menus: what there is to order, when, and for how much.
//!
//! Words: a *restaurant* belongs to an organisation and has *settings* (hours, pause switch, fees). Its *menu* is the list of
//! its *items* in reading order; an item may have *option groups* with *choices*. *Sold out* items stay on the menu.
//!
//! Invariants:
//! - Prices are whole minor units of the restaurant's one currency, tax included; the currency never changes.
//! - A restaurant and its menu count their changes separately; each change is published whole, with the next version.
//! - Hours are local time, do not overlap, and do not cross midnight: a night is two stretches.
//! - Nobody edits a restaurant of an organisation that is not theirs; everybody may read all of them.
//! - Nothing here is asked at order time: others keep their own copy of what is published.

mod api;
mod demo;
mod jobs;
mod menu;
mod restaurant;
mod store;

#[cfg(test)]
mod scenes;

use std::time::Duration;

use contracts::restaurants::{MenuChanged, MenuState, RestaurantChanged, RestaurantState};
use kernel::cache::{Cache, Changes, Keep};
use kernel::clock::Clock;
use kernel::config::ConfigError;
use kernel::service::{Declared, Kit};
use kernel::store::Store;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What the restaurants service may be told.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Fill an empty database with the demo city's restaurants.
    #[schemars(extend("x-restart" = true))]
    pub demo_city: bool,
}

impl kernel::config::Settings for Settings {}

/// The running service.
pub(crate) struct Restaurants {
    store: Store,
    clock: Clock,
    settings: Settings,
    /// What people read all day, by the restaurant's id.
    shown: Cache<RestaurantState>,
    menus: Cache<MenuState>,
}

/// Far more restaurants than a city has; what changes is dropped by its event long before its time is over.
const KEPT: Keep = Keep { entries: 10_000, life: Duration::from_secs(300) };

impl Restaurants {
    fn new(kit: Kit) -> Result<Self, ConfigError> {
        let (shown, menus) = (cache(&kit, "restaurants"), cache(&kit, "menus"));
        Changes::of_own(&kit).drop::<RestaurantChanged, _>(&shown).drop::<MenuChanged, _>(&menus).listen(&kit.tasks);
        Ok(Self { settings: kit.settings()?, store: kit.store, clock: kit.clock, shown, menus })
    }
}

fn cache<V: Serialize + DeserializeOwned + Send + Sync + 'static>(kit: &Kit, name: &'static str) -> Cache<V> {
    Cache::new(name, KEPT, kit.redis.as_ref(), &kit.metrics)
}

/// The declaration of the restaurants service.
pub fn service() -> Declared {
    kernel::describe!(Restaurants)
        .port(8085)
        .migrations(store::STEPS)
        .publishes(contracts::restaurants::restaurant::EVENTS)
        .publishes(contracts::restaurants::menu::EVENTS)
        .routes(api::routes)
        .woken("demo-city", Duration::from_secs(24 * 3600), jobs::found_demo_city)
        .refuses(api::Refusal::DOCS)
        .settings::<Settings>()
        .start_with(Restaurants::new)
}
