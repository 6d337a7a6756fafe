//! All SQL of the kitchen service, in a file for each kind of row.

mod reservations;
mod stock;
mod tickets;

use kernel::store::{Migration, StoreError};

pub(crate) use reservations::*;
pub(crate) use stock::*;
pub(crate) use tickets::*;

pub(crate) const STEPS: &[Migration] =
    &[Migration { name: "001_kitchen", sql: include_str!("../../migrations/001_kitchen.sql") }];

/// A statement that must have touched its one row.
fn exactly_one(touched: u64) -> Result<(), StoreError> {
    if touched == 1 { Ok(()) } else { Err(StoreError::NoRow) }
}
