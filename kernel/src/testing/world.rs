//! One fresh database per test and engine, a schema that tests of the store share, and the words they use.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use uuid::Uuid;

use crate::clock::Clock;
use crate::events::{Payload, Subject};
use crate::store::{Admin, Engine, Migration, Options, Scalar, Server, Store, StoreError, Tx, WriteError};
use crate::testing::proxy::Proxy;
use crate::testing::scratch;
use crate::{params, row, sql};

/// The tables of the tests.
pub const STEPS: &[Migration] = &[Migration {
    name: "001_test",
    sql: "CREATE TABLE note (id BIGINT NOT NULL PRIMARY KEY, body TEXT NOT NULL, remark TEXT, CHECK (body <> 'forbidden'));
          CREATE TABLE tally (name TEXT NOT NULL PRIMARY KEY, n BIGINT NOT NULL);
          CREATE TABLE thing (id UUID NOT NULL PRIMARY KEY, version BIGINT NOT NULL);",
}];

row! {
    /// A row that a unit writes.
    pub struct Note in "note" {
        /// Its number.
        pub id: i64,
        /// Its text.
        pub body: String,
        /// What may be missing.
        pub remark: Option<String>,
    }
}

row! {
    /// A row that units count in.
    pub struct Tally in "tally" {
        /// What is counted.
        pub name: String,
        /// How much of it there is.
        pub n: i64,
    }
}

/// The state of a thing, as its events carry it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ThingState {
    /// Its organisation.
    #[serde(default)]
    pub org: Uuid,
    /// The thing.
    pub id: Uuid,
    /// Its version.
    pub version: i64,
}

impl Payload for ThingState {
    fn subject(&self) -> Subject {
        Subject { org: self.org, id: self.id, version: self.version }
    }
}

crate::events! { publisher "tests", topic "tests.events", aggregate "thing";
    /// A thing changed.
    "thing.changed" v 1 [] => ThingChanged(ThingState);
}

/// The note of this number.
pub fn note(id: i64) -> Note {
    Note { id, body: format!("note {id}"), remark: None }
}

/// The event of a thing that belongs to nobody.
pub fn changed(id: Uuid, version: i64) -> ThingChanged {
    changed_of(Uuid::nil(), id, version)
}

/// The event of a thing of this organisation.
pub fn changed_of(org: Uuid, id: Uuid, version: i64) -> ThingChanged {
    ThingChanged(ThingState { org, id, version })
}

/// Which of the engines a world is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// A file.
    Sqlite,
    /// PostgreSQL, reached directly.
    Postgres,
    /// PostgreSQL behind a pooler in transaction mode.
    Pooler,
}

/// A fresh database on one of the engines.
pub struct World {
    /// Where it is.
    pub on: On,
    /// The same, as a store opens it.
    pub engine: Engine,
    folder: TempDir,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.on.fmt(f)
    }
}

impl World {
    /// One on SQLite.
    ///
    /// # Panics
    /// Without a temporary folder, as everything here panics where a test cannot go on.
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { on: On::Sqlite, engine: Engine::Sqlite { path: folder.path().join("test.db") }, folder }
    }

    /// One in a schema of its own on the server at `admin`, reached at `url`.
    pub fn postgres(on: On, url: &str, admin: &str) -> Self {
        let engine = scratch::postgres(admin, url, &scratch::fresh_schema());
        Self { on, engine, folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// Options of a store on it.
    pub fn options(&self) -> Options {
        let mut options = Options::new(self.engine.clone(), Clock::system());
        // Two seconds leave room for the server to find a deadlock, which takes it one.
        options.deadline = Duration::from_secs(2);
        options.claims = vec!["thing.changed"];
        options
    }

    /// A store on it.
    pub async fn open(&self) -> Store {
        self.open_with(self.options()).await
    }

    /// A store with these options.
    pub async fn open_with(&self, options: Options) -> Store {
        Store::open(options, STEPS).await.expect("a store opens")
    }

    /// The server it is on.
    ///
    /// # Panics
    /// On SQLite, which has none.
    pub fn server(&self) -> &Server {
        match &self.engine {
            Engine::Postgres(server) => server,
            Engine::Sqlite { .. } => panic!("SQLite has no server"),
        }
    }

    /// Its schema on the server.
    pub fn schema(&self) -> &str {
        &self.server().schema
    }

    /// A direct connection to the server as its administrator, in no schema.
    pub async fn admin(&self) -> tokio_postgres::Client {
        let admin = self.server().admin_url.as_deref().expect("a test has an administrator");
        let (client, connection) =
            tokio_postgres::connect(admin, tokio_postgres::NoTls).await.expect("the server answers");
        spawn(async move { drop(connection.await) });
        client
    }

    /// A direct connection as the role that a store logs in as.
    pub async fn login(&self) -> tokio_postgres::Client {
        let url = &self.server().url;
        let (client, connection) =
            tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("the server answers");
        spawn(async move { drop(connection.await) });
        client
    }

    /// Its engine with a proxy in front of the server.
    pub async fn behind_proxy(&self) -> (Proxy, Engine) {
        let server = self.server().clone();
        let (start, rest) = server.url.rsplit_once('@').expect("an address with a user");
        let (place, path) = rest.split_once('/').expect("an address with a database");
        let proxy = Proxy::to(place.to_owned()).await;
        let url = format!("{start}@{}/{path}", proxy.address);
        (proxy, Engine::Postgres(Server { url, ..server }))
    }

    /// A file beside it.
    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Leaves nothing on the server, which others use too.
    pub async fn clean(&self) {
        if self.on != On::Sqlite {
            let admin = Admin::connect(self.server().admin_url.as_deref().expect("a test has an administrator"), None)
                .await
                .expect("the server answers");
            admin.remove(self.schema()).await.expect("a schema can be removed");
        }
    }
}

/// The engines that are servers.
pub const SERVERS: &[On] = &[On::Postgres, On::Pooler];

/// A task that the test awaits, or means to lose.
#[expect(clippy::disallowed_methods, reason = "tests await their tasks, or mean to lose them")]
pub fn spawn<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> tokio::task::JoinHandle<T> {
    tokio::spawn(work)
}

/// The numbers of all notes.
pub async fn notes(store: &Store) -> Vec<i64> {
    let rows = store.read().all(sql!(Scalar<i64>, "SELECT id AS value FROM note ORDER BY id"), params![]).await;
    rows.expect("the database answers").into_iter().map(|Scalar(id)| id).collect()
}

/// How many events the outbox holds.
pub async fn outbox_count(store: &Store) -> i64 {
    let count = store.read().one(sql!(Scalar<i64>, "SELECT COUNT(*) AS value FROM outbox"), params![]).await;
    count.expect("the database answers").0
}

/// Writes one note in a unit of its own.
pub async fn write_note(store: &Store, id: i64) -> Result<(), WriteError<StoreError>> {
    store.write(move |tx: Tx| async move { tx.insert(&note(id)).await }).await
}
