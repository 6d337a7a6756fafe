//! The store's promises, tested on every engine: SQLite, PostgreSQL directly, and PostgreSQL behind a pooler.

mod cluster;
mod commit;
mod conflicts;
mod kill;
mod lost;
mod pooler;
mod relay;
mod roles;
mod rows;
mod schema;
mod secrets;
mod standby;
mod tenants;
mod tls;
mod told;
mod units;
mod world;
