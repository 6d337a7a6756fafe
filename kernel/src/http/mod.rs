//! HTTP: the server with its limits, bodies that end, the one shape of errors, and who calls.

pub mod assertion;
pub mod body;
mod connection;
pub mod problem;
pub mod server;
