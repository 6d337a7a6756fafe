//! What tests of services are made of: stations on real sockets, and the checkers of the promises.

pub mod bus;
pub mod station;
pub mod store;
