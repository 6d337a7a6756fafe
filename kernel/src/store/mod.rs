//! A database per service: SQL text written once, run on SQLite or PostgreSQL, inside units of work that commit whole.

mod db;
mod engine;
mod error;
mod job;
mod migrate;
mod notices;
mod postgres;
mod row;
mod scope;
mod settings;
mod space;
mod sqlite;
mod text;
mod value;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

pub(crate) use db::{Conn, TxShared};
pub use db::{Db, Glance, Tx};
pub use engine::{Engine, Login, Logins, Server};
pub use error::{Away, StoreError, WriteError};
pub use migrate::Migration;
pub use postgres::admin::{Admin, Provisioned, Rotated};
pub use row::{ColumnShape, Row, STATEMENTS, Scalar, ScalarShape, Sql, Statement, Table};
pub use scope::Scope;
pub use settings::PostgresSettings;
pub use text::{Inserts, List};
pub use value::{AnyOf, Column, Json, Kind, Mismatch, ToParam, Value, any};

use crate::clock::{Clock, Timestamp};
use crate::events::Recent;
use crate::events::wire::proto;
use crate::telemetry::{self, Name, Span, StoreMeasures, Trace, key};
use job::TypedJob;
use notices::Notices;
use scope::{Bound, ScopeCell};
use space::Space;

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The engine and its address.
    pub engine: Engine,
    /// How long one unit of work may take.
    pub deadline: Duration,
    /// Time source for [`Tx::now`].
    pub clock: Clock,
    /// Event types that units may emit.
    pub claims: Vec<&'static str>,
    /// Where its units are counted.
    pub measures: Option<StoreMeasures>,
}

impl Options {
    /// Options with the default deadline: one second, and two on a server, which needs one to find a deadlock.
    pub fn new(engine: Engine, clock: Clock) -> Self {
        let deadline = Duration::from_secs(if matches!(engine, Engine::Postgres(_)) { 2 } else { 1 });
        Self { engine, deadline, clock, claims: Vec::new(), measures: None }
    }
}

enum Backend {
    Sqlite(sqlite::Sqlite),
    Postgres(postgres::Postgres),
}

/// A service's database.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
    bound: Bound,
    can_wait: bool,
}

struct Inner {
    backend: Backend,
    clock: Clock,
    claims: Arc<[&'static str]>,
    measures: Option<StoreMeasures>,
    after_commit: Arc<AfterCommit>,
    space: Arc<Space>,
}

/// What a commit sets off: the highest outbox number for the bus, and jobs to wake.
pub(crate) struct AfterCommit {
    head: watch::Sender<i64>,
    wakes: Mutex<HashMap<&'static str, Arc<Notify>>>,
    recent: Recent,
    /// What other instances on the same database are told.
    notices: Notices,
}

impl AfterCommit {
    /// These events became durable, in the order of their positions: where COMMIT publishes.
    pub(crate) fn published(&self, events: Vec<proto::Event>) {
        let Some(last) = events.last().map(|event| event.position) else { return };
        // Kept before it is told, or those who are told would not find it.
        self.recent.committed(events);
        self.committed(Some(last), &[]);
    }

