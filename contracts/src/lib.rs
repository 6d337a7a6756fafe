//! What services say to each other: events, permissions, the people and places of the demo city. Data only.

pub mod auth;
pub mod delivery;
pub mod demo;
pub mod kitchen;
pub mod notifications;
pub mod orders;
pub mod payments;
pub mod permissions;
pub mod restaurants;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A point on the map, in millionths of a degree: about 11 cm, and exact on every wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Longitude in millionths of a degree, east positive.
    #[schemars(range(min = -180_000_000, max = 180_000_000))]
    pub longitude_e6: i64,
    /// Latitude in millionths of a degree, north positive.
    #[schemars(range(min = -90_000_000, max = 90_000_000))]
    pub latitude_e6: i64,
}

impl Place {
    /// Whether this is a point on Earth.
    pub fn exists(self) -> bool {
        self.longitude_e6.abs() <= 180_000_000 && self.latitude_e6.abs() <= 90_000_000
    }

    /// A measure of distance that orders places of one city by nearness; not metres.
    pub fn squared_distance(self, other: Self) -> i64 {
        // At city scale a degree of longitude is about two thirds of one of latitude.
        let east = (self.longitude_e6 - other.longitude_e6) * 2 / 3;
        let north = self.latitude_e6 - other.latitude_e6;
        east.saturating_mul(east).saturating_add(north.saturating_mul(north))
    }
}
