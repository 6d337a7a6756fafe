//! All SQL of the delivery service, in a file for each kind of row.

mod couriers;
mod deliveries;

use kernel::store::{Migration, StoreError};

pub(crate) use couriers::*;
pub(crate) use deliveries::*;

pub(crate) const STEPS: &[Migration] =
    &[Migration { name: "001_delivery", sql: include_str!("../../migrations/001_delivery.sql") }];

/// A statement that must have touched its one row.
fn exactly_one(touched: u64) -> Result<(), StoreError> {
    if touched == 1 { Ok(()) } else { Err(StoreError::NoRow) }
}
