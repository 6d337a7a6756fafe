//! The handle that statements run on: inside a unit of work (`Tx`) or reading only (`Db`).

use std::ops::Deref;
use std::sync::Arc;

use parking_lot::Mutex;

use super::error::StoreError;
use super::postgres::{PgRead, PgUnit};
use super::row::{ColumnShape, Row, Sql, Table};
use super::sqlite::{SqliteRead, SqliteUnit};
use super::text;
use super::value::Value;
use crate::clock::Timestamp;
use crate::events::{Event, Outgoing, Payload as _};
use crate::telemetry::{self, Trace};

/// Where a statement goes. Each variant answers [`Db::cells`] and [`Db::execute`].
#[derive(Clone)]
pub(crate) enum Conn {
    SqliteUnit(Arc<SqliteUnit>),
    SqliteRead(Arc<SqliteRead>),
    PostgresUnit(Arc<PgUnit>),
    PostgresRead(Arc<PgRead>),
}

/// Runs statements. On its own it reads only; [`Tx`] derefs to it and may write.
pub struct Db {
    pub(crate) conn: Conn,
}

impl Db {
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
        let cells = self.cells(text, &params, R::shape()).await?;
        cells.into_iter().map(|row| R::from_values(row).map_err(|e| StoreError::Decode(e.to_string()))).collect()
    }

    async fn cells(
        &self,
        text: &str,
        params: &[Value],
        shape: &'static [ColumnShape],
    ) -> Result<Vec<Vec<Value>>, StoreError> {
        match &self.conn {
            Conn::SqliteUnit(unit) => unit.query(text, params, shape),
            Conn::SqliteRead(read) => read.query(text, params, shape).await,
            Conn::PostgresUnit(unit) => unit.query(text, params, shape).await,
            Conn::PostgresRead(read) => read.query(text, params, shape).await,
        }
    }

    async fn execute(&self, text: &str, params: &[Value]) -> Result<u64, StoreError> {
        match &self.conn {
            Conn::SqliteUnit(unit) => unit.execute(text, params),
            Conn::PostgresUnit(unit) => unit.execute(text, params).await,
            Conn::SqliteRead(_) | Conn::PostgresRead(_) => {
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

pub(crate) struct TxShared {
    pub(crate) now: Timestamp,
    pub(crate) trace: Trace,
    pub(crate) claims: Arc<[&'static str]>,
    pub(crate) collected: Mutex<Collected>,
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
    pub(crate) fn new(conn: Conn, shared: Arc<TxShared>) -> Self {
        Self { db: Db { conn }, shared }
    }

    /// A second handle on the same unit, for the kernel's own book-keeping around a handler.
    pub(crate) fn share(&self) -> Self {
        Self { db: Db { conn: self.db.conn.clone() }, shared: self.shared.clone() }
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
        self.execute(text::insert::<T>(false), &row.to_values()).await.map(drop)
    }

    /// Inserts one row unless a unique rule already has it; says whether it was new.
    pub async fn add<T: Table>(&self, row: &T) -> Result<bool, StoreError> {
        Ok(self.execute(text::insert::<T>(true), &row.to_values()).await? == 1)
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
    /// A service can publish only the event types that its declaration claims.
    pub fn emit<E: Event>(&self, event: E) -> Result<(), StoreError> {
        let def = E::DEF;
        if !self.shared.claims.contains(&def.name) {
            return Err(StoreError::Refused(format!(
                "this service does not claim the event {}; add its list to publishes() in the declaration",
                def.name
            )));
        }
        let subject = event.payload().subject();
        let body = serde_json::to_string(event.payload())
            .map_err(|e| StoreError::Refused(format!("event {} does not become JSON: {e}", def.name)))?;
        self.shared.collected.lock().events.push(Outgoing::new(&def, subject, body, self.now(), self.trace()));
        Ok(())
    }

    /// Wakes a job of this service once the unit has committed.
    pub fn wake(&self, job: &'static str) {
        let mut collected = self.shared.collected.lock();
        if !collected.wakes.contains(&job) {
            collected.wakes.push(job);
        }
    }
}