    pub(crate) fn committed(&self, head: Option<i64>, wakes: &[&'static str]) {
        if let Some(head) = head {
            self.head.send_if_modified(|seen| {
                let newer = head > *seen;
                *seen = head.max(*seen);
                newer
            });
        }
        if !wakes.is_empty() {
            wakes.iter().for_each(|name| self.wake(name));
            self.notices.add(wakes);
        }
    }

    /// Wakes whoever of this instance waits for this name.
    fn wake(&self, name: &str) {
        if let Some(job) = self.wakes.lock().get(name) {
            job.notify_one();
        }
    }
}

impl Store {
    /// Opens the database and starts its writer. SQLite is brought up to `migrations` (after the kernel's own);
    /// PostgreSQL must have been, by [`Admin::provision`].
    pub async fn open(options: Options, migrations: &[Migration]) -> Result<Self, StoreError> {
        let all: Vec<Migration> = migrate::KERNEL.iter().chain(migrations).copied().collect();
        let after_commit = Arc::new(AfterCommit {
            head: watch::Sender::new(0),
            wakes: Mutex::default(),
            recent: Recent::default(),
            notices: Notices::default(),
        });
        let space = Arc::new(Space::of(&options.engine));
        let backend = match &options.engine {
            Engine::Sqlite { path } => {
                let opened = sqlite::Sqlite::open(path, &all, options.deadline, after_commit.clone(), space.clone());
                Backend::Sqlite(opened.map_err(|error| space.explain(error))?)
            }
            Engine::Postgres(server) => {
                let opened = postgres::Postgres::open(server, &options, &all, after_commit.clone(), space.clone());
                Backend::Postgres(opened.await?)
            }
        };
        let Options { clock, claims, measures, .. } = options;
        let inner = Inner { backend, clock, claims: claims.into(), measures, after_commit, space };
        let store = Self { inner: Arc::new(inner), bound: Bound::Open, can_wait: false };
        let head = crate::events::outbox_head(&store.across("the head of the outbox").read()).await?;
        if store.orders_by_insert() {
            store.inner.after_commit.recent.begin_after(head);
        }
        store.inner.after_commit.committed(Some(head), &[]);
        Ok(store)
    }

    /// A handle whose units and reads run only where somebody said for whom; a service's own code gets this one.
    pub(crate) fn guarded(&self) -> Self {
        self.bound(Bound::Guarded)
    }

    /// A handle whose units let others go first where they share a writer: those for whose answer somebody waits.
    pub(crate) fn in_background(&self) -> Self {
        Self { can_wait: true, ..self.clone() }
    }

    /// A handle for rows of one organisation, which must be within the scope of the calling code.
    #[must_use]
    pub fn in_org(&self, org: Uuid) -> Self {
        let scope = if self.bound.scope().admits(org) { Scope::org(org) } else { Scope::Undeclared };
        self.bound(Bound::Fixed(scope))
    }

    /// A handle for rows of every organisation. `why` is for whoever reviews or searches for it.
    #[must_use]
    pub fn across(&self, why: &'static str) -> Self {
        tracing::trace!(why, "a store crosses organisations");
        self.bound(Bound::Fixed(Scope::Everybody))
    }

    fn bound(&self, bound: Bound) -> Self {
        Self { inner: self.inner.clone(), bound, can_wait: self.can_wait }
    }

    /// Runs a unit of work and returns once it is durable.
    ///
    /// `unit` may run more than once (PostgreSQL repeats deadlocked units), so it must only act through its [`Tx`].
    pub async fn write<T, E, F, Fut>(&self, unit: F) -> Result<T, WriteError<E>>
    where
        F: Fn(Tx) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        let mut span = Span::step(Name("unit of work", ""));
        // The unit runs on the writer's thread or another task; its log lines still belong to this one.
        let here = telemetry::Context::here().in_trace(span.trace());
        let scope = self.bound.scope();
        let around = scope.clone();
        let unit = move |tx| around.clone().around(here.around(unit(tx)));
        let shared = self.shared_for_unit(span.trace());
        let (job, answer) = TypedJob::new(unit, (scope, self.can_wait), shared, self.inner.measures.clone());
        match &self.inner.backend {
            Backend::Sqlite(sqlite) => {
                span.set(key::DB_SYSTEM_NAME, "sqlite");
                sqlite.submit(job).await;
            }
            Backend::Postgres(postgres) => {
                span.set(key::DB_SYSTEM_NAME, "postgresql");
                postgres.submit(job).await;
            }
        }
        let answer = answer.await.unwrap_or(Err(WriteError::Closed));
        if let Some(failure) = answer.as_ref().err().and_then(WriteError::failure) {
            span.fail(failure);
        }
        answer
    }

    fn shared_for_unit(&self, trace: Trace) -> impl Fn() -> Arc<TxShared> + Send + Sync + 'static {
        let (clock, claims) = (self.inner.clock.clone(), self.inner.claims.clone());
        move || {
            let (claims, collected, afterwards) = (claims.clone(), Mutex::default(), Mutex::default());
            Arc::new(TxShared { now: clock.now(), trace, claims, collected, afterwards })
        }
    }

