//! What the database remembers of a job's runs, so that a run missed while nobody lived is made up for.

use crate::clock::Timestamp;
use crate::store::{Store, StoreError, Tx, WriteError};
use crate::{params, row, sql};

row! {
    pub(super) struct RunRow in "job_run" {
        pub(super) name: String,
        pub(super) last_run_at: Timestamp,
        pub(super) last_error: Option<String>,
    }
}

/// When the job last ran, if ever.
pub(super) async fn last_run(store: &Store, name: &'static str) -> Result<Option<Timestamp>, StoreError> {
    let sql = sql!(RunRow, "SELECT name, last_run_at, last_error FROM job_run WHERE name = $1");
    Ok(store.read().maybe(sql, params![*name]).await?.map(|row| row.last_run_at))
}

/// Notes that a job is known from now on: what its schedule names after this moment is missed if nobody runs it.
pub(super) async fn known_since(
    store: &Store,
    name: &'static str,
    at: Timestamp,
) -> Result<(), WriteError<StoreError>> {
    store
        .write(move |tx| async move {
            tx.add(&RunRow { name: name.to_owned(), last_run_at: at, last_error: None }).await.map(drop)
        })
        .await
}

/// Notes a run.
pub(super) async fn save(tx: &Tx, run: &RunRow) -> Result<(), StoreError> {
    let sql = sql!(
        "INSERT INTO job_run (name, last_run_at, last_error) VALUES ($1, $2, $3) ON CONFLICT (name) DO UPDATE SET last_run_at = excluded.last_run_at, last_error = excluded.last_error"
    );
    tx.run(sql, params![run.name, run.last_run_at, run.last_error]).await.map(drop)
}
