//! Read-only connections, opened as they are needed and kept.

use std::path::PathBuf;

use crate::store::error::StoreError;
use crate::store::row::ColumnShape;
use crate::store::value::Value;
use parking_lot::Mutex;

use super::line::Line;
use super::open_reader;

/// Idle connections kept open; more may exist for a moment under load.
const KEEP: usize = 4;

pub(crate) struct SqliteRead {
    path: PathBuf,
    idle: Mutex<Vec<Line>>,
}

impl SqliteRead {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, idle: Mutex::default() }
    }

    /// Lends a connection. The read runs on the caller's thread: a page of at most 100 rows costs less than a thread hop.
    pub(super) fn with<T>(&self, read: impl FnOnce(&mut Line) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let idle = self.idle.lock().pop();
        let mut line = match idle {
            Some(line) => line,
            None => Line::new(open_reader(&self.path)?),
        };
        let result = read(&mut line);
        let mut idle = self.idle.lock();
        if idle.len() < KEEP {
            idle.push(line);
        }
        result
    }

    pub(crate) async fn query(
        &self,
        text: &str,
        params: &[Value],
        shape: &'static [ColumnShape],
    ) -> Result<Vec<Vec<Value>>, StoreError> {
        self.with(|line| line.query(text, params, shape))
    }
}
