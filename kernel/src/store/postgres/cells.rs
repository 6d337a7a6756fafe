//! Cells in and out of PostgreSQL: text goes untyped, everything else typed and binary; results are matched by name and kind.

use std::error::Error;
use std::fmt;

use bytes::{BufMut as _, BytesMut};
use tokio_postgres::types::{Format, FromSql, IsNull, ToSql, Type};
use tokio_postgres::{Column, Row};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::store::error::StoreError;
use crate::store::row::ColumnShape;
use crate::store::value::{Kind, Value};

use super::lane::Answer;

/// PostgreSQL counts microseconds from the start of 2000.
const YEAR_2000: i64 = 946_684_800_000_000;
/// From here on type numbers belong to types that somebody made: looking one up breaks behind a pooler.
const FIRST_MADE_TYPE: u32 = 16_384;

type Boxed = Box<dyn Error + Sync + Send>;

/// A cell on its way to the server.
pub(super) struct Param<'a>(pub(super) &'a Value);

impl fmt::Debug for Param<'_> {
    // The driver logs parameters; what they hold must not get there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(type_of(self.0).name())
    }
}

/// The type a parameter is declared as. Text is left to the server to place: it then fits every text-like column.
pub(super) fn type_of(value: &Value) -> Type {
    match value {
        Value::Null(kind) => single(*kind),
        Value::Bool(_) => Type::BOOL,
        Value::Int(_) => Type::INT8,
        Value::Float(_) => Type::FLOAT8,
        Value::Text(_) => Type::UNKNOWN,
        Value::Bytes(_) => Type::BYTEA,
        Value::Uuid(_) => Type::UUID,
        Value::Time(_) => Type::TIMESTAMPTZ,
        Value::List(kind, _) => list_of(*kind),
    }
}

fn single(kind: Kind) -> Type {
    match kind {
        Kind::Bool => Type::BOOL,
        Kind::Int => Type::INT8,
        Kind::Float => Type::FLOAT8,
        Kind::Text => Type::UNKNOWN,
        Kind::Bytes => Type::BYTEA,
        Kind::Uuid => Type::UUID,
        Kind::Time => Type::TIMESTAMPTZ,
    }
}

fn list_of(kind: Kind) -> Type {
    match kind {
        Kind::Bool => Type::BOOL_ARRAY,
        Kind::Int => Type::INT8_ARRAY,
        Kind::Float => Type::FLOAT8_ARRAY,
        Kind::Text => Type::TEXT_ARRAY,
        Kind::Bytes => Type::BYTEA_ARRAY,
        Kind::Uuid => Type::UUID_ARRAY,
        Kind::Time => Type::TIMESTAMPTZ_ARRAY,
    }
}

impl ToSql for Param<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Boxed> {
        match self.0 {
            Value::Null(_) => return Ok(IsNull::Yes),
            Value::Bool(b) => out.put_u8(u8::from(*b)),
            Value::Int(i) => out.put_i64(*i),
            Value::Float(f) => out.put_f64(*f),
            Value::Text(t) => out.put_slice(t.as_bytes()),
            Value::Bytes(b) => out.put_slice(b),
            Value::Uuid(u) => out.put_slice(u.as_bytes()),
            Value::Time(t) => out.put_i64(t.micros().checked_sub(YEAR_2000).ok_or("a time out of range")?),
            Value::List(kind, items) => {
                let items: Vec<Param<'_>> = items.iter().map(Param).collect();
                return items.to_sql(&list_of(*kind), out);
            }
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        if matches!(self.0, Value::Text(_)) { Format::Text } else { Format::Binary }
    }

    fn to_sql_checked(&self, declared: &Type, out: &mut BytesMut) -> Result<IsNull, Boxed> {
        self.to_sql(declared, out)
    }
}

/// The rows of an answer as cells in the order of the row type.
pub(super) fn decode(answer: &Answer, shape: &[ColumnShape]) -> Result<Vec<Vec<Value>>, StoreError> {
    // Unnamed statements do not tell the columns of an empty answer; the preparing test has checked them.
    let Some(columns) = answer.columns() else { return Ok(Vec::new()) };
    let places = places(columns, shape)?;
    let read = |row| places.iter().zip(shape).map(|(at, column)| cell(row, *at, column)).collect();
    answer.rows.iter().map(read).collect()
}

