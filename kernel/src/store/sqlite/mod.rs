//! SQLite: one file, one writer thread with group commit, a pool of read-only connections.

mod cells;
mod line;
mod queue;
mod reader;
mod unit;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, config::DbConfig};
use tokio::sync::{mpsc, oneshot};

use super::AfterCommit;
use super::error::StoreError;
use super::job::{End, Job};
use super::migrate::{self, Migration};
use super::row::Statement;
use super::space::Space;
use super::text;
use queue::{Command, Queue};
pub(crate) use reader::SqliteRead;
pub(crate) use unit::SqliteUnit;
use writer::Writer;

/// Below this the WAL-reset bug can corrupt a database; 3.51.3 mended it.
const OLDEST_SQLITE: i32 = 3_051_003;
/// Units that may wait before callers wait: memory stays bounded under overload.
const QUEUE: usize = 1024;

pub(crate) struct Sqlite {
    commands: mpsc::Sender<Command>,
    reader: Arc<SqliteRead>,
}

impl Sqlite {
    pub(crate) fn open(
        path: &Path,
        migrations: &[Migration],
        deadline: Duration,
        after: Arc<AfterCommit>,
        space: Arc<Space>,
    ) -> Result<Self, StoreError> {
        refuse_old_sqlite(rusqlite::version_number())?;
        let mut connection = open_writer(path)?;
        run_migrations(&mut connection, migrations)?;
        let (commands, queue) = mpsc::channel(QUEUE);
        let name = path.file_stem().map_or_else(|| "store".into(), |s| s.to_string_lossy().into_owned());
        let shared = (after, space);
        let writer = Writer::new(path.to_owned(), connection, deadline, shared, tokio::runtime::Handle::current());
        let here = crate::telemetry::Context::here();
        std::thread::Builder::new()
            .name(format!("write-{name}"))
            .spawn(move || here.run(|| writer.run(Queue::new(queue))))
            .map_err(|e| StoreError::Engine(format!("no thread for the writer: {e}")))?;
        Ok(Self { commands, reader: Arc::new(SqliteRead::new(path.to_owned())) })
    }

    pub(crate) async fn submit(&self, job: Box<dyn Job>) {
        if let Err(mpsc::error::SendError(Command::Run(job))) = self.commands.send(Command::Run(job)).await {
            job.finish(End::Store(StoreError::Ended));
        }
    }

    pub(crate) fn reader(&self) -> Arc<SqliteRead> {
        self.reader.clone()
    }

    pub(crate) fn prepare(&self, statement: &Statement) -> Result<(), StoreError> {
        self.reader.with(|line| unit::check_statement(&line.connection, statement))
    }

    pub(crate) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.commands.send(Command::Close(done)).await.is_ok() {
            // An error means that the writer is gone already, which is what was asked for.
            drop(closed.await);
        }
    }
}

fn refuse_old_sqlite(version: i32) -> Result<(), StoreError> {
    if version >= OLDEST_SQLITE {
        return Ok(());
    }
    Err(StoreError::Refused(format!(
        "SQLite {version} can corrupt a write-ahead log; link 3.51.3 or newer (the bundled one is)"
    )))
}

pub(crate) fn engine_error(error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => StoreError::Constraint(error.to_string()),
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => StoreError::LockTimeout,
        Some(rusqlite::ErrorCode::DiskFull) => StoreError::full(error.to_string()),
        _ => StoreError::Engine(error.to_string()),
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(256);
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
    // A plan that depends on the values it was first bound to is made again for others: a parse for each execution.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.execute_batch("PRAGMA foreign_keys = ON; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY;")?;
    rusqlite::vtab::array::load_module(connection)
}

fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    let open = || -> rusqlite::Result<Connection> {
        // One thread uses it, behind a lock of our own: SQLite's would be taken for each column read.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        configure(&connection)?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4000; PRAGMA cache_size = -8192;",
        )?;
        Ok(connection)
    };
    open().map_err(|e| StoreError::Engine(format!("opening {}: {e}", path.display())))
}

fn open_reader(path: &PathBuf) -> Result<Connection, StoreError> {
    let open = || -> rusqlite::Result<Connection> {
        let connection =
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        configure(&connection)?;
        connection.execute_batch("PRAGMA query_only = ON;")?;
        Ok(connection)
    };
    open().map_err(|e| StoreError::Engine(format!("opening {} to read: {e}", path.display())))
}

fn run_migrations(connection: &mut Connection, all: &[Migration]) -> Result<(), StoreError> {
    let fail = |e: rusqlite::Error| StoreError::Engine(format!("schema: {e}"));
    connection.execute_batch(&text::schema_for_sqlite(migrate::LEDGER)).map_err(fail)?;
    let applied = connection
        .prepare("SELECT name, checksum FROM schema_steps")
        .and_then(|mut s| s.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<Result<Vec<_>, _>>())
        .map_err(fail)?;
    for step in migrate::pending(all, &applied)? {
        let in_step = |e: rusqlite::Error| StoreError::Engine(format!("schema step {}: {e}", step.name));
        let tx = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(in_step)?;
        tx.execute_batch(&text::schema_for_sqlite(step.sql)).map_err(in_step)?;
        tx.execute(
            "INSERT INTO schema_steps (name, checksum, applied_at) VALUES (?1, ?2, 0)",
            [step.name, &migrate::checksum(step.sql)],
        )
        .map_err(in_step)?;
        tx.commit().map_err(in_step)?;
    }
    connection
        .execute(
            "INSERT INTO outbox_epoch (id, epoch) VALUES (1, ?1) ON CONFLICT DO NOTHING",
            [crate::ids::fresh().as_bytes().as_slice()],
        )
        .map_err(fail)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_sqlite_is_refused_with_the_remedy() {
        assert!(refuse_old_sqlite(3_040_001).unwrap_err().to_string().contains("3.51.3"));
        refuse_old_sqlite(rusqlite::version_number()).unwrap();
    }
}
