//! What tests of services are made of: rooms and stations on real sockets, derived tests, and the checkers of the promises.

pub mod bus;
pub mod cases;
pub mod derived;
pub mod hearing;
pub mod library;
pub mod proxy;
#[cfg(feature = "redis")]
pub mod redis;
pub mod registry;
pub mod room;
pub mod scratch;
pub mod station;
pub mod store;
pub mod visitor;
pub mod world;
