//! Read-only connections, opened as they are needed and kept.

use std::path::PathBuf;

use parking_lot::Mutex;
use rusqlite::Connection;

use crate::store::error::StoreError;
use crate::store::row::ColumnShape;
use crate::store::value::Value;

use super::{open_reader, unit};

/// Idle connections kept open; more may exist for a moment under load.
const KEEP: usize = 4;

pub(crate) struct SqliteRead {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl SqliteRead {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, idle: Mutex::default() }
    }

    /// Lends a connection. The read runs on the caller's thread: a page of at most 100 rows costs less than a thread hop.
    pub(super) fn with<T>(&self, read: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let idle = self.idle.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => open_reader(&self.path)?,
        };
        let result = read(&connection);
        let mut idle = self.idle.lock();
        if idle.len() < KEEP {
            idle.push(connection);
        }
        result
    }

    pub(crate) async fn query(
        &self,
        text: &str,
        params: &[Value],
        shape: &'static [ColumnShape],
    ) -> Result<Vec<Vec<Value>>, StoreError> {
        self.with(|connection| unit::query(connection, text, params, shape))
    }
}
