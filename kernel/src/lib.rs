//! Infrastructure for small services that own their data and talk by events. No word of any domain stands here.

extern crate self as kernel;

pub mod clock;
pub mod config;
pub mod events;
pub mod health;
pub mod ids;
pub mod jobs;
pub mod manifest;
pub mod registry;
pub mod secrets;
pub mod store;
pub mod task;
pub mod telemetry;

#[doc(hidden)]
pub use {linkme, schemars, serde, uuid};
