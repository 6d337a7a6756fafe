//! Infrastructure for small services that own their data and talk by events. No word of any domain stands here.

extern crate self as kernel;

pub mod cache;
pub mod cards;
pub mod clock;
pub mod config;
mod consul;
pub mod docs;
pub mod events;
pub mod health;
pub mod http;
pub mod idempotency;
pub mod ids;
pub mod jobs;
pub mod limit;
pub mod lock;
pub mod manifest;
pub mod money;
pub mod redis;
pub mod registry;
pub mod resilience;
pub mod secrets;
pub mod service;
pub mod store;
pub mod task;
pub mod telemetry;
pub mod testing;

#[doc(hidden)]
pub use {linkme, schemars, serde, uuid};
