//! The statements of one unit of work, behind a gate that its first error and its end close.

use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;

use crate::store::error::StoreError;
use crate::store::row::{ColumnShape, Statement};
use crate::store::value::{Kind, Value};

use super::line::{Line, dialect};
use super::{cells, engine_error};

enum Gate {
    Open,
    Sealed(StoreError),
    Ended,
}

pub(crate) struct SqliteUnit {
    line: Arc<Mutex<Line>>,
    gate: Mutex<Gate>,
}

impl SqliteUnit {
    pub(super) fn new(line: Arc<Mutex<Line>>) -> Self {
        Self { line, gate: Mutex::new(Gate::Open) }
    }

    /// Ends the unit; gives the error that sealed it, if one did.
    pub(super) fn end(&self) -> Option<StoreError> {
        match std::mem::replace(&mut *self.gate.lock(), Gate::Ended) {
            Gate::Sealed(error) => Some(error),
            Gate::Open | Gate::Ended => None,
        }
    }

    pub(crate) fn query(
        &self,
        text: &str,
        params: &[Value],
        shape: &'static [ColumnShape],
    ) -> Result<Vec<Vec<Value>>, StoreError> {
        self.guarded(|line| line.query(text, params, shape))
    }

    pub(crate) fn execute(&self, text: &str, params: &[Value]) -> Result<u64, StoreError> {
        self.guarded(|line| line.execute(text, params))
    }

    /// Checks the gate and runs under its lock, so that nothing slips in behind the unit's end.
    fn guarded<T>(&self, run: impl FnOnce(&mut Line) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut gate = self.gate.lock();
        match &*gate {
            Gate::Open => {}
            Gate::Sealed(first) => return Err(StoreError::Sealed(first.to_string())),
            Gate::Ended => return Err(StoreError::Ended),
        }
        let result = run(&mut self.line.lock());
        if let Err(error) = &result {
            *gate = Gate::Sealed(error.clone());
        }
        result
    }
}

/// Prepares a filed statement and compares its result columns with the row type.
pub(super) fn check_statement(connection: &Connection, filed: &Statement) -> Result<(), StoreError> {
    let shape = (filed.shape)();
    let statement = connection.prepare(&dialect(filed.text)).map_err(|e| engine_error(&e))?;
    cells::places(&statement, shape)?;
    let declared = statement.columns();
    for column in shape {
        let Some(found) = declared.iter().find(|c| c.name() == column.name) else { continue };
        // Expressions have no declared type; the PostgreSQL run checks those.
        if let Some(word) = found.decl_type()
            && !fits(word, column.kind)
        {
            return Err(StoreError::Decode(format!(
                "column {} is {word}, the row type says {:?}",
                column.name, column.kind
            )));
        }
    }
    Ok(())
}

fn fits(declared: &str, kind: Kind) -> bool {
    match kind {
        Kind::Bool | Kind::Int | Kind::Time => declared == "INTEGER",
        Kind::Float => declared == "REAL",
        Kind::Text => declared == "TEXT",
        Kind::Bytes | Kind::Uuid => declared == "BLOB",
    }
}