    /// A handle that reads committed data and cannot write.
    pub fn read(&self) -> Db {
        let conn = match &self.inner.backend {
            Backend::Sqlite(sqlite) => Conn::SqliteRead(sqlite.reader()),
            Backend::Postgres(postgres) => Conn::PostgresRead(postgres.reader()),
        };
        Db(self.glance(conn))
    }

    /// A handle whose answers may be up to `max_age` old, so that a standby may give them. Without a standby that is
    /// known to be that fresh the primary answers.
    pub fn read_stale(&self, max_age: Duration) -> Glance {
        match &self.inner.backend {
            Backend::Postgres(postgres) => self.glance(Conn::PostgresStale(postgres.stale(max_age))),
            Backend::Sqlite(sqlite) => self.glance(Conn::SqliteRead(sqlite.reader())),
        }
    }

    fn glance(&self, conn: Conn) -> Glance {
        Glance { conn, scope: ScopeCell::new(self.bound.scope()) }
    }

    /// The highest outbox number that consumers may have; it changes after each commit that emitted.
    pub fn head(&self) -> watch::Receiver<i64> {
        self.inner.after_commit.head.subscribe()
    }

    /// The newest events in memory.
    pub(crate) fn recent(&self) -> &Recent {
        &self.inner.after_commit.recent
    }

    /// Moves the head on, for the relay that gives positions on PostgreSQL.
    pub(crate) fn publish_head(&self, head: i64) {
        self.inner.after_commit.committed(Some(head), &[]);
    }

    /// Tells the other instances on this database that there is something to do for this name.
    pub(crate) fn wake_siblings(&self, name: &'static str) {
        self.inner.after_commit.notices.add(&[name]);
    }

    /// Whether other instances on this database, if there are any, tell this one of their commits.
    pub(crate) fn hears_siblings(&self) -> bool {
        self.inner.after_commit.notices.listens()
    }

    /// Whether insert order is commit order, so that the outbox number is the position. True for one writer only.
    pub fn orders_by_insert(&self) -> bool {
        matches!(self.inner.backend, Backend::Sqlite(_))
    }

    /// What is notified when a unit that called [`Tx::wake`] with this job commits.
    pub(crate) fn wake_signal(&self, job: &'static str) -> Arc<Notify> {
        self.inner.after_commit.wakes.lock().entry(job).or_default().clone()
    }

    /// The clock that units take their time from.
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// Checks one filed statement against this engine: it must prepare, and its columns must fit its row type.
    pub async fn prepare(&self, statement: &Statement) -> Result<(), StoreError> {
        match &self.inner.backend {
            Backend::Sqlite(sqlite) => sqlite.prepare(statement),
            Backend::Postgres(postgres) => postgres.prepare(statement).await,
        }
    }

    /// Whether there is room on the disk that holds the data; says where not, and what to do.
    ///
    /// # Errors
    /// The disk was full when it was last written to, and still is.
    pub async fn room(&self) -> Result<(), String> {
        if self.inner.space.has_room().is_ok() {
            return Ok(());
        }
        // The writer looks for room when a unit comes, and nobody else may send one. Of a server's disk a unit that
        // writes nothing learns nothing.
        if self.orders_by_insert() {
            // How it ended is what is asked next.
            drop(self.across("looking for room").write(|_| async { Ok::<_, StoreError>(()) }).await);
        }
        self.inner.space.has_room()
    }

    /// The time by the database's own clock; none where it has no other than this machine's.
    pub(crate) async fn database_time(&self) -> Option<Result<Timestamp, StoreError>> {
        if self.orders_by_insert() {
            return None;
        }
        let db = self.across("the database's clock").read();
        let asked = db.rows::<Scalar<Timestamp>>("SELECT clock_timestamp() AS value", Vec::new()).await;
        Some(asked.and_then(|rows| rows.into_iter().next().map(|Scalar(at)| at).ok_or(StoreError::NoRow)))
    }

    /// Lets running units end, then closes the connections.
    pub async fn close(&self) {
        match &self.inner.backend {
            Backend::Sqlite(sqlite) => sqlite.close().await,
            Backend::Postgres(postgres) => postgres.close().await,
        }
    }
}
