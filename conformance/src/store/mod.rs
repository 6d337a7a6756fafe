//! The store: units of work that are there as a whole or not at all, on every engine that keeps rows.

mod commit;
pub(crate) mod kill;
pub(crate) mod room;
mod servers;
mod tenants;
mod units;

use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use kernel::params;
use kernel::store::{Sql, Store, Tx};
use kernel::testing::world::{On, World};

use crate::case::Case;
use crate::place::Place;

const ONE_WRITER: &str = "SQLite has one writer at a time, so units neither deadlock nor conflict nor wait for a row";
const NO_WIRE: &str = "there is no connection to lose between a process and its own file";
const NO_SERVER: &str = "SQLite runs statements in the process itself, and row-level security is a server's";

macro_rules! store {
    ($($name:literal, $shows:literal, fault $fault:literal, $module:ident::$run:ident $(, not sqlite: $why:expr)?;)*) => {
        vec![$(Case {
            name: $name,
            shows: $shows,
            fault: $fault,
            not_on: &[$(("sqlite", $why))?],
            run: std::sync::Arc::new(|place| {
                Box::pin(on(place, async |place: &Place, world: &World| $module::$run(place, world).await))
            }),
        }),*]
    };
}

pub(crate) fn cases() -> Vec<Case> {
    store! {
        "store.commit", "an acknowledged unit is seen by everybody else",
            fault "a reader of another database", commit::seen;
        "store.own_rows", "a unit reads its own rows, and others do not before it commits",
            fault "a row that is there before the unit", commit::own_rows;
        "store.refusal", "a unit that refuses leaves nothing and harms nobody",
            fault "a rollback that leaves a row", units::refusal;
        "store.panic", "a unit that panics leaves nothing and harms nobody",
            fault "a rollback that leaves a row", units::panics;
        "store.deadline", "a unit that passes its deadline leaves nothing and harms nobody",
            fault "a rollback that leaves a row", units::deadline;
        "store.cancelled", "a statement that runs past the deadline is cancelled on the server",
            fault "a rollback that leaves a row", units::cancelled, not sqlite: NO_SERVER;
        "store.sealed", "a failed statement seals the unit, even if its error is swallowed",
            fault "a rollback that leaves a row", units::sealed;
        "store.abandoned", "a statement that is left half way seals the unit",
            fault "a rollback that leaves a row", units::abandoned, not sqlite: NO_SERVER;
        "store.caller_gone", "a unit completes although its caller has gone",
            fault "half of the unit", units::caller_gone;
        "store.callers_leave", "callers that leave at any moment leave whole units or nothing",
            fault "half of a unit", units::callers_leave;
        "store.kept_handle", "a handle kept beyond its unit does nothing and fails the unit",
            fault "a rollback that leaves a row", units::kept_handle;
        "store.words", "a unit cannot end or reconfigure its transaction",
            fault "a rollback that leaves a row", units::words;
        "store.rules", "a broken rule of the schema is told as such",
            fault "rules that nothing enforces", commit::rules;
        "store.outbox", "an event is in the outbox exactly if its unit committed",
            fault "an event of a unit that was rolled back", commit::outbox;
        "store.refused_event", "an event that the outbox refuses fails its unit",
            fault "the row of the refused unit", commit::refused_event;
        "store.head", "the head moves after a commit, and is found again after a restart",
            fault "an event of a refused unit", commit::head;
        "store.close", "a closed store waits for what runs and refuses what comes",
            fault "a store that is open again", commit::close;
        "store.deadlock", "units that deadlock run again, and all commit",
            fault "an update that is lost", servers::deadlock, not sqlite: ONE_WRITER;
        "store.conflict", "units that conflict run again as a whole, as if one came after the other",
            fault "an isolation that does not look for conflicts", servers::conflict, not sqlite: ONE_WRITER;
        "store.lock", "a row that stays locked is told as such, in bounded time",
            fault "a lock that nobody holds", servers::lock_timeout, not sqlite: ONE_WRITER;
        "store.cut", "a unit whose connection is cut before its commit runs again",
            fault "half of the unit", servers::cut_before_commit, not sqlite: NO_WIRE;
        "store.lost_commit", "a lost answer to COMMIT is told as unknown, and the unit does not run again",
            fault "a unit that runs again", servers::lost_commit, not sqlite: NO_WIRE;
        "store.kill", "kill -9 under load loses no acknowledged unit and leaves none by half",
            fault "an acknowledged unit that is lost", kill::acknowledged;
        "store.full", "a full disk is told with its remedy, loses nothing, and needs no restart once there is room",
            fault "an acknowledged unit that is lost", room::full;
        "store.tenancy_reads", "a read that forgets its WHERE gives the rows of its organisations alone",
            fault "a read without a scope", tenants::reads;
        "store.tenancy_writes", "a unit neither inserts nor publishes what is another organisation's",
            fault "a unit without a scope", tenants::writes;
        "store.tenancy_statements", "no statement of any kind reaches rows of others",
            fault "a unit without a scope", tenants::statements, not sqlite: NO_SERVER;
        "store.tenancy_across", "a unit may touch rows of others where it says so, and only there",
            fault "a unit that does not say so", tenants::across;
        "store.tenancy_absent", "a session without a scope sees nothing",
            fault "tables without row-level security", tenants::absent, not sqlite: NO_SERVER;
        "store.tenancy_contention", "organisations do not mix on shared connections",
            fault "a read without a scope", tenants::contention, not sqlite: NO_SERVER;
    }
}

/// What a case needs of this machine beside its engine, where that is not there.
pub(crate) fn missing(case: &str, engine: &str) -> Option<String> {
    (case == "store.full" && engine == "sqlite").then(room::missing).flatten().map(str::to_owned)
}

/// Plays in a fresh database, and removes it afterwards.
async fn on(place: Place, body: impl AsyncFn(&Place, &World) -> String) -> String {
    let world = world(&place);
    let ended = AssertUnwindSafe(body(&place, &world)).catch_unwind().await;
    world.clean().await;
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn world(place: &Place) -> World {
    let address = |variable| place.address(variable);
    match place.engine.name {
        "sqlite" => World::sqlite(),
        "postgres" => World::postgres(On::Postgres, address("FX_TEST_POSTGRES"), address("FX_TEST_POSTGRES")),
        _ => World::postgres(On::Pooler, address("FX_TEST_PGBOUNCER"), address("FX_TEST_POSTGRES")),
    }
}

/// Runs one statement: how a fault gets into a database.
pub(crate) async fn tamper(store: &Store, sql: Sql<()>) {
    store.write(move |tx: Tx| async move { tx.run(sql, params![]).await }).await.expect("it is tampered with");
}