/// For each declared column its place in the result; a missing, doubled, unread or differently typed column is an error.
pub(super) fn places(columns: &[Column], shape: &[ColumnShape]) -> Result<Vec<usize>, StoreError> {
    let names: Vec<&str> = columns.iter().map(Column::name).collect();
    if names.len() != shape.len() {
        return Err(StoreError::Decode(format!("the result has columns {names:?}, the row type has {}", shape.len())));
    }
    let place = |column: &ColumnShape| {
        let mut found = columns.iter().enumerate().filter(|(_, c)| c.name() == column.name);
        match (found.next(), found.next()) {
            (Some((at, found)), None) => fits(found.type_(), column).map(|()| at),
            (None, _) => Err(StoreError::Decode(format!("no column {} in the result {names:?}", column.name))),
            _ => Err(StoreError::Decode(format!("column {} comes twice", column.name))),
        }
    };
    shape.iter().map(place).collect()
}

fn fits(found: &Type, column: &ColumnShape) -> Result<(), StoreError> {
    let fits = match column.kind {
        Kind::Bool => *found == Type::BOOL,
        Kind::Int => matches!(*found, Type::INT8 | Type::INT4 | Type::INT2),
        Kind::Float => *found == Type::FLOAT8,
        Kind::Text => matches!(*found, Type::TEXT | Type::VARCHAR),
        Kind::Bytes => *found == Type::BYTEA,
        Kind::Uuid => *found == Type::UUID,
        Kind::Time => *found == Type::TIMESTAMPTZ,
    };
    if fits && found.oid() < FIRST_MADE_TYPE {
        return Ok(());
    }
    Err(StoreError::Decode(format!("column {} is {}, the row type says {:?}", column.name, found.name(), column.kind)))
}

fn cell(row: &Row, at: usize, column: &ColumnShape) -> Result<Value, StoreError> {
    let value = match column.kind {
        Kind::Bool => row.try_get::<_, Option<bool>>(at).map(|v| v.map(Value::Bool)),
        Kind::Int => row.try_get::<_, Option<Whole>>(at).map(|v| v.map(|Whole(i)| Value::Int(i))),
        Kind::Float => row.try_get::<_, Option<f64>>(at).map(|v| v.map(Value::Float)),
        Kind::Text => row.try_get::<_, Option<String>>(at).map(|v| v.map(Value::Text)),
        Kind::Bytes => row.try_get::<_, Option<Vec<u8>>>(at).map(|v| v.map(Value::Bytes)),
        Kind::Uuid => row.try_get::<_, Option<Uuid>>(at).map(|v| v.map(Value::Uuid)),
        Kind::Time => row.try_get::<_, Option<Moment>>(at).map(|v| v.map(|Moment(t)| Value::Time(t))),
    };
    value
        .map(|v| v.unwrap_or(Value::Null(column.kind)))
        .map_err(|e| StoreError::Decode(format!("column {}: {e}", column.name)))
}

/// A whole number of any width; widening loses nothing.
struct Whole(i64);

impl<'a> FromSql<'a> for Whole {
    fn from_sql(declared: &Type, raw: &'a [u8]) -> Result<Self, Boxed> {
        Ok(Self(match *declared {
            Type::INT2 => i16::from_sql(declared, raw)?.into(),
            Type::INT4 => i32::from_sql(declared, raw)?.into(),
            _ => i64::from_sql(declared, raw)?,
        }))
    }
    fn accepts(declared: &Type) -> bool {
        matches!(*declared, Type::INT2 | Type::INT4 | Type::INT8)
    }
}

struct Moment(Timestamp);

impl<'a> FromSql<'a> for Moment {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Boxed> {
        let micros = i64::from_be_bytes(raw.try_into()?);
        if micros == i64::MAX || micros == i64::MIN {
            return Err("an infinite time".into());
        }
        Ok(Self(Timestamp::from_micros(micros.checked_add(YEAR_2000).ok_or("a time out of range")?)))
    }
    fn accepts(declared: &Type) -> bool {
        *declared == Type::TIMESTAMPTZ
    }
}
