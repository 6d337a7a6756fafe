//! Infrastructure for small services that own their data and talk by events. No word of any domain stands here.

extern crate self as kernel;

pub mod clock;
pub mod events;
pub mod http;
pub mod ids;
pub mod manifest;
pub mod registry;
pub mod resilience;
pub mod store;
pub mod telemetry;

#[doc(hidden)]
pub use {linkme, schemars, serde, uuid};
