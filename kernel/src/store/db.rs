//! The handle that statements run on: inside a unit of work (`Tx`) or reading only (`Db`).

use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::Mutex;
use uuid::Uuid;

use super::error::StoreError;
use super::postgres::{PgRead, PgStale, PgUnit};
use super::row::{ColumnShape, Row, Sql, Table};
use super::scope::{Scope, ScopeCell, foreign};
use super::sqlite::{SqliteRead, SqliteUnit};
use super::text;
use super::value::Value;
use crate::clock::Timestamp;
use crate::events::{Event, Outgoing, Payload as _};
use crate::telemetry::{self, Context, Name, Role, Span, Trace, key};

/// Where a statement goes. Each variant answers [`Db::cells`] and [`Db::execute`].
#[derive(Clone)]
pub(crate) enum Conn {
    SqliteUnit(Arc<SqliteUnit>),
    SqliteRead(Arc<SqliteRead>),
    PostgresUnit(Arc<PgUnit>),
    PostgresRead(Arc<PgRead>),
    PostgresStale(Arc<PgStale>),
}

/// Reads that may be somewhat old, from [`Store::read_stale`](super::Store::read_stale). Nothing that decides takes it:
/// those take [`Db`], which derefs to this and is never old.
pub struct Glance {
    pub(crate) conn: Conn,
    pub(crate) scope: ScopeCell,
}

/// Runs statements on what is committed now. On its own it reads only; [`Tx`] derefs to it and may write.
pub struct Db(pub(crate) Glance);

impl Deref for Db {
    type Target = Glance;
    fn deref(&self) -> &Glance {
        &self.0
    }
}

impl Glance {
    /// All rows.
    pub async fn all<R: Row>(&self, sql: Sql<R>, params: Vec<Value>) -> Result<Vec<R>, StoreError> {
        self.rows(sql.text, params).await
    }

    /// The only row, or none; a second row is an error.
    pub async fn maybe<R: Row>(&self, sql: Sql<R>, params: Vec<Value>) -> Result<Option<R>, StoreError> {
        let mut rows = self.all(sql, params).await?.into_iter();
        match (rows.next(), rows.next()) {
            (row, None) => Ok(row),
            _ => Err(StoreError::ManyRows),
        }
    }

    /// The only row; none is an error.
    pub async fn one<R: Row>(&self, sql: Sql<R>, params: Vec<Value>) -> Result<R, StoreError> {
        self.maybe(sql, params).await?.ok_or(StoreError::NoRow)
    }

    /// All rows of a text put together at run time; [`List`](super::List) is the way to get one.
    pub(crate) async fn rows<R: Row>(&self, text: &str, params: Vec<Value>) -> Result<Vec<R>, StoreError> {
        let scope = self.scope.get();
        scope.refuse_undeclared()?;
        let cells = scope.visible(R::shape(), self.cells(text, &params, R::shape(), &scope).await?);
        cells.into_iter().map(|row| R::from_values(row).map_err(|e| StoreError::Decode(e.to_string()))).collect()
    }

    async fn cells(
        &self,
        text: &str,
        params: &[Value],
        shape: &'static [ColumnShape],
        scope: &Scope,
    ) -> Result<Vec<Vec<Value>>, StoreError> {
        match &self.conn {
            Conn::SqliteUnit(unit) => unit.query(text, params, shape),
            Conn::SqliteRead(read) => read.query(text, params, shape).await,
            Conn::PostgresUnit(unit) => unit.query(text, params, shape).await,
            Conn::PostgresRead(read) => read.query(text, params, shape, scope).await,
            Conn::PostgresStale(stale) => stale.query(text, params, shape, scope).await,
        }
    }

    async fn execute(&self, text: &str, params: &[Value]) -> Result<u64, StoreError> {
        self.scope.get().refuse_undeclared()?;
        match &self.conn {
            Conn::SqliteUnit(unit) => unit.execute(text, params),
            Conn::PostgresUnit(unit) => unit.execute(text, params).await,
            Conn::SqliteRead(_) | Conn::PostgresRead(_) | Conn::PostgresStale(_) => {
                Err(StoreError::Refused("this handle reads only; write inside Store::write".into()))
            }
        }
    }
}

/// What a unit of work collects beside its rows. It counts only if the unit commits.
#[derive(Default)]
pub(crate) struct Collected {
    pub(crate) events: Vec<Outgoing>,
    pub(crate) wakes: Vec<&'static str>,
}

/// What is to happen once a unit is durable, and not at all if it never is.
#[derive(Default)]
pub(crate) struct Afterwards {
    /// One for each event: from its making to its COMMIT.
    sent: Vec<Span>,
    work: Vec<Box<dyn FnOnce() + Send>>,
}

impl Afterwards {
    /// The unit is durable.
    pub(crate) fn happen(mut self) {
        self.sent.clear();
        // The writer's thread goes on whatever becomes of it; the panic itself is told by the hook.
        self.work.drain(..).for_each(|work| drop(catch_unwind(AssertUnwindSafe(work))));
    }
}

impl Drop for Afterwards {
    fn drop(&mut self) {
        self.sent.drain(..).for_each(Span::discard);
    }
}

