//! Row types and statement texts: what a statement gives back is declared beside it and checked by name.

use std::marker::PhantomData;

use super::text::Inserts;
use super::value::{Column, Kind, Mismatch, Value};

/// One declared column of a row type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnShape {
    /// Its name in the result.
    pub name: &'static str,
    /// The kind its cells must have.
    pub kind: Kind,
    /// Whether NULL may come back.
    pub nullable: bool,
}

/// A type that one result row becomes. Use [`row!`](crate::row) to declare one.
pub trait Row: Sized + Send + 'static {
    /// The columns, in the order of [`Row::from_values`].
    fn shape() -> &'static [ColumnShape];
    /// Builds the row from cells in the order of [`Row::shape`].
    fn from_values(values: Vec<Value>) -> Result<Self, Mismatch>;
}

/// A row type that is a whole table's row, so it can be inserted.
pub trait Table: Row + Sync {
    /// The table's name.
    const TABLE: &'static str;
    /// The cells, in the order of [`Row::shape`].
    fn to_values(&self) -> Vec<Value>;
    /// Where its insert statements are kept.
    fn inserts() -> &'static Inserts;
}

impl Row for () {
    fn shape() -> &'static [ColumnShape] {
        &[]
    }
    fn from_values(_: Vec<Value>) -> Result<Self, Mismatch> {
        Ok(())
    }
}

/// A result of one column named `value`, such as `SELECT COUNT(*) AS value …`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scalar<T>(pub T);

/// Gives each scalar type its static shape.
pub trait ScalarShape: Column + Send + 'static {
    /// One column named `value`.
    const SHAPE: [ColumnShape; 1] = [ColumnShape { name: "value", kind: Self::KIND, nullable: Self::NULLABLE }];
    /// The same as a static slice.
    const SLICE: &'static [ColumnShape] = &Self::SHAPE;
}
impl<T: Column + Send + 'static> ScalarShape for T {}

impl<T: ScalarShape> Row for Scalar<T> {
    fn shape() -> &'static [ColumnShape] {
        T::SLICE
    }
    fn from_values(values: Vec<Value>) -> Result<Self, Mismatch> {
        let value = values.into_iter().next().ok_or_else(|| Mismatch("no column".into()))?;
        T::from_value(value).map(Self)
    }
}

/// Declares a row type: `row! { pub struct OrderRow in "orders" { pub id: OrderId, … } }`.
///
/// Without `in "table"` it is a result only.
#[macro_export]
macro_rules! row {
    ($(#[$meta:meta])* $vis:vis struct $name:ident in $table:literal { $($(#[$fmeta:meta])* $fvis:vis $field:ident : $type:ty),+ $(,)? }) => {
        $crate::row! { $(#[$meta])* $vis struct $name { $($(#[$fmeta])* $fvis $field: $type),+ } }
        impl $crate::store::Table for $name {
            const TABLE: &'static str = $table;
            fn to_values(&self) -> Vec<$crate::store::Value> {
                vec![$(<$type as $crate::store::Column>::to_value(&self.$field)),+]
            }
            fn inserts() -> &'static $crate::store::Inserts {
                static INSERTS: $crate::store::Inserts = $crate::store::Inserts::unwritten();
                &INSERTS
            }
        }
    };
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$fmeta:meta])* $fvis:vis $field:ident : $type:ty),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        $vis struct $name { $($(#[$fmeta])* $fvis $field: $type),+ }
        impl $crate::store::Row for $name {
            fn shape() -> &'static [$crate::store::ColumnShape] {
                const SHAPE: &[$crate::store::ColumnShape] = &[$($crate::store::ColumnShape {
                    name: stringify!($field),
                    kind: <$type as $crate::store::Column>::KIND,
                    nullable: <$type as $crate::store::Column>::NULLABLE,
                }),+];
                SHAPE
            }
            fn from_values(values: Vec<$crate::store::Value>) -> ::std::result::Result<Self, $crate::store::Mismatch> {
                let mut values = values.into_iter();
                Ok(Self { $($field: {
                    let cell = values.next().ok_or_else(|| $crate::store::Mismatch(concat!("no column ", stringify!($field)).into()))?;
                    <$type as $crate::store::Column>::from_value(cell)
                        .map_err(|e| $crate::store::Mismatch(format!(concat!("column ", stringify!($field), ": {}"), e)))?
                }),+ })
            }
        }
    };
}

/// A statement text as filed by [`sql!`](crate::sql): one test prepares every one of them on both engines.
#[derive(Debug)]
pub struct Statement {
    /// The SQL, with `$1 … $n`.
    pub text: &'static str,
    /// The module that wrote it, which names the crate it belongs to.
    pub module: &'static str,
    /// Its source file.
    pub file: &'static str,
    /// Its line there.
    pub line: u32,
    /// The columns its row type declares.
    pub shape: fn() -> &'static [ColumnShape],
}

/// Every statement of every crate linked into this program.
#[linkme::distributed_slice]
pub static STATEMENTS: [Statement];

/// A statement whose rows become `R`.
#[derive(Debug)]
pub struct Sql<R> {
    /// Its text.
    pub text: &'static str,
    row: PhantomData<fn() -> R>,
}

impl<R> Clone for Sql<R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R> Copy for Sql<R> {}

impl<R: Row> Sql<R> {
    /// Only [`sql!`](crate::sql) calls this: it files the text for the preparing test.
    pub const fn filed(text: &'static str) -> Self {
        Self { text, row: PhantomData }
    }
}

/// A statement: `sql!(OrderRow, "SELECT … WHERE id = $1")`, or `sql!("UPDATE …")` for one without rows.
#[macro_export]
macro_rules! sql {
    ($row:ty, $text:expr $(,)?) => {{
        #[expect(unsafe_code, reason = "the linker gathers the statements; linkme checks the section's type")]
        #[$crate::linkme::distributed_slice($crate::store::STATEMENTS)]
        #[linkme(crate = $crate::linkme)]
        static FILED: $crate::store::Statement = $crate::store::Statement {
            text: $text,
            module: module_path!(),
            file: file!(),
            line: line!(),
            shape: <$row as $crate::store::Row>::shape,
        };
        $crate::store::Sql::<$row>::filed(FILED.text)
    }};
    ($text:expr $(,)?) => {
        $crate::sql!((), $text)
    };
}
