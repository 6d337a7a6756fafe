//! Schema steps, and statements checked before they run.

use futures::future::join_all;
use kernel::store::{ColumnShape, Kind, Migration, STATEMENTS, Scalar, Statement, Store, StoreError};
use kernel::{params, sql};

use crate::world::{SERVERS, STEPS, World, notes, on_engines, on_every_engine, write_note};

async fn refusal(world: &World, steps: &[Migration]) -> String {
    match Store::open(world.options(), steps).await {
        Ok(_) => panic!("the database was opened"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_database_opens_again_with_what_it_had_and_takes_further_steps() {
    on_every_engine(async |world| {
        let store = world.open().await;
        write_note(&store, 1).await.unwrap();
        let epoch = sql!(Scalar<uuid::Uuid>, "SELECT epoch AS value FROM outbox_epoch");
        let first = store.read().one(epoch, params![]).await.unwrap();
        store.close().await;
        let second = Migration {
            name: "002_test",
            sql: "ALTER TABLE note ADD COLUMN mood TEXT; CREATE INDEX note_mood ON note (mood);",
        };
        let steps: Vec<Migration> = STEPS.iter().copied().chain([second]).collect();
        let store = Store::open(world.options(), &steps).await.unwrap();
        assert_eq!(notes(&store).await, [1]);
        assert_eq!(store.read().one(epoch, params![]).await.unwrap(), first);
        let moods = kernel::store::Sql::<Scalar<Option<String>>>::filed("SELECT mood AS value FROM note");
        assert_eq!(store.read().all(moods, params![]).await.unwrap(), [Scalar(None)]);
    });
}

#[test]
fn a_changed_step_and_a_newer_database_are_refused() {
    on_every_engine(async |world| {
        world.open().await.close().await;
        let changed = Migration { name: STEPS[0].name, sql: "CREATE TABLE other (id BIGINT NOT NULL PRIMARY KEY)" };
        let said = refusal(world, &[changed]).await;
        assert!(said.contains("001_test") && said.contains("was changed"), "{said}");
        let said = refusal(world, &[]).await;
        assert!(said.contains("001_test") && said.contains("newer version"), "{said}");
        world.open().await;
    });
}

#[test]
fn a_step_that_fails_leaves_nothing_of_itself() {
    on_every_engine(async |world| {
        let broken = Migration {
            name: "002_broken",
            sql: "CREATE TABLE half (id BIGINT NOT NULL); CREATE TABLE note (id BIGINT);",
        };
        let said = refusal(world, &[STEPS[0], broken]).await;
        assert!(said.contains("002_broken"), "{said}");
        let mended = Migration { name: "002_mended", sql: "CREATE TABLE half (id BIGINT NOT NULL PRIMARY KEY);" };
        Store::open(world.options(), &[STEPS[0], mended]).await.unwrap();
    });
}

#[test]
fn instances_that_start_together_make_one_schema() {
    on_engines(SERVERS, async |world| {
        let stores = join_all((0..4).map(|_| world.open())).await;
        for (id, store) in (1..).zip(&stores) {
            write_note(store, id).await.unwrap();
        }
        assert_eq!(notes(&stores[0]).await, [1, 2, 3, 4]);
        let epochs = sql!(Scalar<i64>, "SELECT COUNT(*) AS value FROM outbox_epoch");
        assert_eq!(stores[0].read().one(epochs, params![]).await.unwrap(), Scalar(1));
    });
}

#[test]
fn a_column_of_a_type_made_in_the_database_is_refused_at_start() {
    on_engines(SERVERS, async |world| {
        let made = Migration {
            name: "001_made",
            sql: "CREATE TYPE mood AS ENUM ('good'); CREATE TABLE day (mood mood NOT NULL);",
        };
        let said = refusal(world, &[made]).await;
        assert!(said.contains("day.mood"), "{said}");
    });
}

#[test]
fn an_address_that_demands_tls_needs_somebody_who_vouches() {
    on_engines(SERVERS, async |world| {
        let mut options = world.options();
        if let kernel::store::Engine::Postgres(server) = &mut options.engine {
            server.url.push_str("?sslmode=require");
        }
        let refused = Store::open(options, STEPS).await.err().unwrap();
        assert!(matches!(&refused, StoreError::Refused(why) if why.contains("ca_file")), "{refused}");
    });
}

#[test]
fn every_filed_statement_of_the_kernel_prepares() {
    on_every_engine(async |world| {
        let store = world.open().await;
        // What is filed for cases of tests is about tables that those bring along.
        let own = |module: &str| module.starts_with("kernel::") && !module.starts_with("kernel::testing::");
        let filed = STATEMENTS.iter().filter(|s| own(s.module));
        let mut checked = 0;
        for statement in filed {
            let place = format!("{}:{}", statement.file, statement.line);
            store.prepare(statement).await.unwrap_or_else(|error| panic!("{place}: {error}"));
            checked += 1;
        }
        assert!(checked > 0, "no statement was filed");
    });
}

fn falsified(text: &'static str, shape: fn() -> &'static [ColumnShape]) -> Statement {
    Statement { text, module: "schema", file: file!(), line: line!(), shape }
}

fn named(name: &'static str, kind: Kind, nullable: bool) -> ColumnShape {
    ColumnShape { name, kind, nullable }
}

const ID: fn() -> &'static [ColumnShape] = || const { &[ColumnShape { name: "id", kind: Kind::Int, nullable: false }] };
const REMARK: fn() -> &'static [ColumnShape] =
    || const { &[ColumnShape { name: "remark", kind: Kind::Text, nullable: false }] };
const MAYBE_REMARK: fn() -> &'static [ColumnShape] =
    || const { &[ColumnShape { name: "remark", kind: Kind::Text, nullable: true }] };

#[test]
fn falsified_statements_are_caught_when_they_are_prepared() {
    on_every_engine(async |world| {
        let store = world.open().await;
        assert_eq!(ID(), [named("id", Kind::Int, false)]);
        store.prepare(&falsified("SELECT id FROM note WHERE body = $1", ID)).await.unwrap();
        store.prepare(&falsified("SELECT remark FROM note", MAYBE_REMARK)).await.unwrap();
        for (text, shape) in [
            ("SELECT id FROM notes", ID),
            ("SELECT body AS id FROM note", ID),
            ("SELECT id AS number FROM note", ID),
            ("SELECT id, body FROM note", ID),
        ] {
            let checked = store.prepare(&falsified(text, shape)).await;
            assert!(checked.is_err(), "{text} was not caught");
        }
        // Only a server tells where a result column comes from, and so whether it can be NULL.
        if SERVERS.contains(&world.on) {
            let checked = store.prepare(&falsified("SELECT remark FROM note", REMARK)).await;
            assert!(matches!(&checked, Err(StoreError::Decode(why)) if why.contains("NULL")), "{checked:?}");
        }
    });
}
