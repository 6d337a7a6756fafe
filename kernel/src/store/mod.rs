//! A database per service: SQL text written once, run on SQLite or PostgreSQL, inside units of work that commit whole.

mod db;
mod error;
mod job;
mod migrate;
mod postgres;
mod row;
mod sqlite;
mod text;
mod value;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

pub(crate) use db::{Conn, TxShared};
pub use db::{Db, Tx};
pub use error::{StoreError, WriteError};
pub use migrate::Migration;
pub use row::{ColumnShape, Row, STATEMENTS, Scalar, ScalarShape, Sql, Statement, Table};
pub use text::{Inserts, List};
pub use value::{AnyOf, Column, Json, Kind, Mismatch, ToParam, Value, any};

use crate::clock::Clock;
use crate::events::Recent;
use crate::events::wire::proto;
use crate::telemetry::{self, StoreMeasures};
use job::TypedJob;

/// Which engine keeps the data, and where.
#[derive(Clone, Debug)]
pub enum Engine {
    /// One file per service.
    Sqlite {
        /// The database file; its folder must exist.
        path: PathBuf,
    },
    /// One schema per service in a shared database.
    Postgres {
        /// Connection address; may be that of a pooler in transaction mode.
        url: String,
        /// Address for migrations, which need a direct connection.
        direct_url: String,
        /// The service's schema.
        schema: String,
        /// Whether `url` reaches the server itself, so that named statements may be cached on the connection.
        direct: bool,
    },
}

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
    /// Options with the default deadline of one second.
    pub fn new(engine: Engine, clock: Clock) -> Self {
        Self { engine, deadline: Duration::from_secs(1), clock, claims: Vec::new(), measures: None }
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
}

struct Inner {
    backend: Backend,
    clock: Clock,
    claims: Arc<[&'static str]>,
    measures: Option<StoreMeasures>,
    after_commit: Arc<AfterCommit>,
}

/// What a commit sets off: the highest outbox number for the bus, and jobs to wake.
pub(crate) struct AfterCommit {
    head: watch::Sender<i64>,
    wakes: Mutex<HashMap<&'static str, Arc<Notify>>>,
    recent: Recent,
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
            let jobs = self.wakes.lock();
            for job in wakes.iter().filter_map(|w| jobs.get(w)) {
                job.notify_one();
            }
        }
    }
}

impl Store {
    /// Opens the database, brings its schema up to `migrations` (after the kernel's own) and starts its writer.
    pub async fn open(options: Options, migrations: &[Migration]) -> Result<Self, StoreError> {
        let all: Vec<Migration> = migrate::KERNEL.iter().chain(migrations).copied().collect();
        let after_commit =
            Arc::new(AfterCommit { head: watch::Sender::new(0), wakes: Mutex::default(), recent: Recent::default() });
        let backend = match &options.engine {
            Engine::Sqlite { path } => {
                Backend::Sqlite(sqlite::Sqlite::open(path, &all, options.deadline, after_commit.clone())?)
            }
            Engine::Postgres { .. } => {
                Backend::Postgres(postgres::Postgres::open(&options, &all, after_commit.clone()).await?)
            }
        };
        let Options { clock, claims, measures, .. } = options;
        let store = Self { inner: Arc::new(Inner { backend, clock, claims: claims.into(), measures, after_commit }) };
        let head = crate::events::outbox_head(&store.read()).await?;
        if store.orders_by_insert() {
            store.inner.after_commit.recent.begin_after(head);
        }
        store.inner.after_commit.committed(Some(head), &[]);
        Ok(store)
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
        // The unit runs on the writer's thread or another task; its log lines still belong to this one.
        let here = telemetry::Context::here();
        let unit = move |tx| here.around(unit(tx));
        let (job, answer) = TypedJob::new(unit, self.shared_for_unit(), self.inner.measures.clone());
        match &self.inner.backend {
            Backend::Sqlite(sqlite) => sqlite.submit(job).await,
            Backend::Postgres(postgres) => postgres.submit(job).await,
        }
        answer.await.unwrap_or(Err(WriteError::Closed))
    }

    fn shared_for_unit(&self) -> impl Fn() -> Arc<TxShared> + Send + Sync + 'static {
        let (clock, claims, trace) = (self.inner.clock.clone(), self.inner.claims.clone(), telemetry::current_trace());
        move || Arc::new(TxShared { now: clock.now(), trace, claims: claims.clone(), collected: Mutex::default() })
    }

    /// A handle that reads committed data and cannot write.
    pub fn read(&self) -> Db {
        let conn = match &self.inner.backend {
            Backend::Sqlite(sqlite) => Conn::SqliteRead(sqlite.reader()),
            Backend::Postgres(postgres) => Conn::PostgresRead(postgres.reader()),
        };
        Db { conn }
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

    /// Lets running units end, then closes the connections.
    pub async fn close(&self) {
        match &self.inner.backend {
            Backend::Sqlite(sqlite) => sqlite.close().await,
            Backend::Postgres(postgres) => postgres.close().await,
        }
    }
}
