//! What a cell can hold, and how Rust types become cells and come back.

use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::clock::Timestamp;

/// The kinds of cell that both engines know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// BOOLEAN; INTEGER 0 or 1 on SQLite.
    Bool,
    /// BIGINT; every whole number is one.
    Int,
    /// DOUBLE PRECISION; never for money.
    Float,
    /// TEXT.
    Text,
    /// BYTEA; BLOB on SQLite.
    Bytes,
    /// UUID; a BLOB of 16 bytes on SQLite.
    Uuid,
    /// TIMESTAMPTZ; INTEGER microseconds on SQLite.
    Time,
}

/// One cell, or one parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// NULL keeps the kind of its column, because PostgreSQL wants typed parameters.
    Null(Kind),
    /// See [`Kind::Bool`].
    Bool(bool),
    /// See [`Kind::Int`].
    Int(i64),
    /// See [`Kind::Float`].
    Float(f64),
    /// See [`Kind::Text`].
    Text(String),
    /// See [`Kind::Bytes`].
    Bytes(Vec<u8>),
    /// See [`Kind::Uuid`].
    Uuid(Uuid),
    /// See [`Kind::Time`].
    Time(Timestamp),
    /// A list for `= ANY($n)`; parameters only.
    List(Kind, Vec<Value>),
}

/// A cell that is not what the row type says.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Mismatch(pub String);

/// A type that fills one column.
pub trait Column: Sized {
    /// The kind of its cells.
    const KIND: Kind;
    /// Whether NULL is one of its values.
    const NULLABLE: bool = false;
    /// The cell for this value.
    fn to_value(&self) -> Value;
    /// The value of a cell; a wrong kind or an unexpected NULL is a mismatch.
    fn from_value(value: Value) -> Result<Self, Mismatch>;
}

fn wrong<T>(wanted: Kind, got: &Value) -> Result<T, Mismatch> {
    Err(Mismatch(match got {
        Value::Null(_) => format!("NULL where {wanted:?} is declared"),
        other => format!("{other:?} where {wanted:?} is declared"),
    }))
}

macro_rules! plain_column {
    ($($type:ty => $kind:ident),+) => {$(
        impl Column for $type {
            const KIND: Kind = Kind::$kind;
            fn to_value(&self) -> Value {
                Value::$kind(self.clone())
            }
            fn from_value(value: Value) -> Result<Self, Mismatch> {
                match value {
                    Value::$kind(inner) => Ok(inner),
                    other => wrong(Kind::$kind, &other),
                }
            }
        }
    )+};
}
plain_column!(bool => Bool, i64 => Int, f64 => Float, String => Text, Vec<u8> => Bytes, Uuid => Uuid, Timestamp => Time);

impl<T: Column> Column for Option<T> {
    const KIND: Kind = T::KIND;
    const NULLABLE: bool = true;
    fn to_value(&self) -> Value {
        self.as_ref().map_or(Value::Null(T::KIND), Column::to_value)
    }
    fn from_value(value: Value) -> Result<Self, Mismatch> {
        match value {
            Value::Null(_) => Ok(None),
            some => T::from_value(some).map(Some),
        }
    }
}

/// A value kept as JSON text in one column, for what is read whole and never searched.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Json<T>(pub T);

impl<T: Serialize + DeserializeOwned> Column for Json<T> {
    const KIND: Kind = Kind::Text;
    fn to_value(&self) -> Value {
        Value::Text(serde_json::to_string(&self.0).expect("a plain data type always becomes JSON"))
    }
    fn from_value(value: Value) -> Result<Self, Mismatch> {
        let text = String::from_value(value)?;
        serde_json::from_str(&text).map(Self).map_err(|e| Mismatch(format!("JSON column: {e}")))
    }
}

/// Something that can stand for `$n`.
pub trait ToParam {
    /// The parameter as a cell.
    fn to_param(&self) -> Value;
}

impl<T: Column> ToParam for T {
    fn to_param(&self) -> Value {
        self.to_value()
    }
}

impl ToParam for str {
    fn to_param(&self) -> Value {
        Value::Text(self.to_owned())
    }
}

/// A list for `= ANY($n)`, made by [`any`].
#[derive(Clone, Debug)]
pub struct AnyOf(Value);

impl ToParam for AnyOf {
    fn to_param(&self) -> Value {
        self.0.clone()
    }
}

/// The list parameter of `column = ANY($n)`.
pub fn any<'a, T: Column + 'a>(items: impl IntoIterator<Item = &'a T>) -> AnyOf {
    AnyOf(Value::List(T::KIND, items.into_iter().map(Column::to_value).collect()))
}

/// The parameters of a statement, in the order of `$1 … $n`.
#[macro_export]
macro_rules! params {
    () => { ::std::vec::Vec::<$crate::store::Value>::new() };
    ($($param:expr),+ $(,)?) => {{
        use $crate::store::ToParam as _;
        ::std::vec![$((&$param).to_param()),+]
    }};
}
