//! The statements of one unit of work, behind a gate that its first error and its end close.

use std::borrow::Cow;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;

use crate::store::error::StoreError;
use crate::store::row::{ColumnShape, Statement};
use crate::store::text;
use crate::store::value::{Kind, Value};

use super::{cells, engine_error};

enum Gate {
    Open,
    Sealed(StoreError),
    Ended,
}

pub(crate) struct SqliteUnit {
    connection: Arc<Mutex<Connection>>,
    gate: Mutex<Gate>,
}

impl SqliteUnit {
    pub(super) fn new(connection: Arc<Mutex<Connection>>) -> Self {
        Self { connection, gate: Mutex::new(Gate::Open) }
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
        self.guarded(text, |connection| query(connection, text, params, shape))
    }

    pub(crate) fn execute(&self, text: &str, params: &[Value]) -> Result<u64, StoreError> {
        self.guarded(text, |connection| execute(connection, text, params))
    }

    /// Checks the gate and runs under its lock, so that nothing slips in behind the unit's end.
    fn guarded<T>(&self, text: &str, run: impl FnOnce(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut gate = self.gate.lock();
        match &*gate {
            Gate::Open => {}
            Gate::Sealed(first) => return Err(StoreError::Sealed(first.to_string())),
            Gate::Ended => return Err(StoreError::Ended),
        }
        let result = text::refuse_control(text).and_then(|()| run(&self.connection.lock()));
        if let Err(error) = &result {
            *gate = Gate::Sealed(error.clone());
        }
        result
    }
}

/// `= ANY($n)` as SQLite knows it.
fn dialect(text: &str) -> Cow<'_, str> {
    if !text.contains("= ANY($") {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(at) = rest.find("= ANY($") {
        let Some(close) = rest[at..].find(')') else { break };
        out.push_str(&rest[..at]);
        out.push_str("IN rarray(");
        out.push_str(&rest[at + "= ANY(".len()..=at + close]);
        rest = &rest[at + close + 1..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

pub(super) fn query(
    connection: &Connection,
    text: &str,
    params: &[Value],
    shape: &[ColumnShape],
) -> Result<Vec<Vec<Value>>, StoreError> {
    let mut statement = connection.prepare_cached(&dialect(text)).map_err(|e| engine_error(&e))?;
    let places = cells::places(&statement, shape)?;
    cells::bind(&mut statement, params)?;
    let mut rows = statement.raw_query();
    let mut out = Vec::new();
    while let Some(row) = rows.next().map_err(|e| engine_error(&e))? {
        out.push(cells::read(row, &places, shape)?);
    }
    Ok(out)
}

pub(super) fn execute(connection: &Connection, text: &str, params: &[Value]) -> Result<u64, StoreError> {
    let mut statement = connection.prepare_cached(&dialect(text)).map_err(|e| engine_error(&e))?;
    if statement.column_count() > 0 {
        return Err(StoreError::Refused(format!("a statement with rows needs a row type: {text}")));
    }
    cells::bind(&mut statement, params)?;
    let touched = statement.raw_execute().map_err(|e| engine_error(&e))?;
    Ok(touched as u64)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_rewritten_for_sqlite() {
        assert_eq!(dialect("a = ANY($1) AND NOT (b = ANY($2))"), "a IN rarray($1) AND NOT (b IN rarray($2))");
    }
}
