//! The store on SQLite, PostgreSQL directly, and PostgreSQL behind a pooler: what is not a case of `conformance`.

mod cluster;
mod commit;
mod lost;
mod pooler;
mod relay;
mod roles;
mod rows;
mod schema;
mod secrets;
mod standby;
mod tls;
mod told;
mod units;
mod world;