pub(crate) struct TxShared {
    pub(crate) now: Timestamp,
    pub(crate) trace: Trace,
    pub(crate) claims: Arc<[&'static str]>,
    pub(crate) collected: Mutex<Collected>,
    pub(crate) afterwards: Mutex<Afterwards>,
}

/// A unit of work: its statements, events and wake-ups happen together or not at all.
///
/// Await nothing but this inside a unit: on SQLite every other unit waits meanwhile. The first failed statement seals it.
pub struct Tx {
    pub(crate) db: Db,
    pub(crate) shared: Arc<TxShared>,
}

impl Deref for Tx {
    type Target = Db;
    fn deref(&self) -> &Db {
        &self.db
    }
}

impl Tx {
    pub(crate) fn new(conn: Conn, scope: ScopeCell, shared: Arc<TxShared>) -> Self {
        Self { db: Db(Glance { conn, scope }), shared }
    }

    /// A second handle on the same unit, for the kernel's own book-keeping around a handler.
    pub(crate) fn share(&self) -> Self {
        Self::new(self.db.conn.clone(), self.db.scope.clone(), self.shared.clone())
    }

    /// From here on the unit touches rows of this organisation alone, as a consumer does for each event.
    pub(crate) fn enter(&self, org: Uuid) {
        self.db.scope.set(Scope::org(org));
    }

    /// From here on the unit touches rows of every organisation. `why` is for whoever reviews or searches for it.
    pub fn across(&self, why: &'static str) {
        tracing::trace!(why, "a unit crosses organisations");
        self.db.scope.set(Scope::Everybody);
    }

    /// Whether no other unit can run beside this one, so that what it has read stays true until it ends.
    pub(crate) fn has_the_database_to_itself(&self) -> bool {
        matches!(self.db.conn, Conn::SqliteUnit(_))
    }

    /// The time at which this unit happens; the same for all of it.
    pub fn now(&self) -> Timestamp {
        self.shared.now
    }

    /// The trace at work: that of the unit, or of the event that a consumer handles in it.
    pub fn trace(&self) -> Trace {
        let inside = telemetry::current_trace();
        if inside == Trace::default() { self.shared.trace } else { inside }
    }

    /// Runs a statement without rows; returns how many rows it touched.
    pub async fn run(&self, sql: Sql<()>, params: Vec<Value>) -> Result<u64, StoreError> {
        self.execute(sql.text, &params).await
    }

    /// Inserts one row.
    pub async fn insert<T: Table>(&self, row: &T) -> Result<(), StoreError> {
        self.put(row, false).await.map(drop)
    }

    /// Inserts one row unless a unique rule already has it; says whether it was new.
    pub async fn add<T: Table>(&self, row: &T) -> Result<bool, StoreError> {
        Ok(self.put(row, true).await? == 1)
    }

    async fn put<T: Table>(&self, row: &T, skip_existing: bool) -> Result<u64, StoreError> {
        let values = row.to_values();
        self.db.scope.get().refuse_foreign(T::shape(), &values)?;
        self.execute(text::insert::<T>(skip_existing), &values).await
    }

    /// Inserts several rows.
    pub async fn insert_all<T: Table>(&self, rows: &[T]) -> Result<(), StoreError> {
        for row in rows {
            self.insert(row).await?;
        }
        Ok(())
    }

    /// Publishes an event with this unit: it is in the outbox exactly if the unit commits.
    ///
    /// # Errors
    /// A service can publish only the event types that its declaration claims, and a unit only what is in its scope.
    pub fn emit<E: Event>(&self, event: E) -> Result<(), StoreError> {
        let def = E::DEF;
        if !self.shared.claims.contains(&def.name) {
            return Err(StoreError::Refused(format!(
                "this service does not claim the event {}; add its list to publishes() in the declaration",
                def.name
            )));
        }
        let subject = event.payload().subject();
        if !self.db.scope.get().admits(subject.org) {
            return Err(foreign(subject.org));
        }
        let body = serde_json::to_string(event.payload())
            .map_err(|e| StoreError::Refused(format!("event {} does not become JSON: {e}", def.name)))?;
        let mut span = Span::part(Role::Producer, Name("send", def.name));
        // Without a span of its own the event belongs to the step that emitted it.
        let trace = if span.trace().is_none() { self.trace() } else { span.trace() };
        let event = Outgoing::new(&def, subject, body, self.now(), trace);
        if span.is_kept() {
            span.set(key::MESSAGING_OPERATION_TYPE, "send");
            span.set(key::MESSAGING_OPERATION_NAME, def.name);
            span.set(key::MESSAGING_DESTINATION_NAME, def.topic);
            span.set(key::MESSAGING_MESSAGE_ID, event.id().to_string());
            self.shared.afterwards.lock().sent.push(span);
        }
        self.shared.collected.lock().events.push(event);
        Ok(())
    }

    /// Does `work` once the unit has committed, in this trace; never, if it does not. It must not block.
    ///
    /// For what tells of the unit's effect, such as a log line or a count: inside the unit, it might tell of what is
    /// then rolled back.
    pub fn after_commit(&self, work: impl FnOnce() + Send + 'static) {
        let here = Context::here();
        self.shared.afterwards.lock().work.push(Box::new(move || here.run(work)));
    }

    /// Wakes a job of this service once the unit has committed.
    pub fn wake(&self, job: &'static str) {
        let mut collected = self.shared.collected.lock();
        if !collected.wakes.contains(&job) {
            collected.wakes.push(job);
        }
    }
}
