//! The durable store: one writer thread, one savepoint per unit of work, one flush per batch.
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::StartError;
use crate::problem::{Code, Problem};

const SCHEMA: &str = include_str!("schema.sql");
const SCHEMA_VERSION: i64 = 1;
/// Older ones can lose committed pages when the WAL is reset.
const OLDEST_SQLITE: i32 = 3_051_003;
/// Enough to share a flush among all callers of a busy moment, small enough to keep the first one's wait short.
const BATCH: usize = 128;

type Acknowledge = Box<dyn FnOnce() + Send>;
type Job = Box<dyn FnOnce(&Connection) -> Acknowledge + Send>;

/// The way to the writer thread; the thread ends when the last one is dropped or the disk fails.
pub(crate) struct Store {
    jobs: mpsc::Sender<Job>,
}

impl Store {
    pub(crate) fn open(data_dir: &Path) -> Result<(Self, JoinHandle<()>), StartError> {
        if rusqlite::version_number() < OLDEST_SQLITE {
            return Err(StartError::SqliteTooOld(rusqlite::version().to_owned()));
        }
        std::fs::create_dir_all(data_dir)?;
        let conn = connect(&data_dir.join("card-network.db"))?;
        let (jobs, queue) = mpsc::channel(1024);
        let writer =
            std::thread::Builder::new().name("card-network-db".to_owned()).spawn(move || write(&conn, queue))?;
        Ok((Self { jobs }, writer))
    }

    /// Runs `work` in its own savepoint and answers once it is on disk; an error leaves no trace of it.
    pub(crate) async fn run<T, F>(&self, work: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Problem> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |conn| {
            let result = in_savepoint(conn, work);
            Box::new(move || {
                if reply.send(result).is_err() {
                    tracing::debug!("the caller left before its answer");
                }
            })
        });
        self.jobs.send(job).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Completes when the writer thread has ended.
    pub(crate) async fn ended(&self) {
        self.jobs.closed().await;
    }
}

fn stopped() -> Problem {
    Problem::with_detail(Code::Unavailable, "the network has stopped writing")
}

fn connect(path: &Path) -> Result<Connection, StartError> {
    let conn = Connection::open(path)?;
    conn.busy_timeout(Duration::from_secs(5))?;
    conn.set_prepared_statement_cache_capacity(64);
    // Exclusive: a second process on the same books would be a second truth.
    conn.execute_batch(
        "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON; PRAGMA mmap_size = 0;",
    )?;
    let mode: String = conn.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    let version: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match version {
        SCHEMA_VERSION => {}
        0 => {
            conn.execute_batch(&format!("BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"))?;
        }
        newer => return Err(StartError::UnknownSchema(newer)),
    }
    if mode == "wal" { Ok(conn) } else { Err(StartError::NoWal(mode)) }
}

fn write(conn: &Connection, mut queue: mpsc::Receiver<Job>) {
    while let Some(first) = queue.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH
            && let Ok(next) = queue.try_recv()
        {
            batch.push(next);
        }
        match commit(conn, batch) {
            Ok(acknowledgements) => acknowledgements.into_iter().for_each(|acknowledge| acknowledge()),
            Err(error) => {
                // After a failed flush nobody knows what the disk holds; only a restart reads it afresh.
                tracing::error!(error = %error, "a commit failed, the network stops writing");
                return;
            }
        }
    }
}

fn commit(conn: &Connection, batch: Vec<Job>) -> rusqlite::Result<Vec<Acknowledge>> {
    conn.execute_batch("BEGIN IMMEDIATE")?;
    let acknowledgements = batch.into_iter().map(|job| job(conn)).collect();
    conn.execute_batch("COMMIT")?;
    Ok(acknowledgements)
}

fn in_savepoint<T>(conn: &Connection, work: impl FnOnce(&Connection) -> Result<T, Problem>) -> Result<T, Problem> {
    conn.execute_batch("SAVEPOINT job")?;
    let outcome = catch_unwind(AssertUnwindSafe(|| work(conn))).unwrap_or_else(|_| {
        tracing::error!("a unit of work panicked");
        Err(Code::Internal.into())
    });
    conn.execute_batch(if outcome.is_ok() { "RELEASE job" } else { "ROLLBACK TO job; RELEASE job" })?;
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &'static str) -> impl FnOnce(&Connection) -> Result<(), Problem> + Send + 'static {
        move |conn| {
            conn.execute("INSERT INTO settings (name, value) VALUES (?1, '')", [name])?;
            Ok(())
        }
    }

    async fn names(store: &Store) -> Vec<String> {
        let read = |conn: &Connection| {
            let mut rows = conn.prepare("SELECT name FROM settings ORDER BY name")?;
            Ok(rows.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
        };
        store.run(read).await.unwrap()
    }

    #[tokio::test]
    async fn failing_and_panicking_work_leaves_nothing_and_harms_no_neighbour() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _writer) = Store::open(dir.path()).unwrap();
        let fails = |conn: &Connection| {
            set("failed")(conn)?;
            Err::<(), _>(Code::NotFound.into())
        };
        let panics = |conn: &Connection| -> Result<(), Problem> {
            set("panicked")(conn)?;
            panic!("on purpose");
        };
        let (a, b, c, d) =
            tokio::join!(store.run(set("before")), store.run(fails), store.run(panics), store.run(set("later")));
        assert!(a.is_ok() && b.is_err() && c.is_err() && d.is_ok());
        assert_eq!(names(&store).await, ["before", "later"]);
    }

    #[tokio::test]
    async fn a_second_process_cannot_open_the_same_books_and_a_newer_schema_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (store, writer) = Store::open(dir.path()).unwrap();
        store.run(set("mine")).await.unwrap();
        let second = Connection::open(dir.path().join("card-network.db")).unwrap();
        second.busy_timeout(Duration::ZERO).unwrap();
        assert!(second.execute("DELETE FROM settings", []).is_err());
        drop(store);
        writer.join().unwrap();
        second.execute_batch("PRAGMA user_version = 99").unwrap();
        drop(second);
        assert!(matches!(Store::open(dir.path()), Err(StartError::UnknownSchema(99))));
    }

    #[test]
    fn the_journal_refuses_to_be_rewritten() {
        let dir = tempfile::tempdir().unwrap();
        let conn = connect(&dir.path().join("books.db")).unwrap();
        conn.execute_batch(
            "INSERT INTO tokens VALUES ('t', 'visa', '4242', 1, 2030, 'succeed', 0);
             INSERT INTO authorizations (id, reference, token, amount_minor, currency, status, created_at, expires_at)
                 VALUES ('a', 'r', 't', 5, 'EUR', 'authorized', 0, 0);
             INSERT INTO journal (id, kind, status, authorization, reference, amount_minor, currency, at)
                 VALUES ('a', 'authorization', 'authorized', 'a', 'r', 5, 'EUR', 0);",
        )
        .unwrap();
        for rewrite in ["UPDATE journal SET amount_minor = 6", "DELETE FROM journal"] {
            let refusal = conn.execute(rewrite, []).unwrap_err().to_string();
            assert!(refusal.contains("append-only"), "{refusal}");
        }
    }
}
