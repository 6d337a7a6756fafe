//! Cells in and out of SQLite: parameters are bound by name, results are matched by name and kind.

use std::rc::Rc;

use rusqlite::types::{ToSqlOutput, Value as Raw, ValueRef};
use rusqlite::{Row, Statement};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::store::error::StoreError;
use crate::store::row::ColumnShape;
use crate::store::value::{Kind, Value};

use super::engine_error;

fn raw(value: &Value) -> Raw {
    match value {
        Value::Null(_) | Value::List(..) => Raw::Null,
        Value::Bool(b) => Raw::Integer(i64::from(*b)),
        Value::Int(i) => Raw::Integer(*i),
        Value::Float(f) => Raw::Real(*f),
        Value::Text(t) => Raw::Text(t.clone()),
        Value::Bytes(b) => Raw::Blob(b.clone()),
        Value::Uuid(u) => Raw::Blob(u.as_bytes().to_vec()),
        Value::Time(t) => Raw::Integer(t.micros()),
    }
}

fn output(value: &Value) -> ToSqlOutput<'_> {
    match value {
        Value::Text(t) => ToSqlOutput::Borrowed(ValueRef::Text(t.as_bytes())),
        Value::Bytes(b) => ToSqlOutput::Borrowed(ValueRef::Blob(b)),
        Value::Uuid(u) => ToSqlOutput::Borrowed(ValueRef::Blob(u.as_bytes())),
        other => ToSqlOutput::Owned(raw(other)),
    }
}

/// For each place in a statement the number of its parameter: SQLite numbers names by first occurrence, so binding by
/// position would swap values.
pub(super) fn numbers(statement: &Statement<'_>, parameters: usize) -> Result<Vec<usize>, StoreError> {
    let number = |index| {
        statement
            .parameter_name(index)
            .and_then(|name| name.strip_prefix('$'))
            .and_then(|digits| digits.parse::<usize>().ok())
            .filter(|n| (1..=parameters).contains(n))
            .ok_or_else(|| StoreError::Refused(format!("parameter {index} is not one of $1 to ${parameters}")))
    };
    (1..=statement.parameter_count()).map(number).collect()
}

/// Binds each place to the parameter of its number.
pub(super) fn bind(statement: &mut Statement<'_>, numbers: &[usize], params: &[Value]) -> Result<(), StoreError> {
    for (index, number) in (1..).zip(numbers) {
        let bound = match &params[number - 1] {
            Value::List(_, items) => {
                statement.raw_bind_parameter(index, Rc::new(items.iter().map(raw).collect::<Vec<_>>()))
            }
            single => statement.raw_bind_parameter(index, output(single)),
        };
        bound.map_err(|e| engine_error(&e))?;
    }
    Ok(())
}

/// For each declared column its place in the result; a missing, doubled or unread column is an error.
pub(super) fn places(statement: &Statement<'_>, shape: &[ColumnShape]) -> Result<Vec<usize>, StoreError> {
    let names = statement.column_names();
    if names.len() != shape.len() {
        return Err(StoreError::Decode(format!("the result has columns {names:?}, the row type has {}", shape.len())));
    }
    let place = |column: &ColumnShape| {
        let mut found = names.iter().enumerate().filter(|(_, name)| **name == column.name);
        match (found.next(), found.next()) {
            (Some((at, _)), None) => Ok(at),
            (None, _) => Err(StoreError::Decode(format!("no column {} in the result {names:?}", column.name))),
            _ => Err(StoreError::Decode(format!("column {} comes twice", column.name))),
        }
    };
    shape.iter().map(place).collect()
}

/// The cells of one row in the order of the row type.
pub(super) fn read(row: &Row<'_>, places: &[usize], shape: &[ColumnShape]) -> Result<Vec<Value>, StoreError> {
    let cell = |(at, column): (&usize, &ColumnShape)| {
        let raw = row.get_ref(*at).map_err(|e| engine_error(&e))?;
        decode(raw, column.kind).ok_or_else(|| {
            StoreError::Decode(format!(
                "column {}: {:?} where {:?} is declared",
                column.name,
                raw.data_type(),
                column.kind
            ))
        })
    };
    places.iter().zip(shape).map(cell).collect()
}

fn decode(raw: ValueRef<'_>, kind: Kind) -> Option<Value> {
    Some(match (kind, raw) {
        (_, ValueRef::Null) => Value::Null(kind),
        (Kind::Bool, ValueRef::Integer(i @ (0 | 1))) => Value::Bool(i == 1),
        (Kind::Int, ValueRef::Integer(i)) => Value::Int(i),
        (Kind::Time, ValueRef::Integer(i)) => Value::Time(Timestamp::from_micros(i)),
        (Kind::Float, ValueRef::Real(f)) => Value::Float(f),
        (Kind::Text, ValueRef::Text(t)) => Value::Text(std::str::from_utf8(t).ok()?.to_owned()),
        (Kind::Bytes, ValueRef::Blob(b)) => Value::Bytes(b.to_vec()),
        (Kind::Uuid, ValueRef::Blob(b)) => Value::Uuid(Uuid::from_slice(b).ok()?),
        _ => return None,
    })
}
