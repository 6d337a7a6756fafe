//! The card network seen from outside: over HTTP, by its webhooks, and under kill -9.
mod bodies;
mod faults;
mod harness;
mod idempotency;
mod kill;
mod money;
mod webhooks;
