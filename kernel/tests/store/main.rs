//! The store's promises, tested on every engine: SQLite, PostgreSQL directly, and PostgreSQL behind a pooler.

mod commit;
mod kill;
mod lost;
mod pooler;
mod relay;
mod rows;
mod schema;
mod told;
mod units;
mod world;
