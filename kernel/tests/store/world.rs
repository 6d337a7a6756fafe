//! One fresh database per test and engine, a schema that all tests share, and the words they use.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;
use kernel::clock::Clock;
use kernel::events::{Payload, Subject};
use kernel::store::{Admin, Engine, Migration, Options, Scalar, Server, Store, StoreError, Tx, WriteError};
use kernel::testing::scratch;
use kernel::{params, row, sql};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use uuid::Uuid;

pub(crate) const STEPS: &[Migration] = &[Migration {
    name: "001_test",
    sql: "CREATE TABLE note (id BIGINT NOT NULL PRIMARY KEY, body TEXT NOT NULL, remark TEXT, CHECK (body <> 'forbidden'));
          CREATE TABLE tally (name TEXT NOT NULL PRIMARY KEY, n BIGINT NOT NULL);
          CREATE TABLE thing (id UUID NOT NULL PRIMARY KEY, version BIGINT NOT NULL);",
}];

row! {
    pub(crate) struct Note in "note" {
        pub(crate) id: i64,
        pub(crate) body: String,
        pub(crate) remark: Option<String>,
    }
}

row! {
    pub(crate) struct Tally in "tally" {
        pub(crate) name: String,
        pub(crate) n: i64,
    }
}

/// The state of a thing, as its events carry it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[expect(unreachable_pub, reason = "events are declared public, and so is what they carry")]
pub struct ThingState {
    #[serde(default)]
    pub(crate) org: Uuid,
    pub(crate) id: Uuid,
    pub(crate) version: i64,
}

impl Payload for ThingState {
    fn subject(&self) -> Subject {
        Subject { org: self.org, id: self.id, version: self.version }
    }
}

kernel::events! { publisher "tests", topic "tests.events", aggregate "thing";
    /// A thing changed.
    "thing.changed" v 1 [] => ThingChanged(ThingState);
}

pub(crate) fn note(id: i64) -> Note {
    Note { id, body: format!("note {id}"), remark: None }
}

pub(crate) fn changed(id: Uuid, version: i64) -> ThingChanged {
    changed_of(Uuid::nil(), id, version)
}

pub(crate) fn changed_of(org: Uuid, id: Uuid, version: i64) -> ThingChanged {
    ThingChanged(ThingState { org, id, version })
}

/// Which of the engines a world is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum On {
    Sqlite,
    Postgres,
    Pooler,
}

pub(crate) struct World {
    pub(crate) on: On,
    pub(crate) engine: Engine,
    folder: TempDir,
}

impl World {
    fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { on: On::Sqlite, engine: Engine::Sqlite { path: folder.path().join("test.db") }, folder }
    }

    fn postgres(on: On, url: &str, admin: &str) -> Self {
        let engine = scratch::postgres(admin, url, &scratch::fresh_schema());
        Self { on, engine, folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn options(&self) -> Options {
        let mut options = Options::new(self.engine.clone(), Clock::system());
        // Two seconds leave room for the server to find a deadlock, which takes it one.
        options.deadline = Duration::from_secs(2);
        options.claims = vec!["thing.changed"];
        options
    }

    pub(crate) async fn open(&self) -> Store {
        self.open_with(self.options()).await
    }

    pub(crate) async fn open_with(&self, options: Options) -> Store {
        Store::open(options, STEPS).await.unwrap()
    }

    pub(crate) fn server(&self) -> &Server {
        match &self.engine {
            Engine::Postgres(server) => server,
            Engine::Sqlite { .. } => panic!("SQLite has no server"),
        }
    }

    pub(crate) fn schema(&self) -> &str {
        &self.server().schema
    }

    /// A direct connection to the server as its administrator, in no schema.
    pub(crate) async fn admin(&self) -> tokio_postgres::Client {
        let admin = self.server().admin_url.as_deref().unwrap();
        let (client, connection) = tokio_postgres::connect(admin, tokio_postgres::NoTls).await.unwrap();
        spawn(async move { drop(connection.await) });
        client
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    async fn clean(&self) {
        if self.on != On::Sqlite {
            let admin = Admin::connect(self.server().admin_url.as_deref().unwrap(), None).await.unwrap();
            admin.remove(self.schema()).await.unwrap();
        }
    }
}

/// The engines there are; says which are missing, and fails if none may be.
fn engines() -> Vec<World> {
    let mut worlds = vec![World::sqlite()];
    let (direct, pooled) = (scratch::address("FX_TEST_POSTGRES"), scratch::address("FX_TEST_PGBOUNCER"));
    for (on, url) in [(On::Postgres, &direct), (On::Pooler, &pooled)] {
        if let (Some(url), Some(admin)) = (url, &direct) {
            worlds.push(World::postgres(on, url, admin));
        }
    }
    worlds
}

/// Runs a test body on each of the engines that `wanted` picks, in a fresh database.
pub(crate) fn on_engines(wanted: &[On], body: impl AsyncFn(&World)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for world in engines().into_iter().filter(|world| wanted.contains(&world.on)) {
        println!("on {:?}", world.on);
        runtime.block_on(async {
            let outcome = AssertUnwindSafe(body(&world)).catch_unwind().await;
            world.clean().await;
            if let Err(panic) = outcome {
                println!("failed on {:?}", world.on);
                std::panic::resume_unwind(panic);
            }
        });
    }
}

pub(crate) const SERVERS: &[On] = &[On::Postgres, On::Pooler];

pub(crate) fn on_every_engine(body: impl AsyncFn(&World)) {
    on_engines(&[On::Sqlite, On::Postgres, On::Pooler], body);
}

#[expect(clippy::disallowed_methods, reason = "tests await their tasks, or mean to lose them")]
pub(crate) fn spawn<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> tokio::task::JoinHandle<T> {
    tokio::spawn(work)
}

pub(crate) async fn notes(store: &Store) -> Vec<i64> {
    let rows = store.read().all(sql!(Scalar<i64>, "SELECT id AS value FROM note ORDER BY id"), params![]).await;
    rows.unwrap().into_iter().map(|Scalar(id)| id).collect()
}

pub(crate) async fn outbox_count(store: &Store) -> i64 {
    let count = store.read().one(sql!(Scalar<i64>, "SELECT COUNT(*) AS value FROM outbox"), params![]).await;
    count.unwrap().0
}

/// Writes one note in a unit of its own.
pub(crate) async fn write_note(store: &Store, id: i64) -> Result<(), WriteError<StoreError>> {
    store.write(move |tx: Tx| async move { tx.insert(&note(id)).await }).await
}
