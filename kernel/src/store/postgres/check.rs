//! Checking a filed statement: it must prepare, and its columns must have the names, kinds and nullability of its row type.

use tokio_postgres::Column;
use tokio_postgres::types::Type;

use crate::store::error::StoreError;
use crate::store::row::{ColumnShape, Statement};

use super::lane::Lane;
use super::{cells, engine_error};

pub(super) async fn check(lane: &Lane, filed: &Statement) -> Result<(), StoreError> {
    let shape = (filed.shape)();
    let prepared = lane.client.prepare(filed.text).await.map_err(|e| engine_error(&e))?;
    let places = cells::places(prepared.columns(), shape)?;
    for (at, declared) in places.into_iter().zip(shape) {
        if !declared.nullable && may_be_null(lane, &prepared.columns()[at]).await? {
            return Err(nullable(declared));
        }
    }
    Ok(())
}

fn nullable(declared: &ColumnShape) -> StoreError {
    StoreError::Decode(format!("column {} may be NULL, the row type says it cannot", declared.name))
}

/// Whether the table lets this column be NULL. Of an expression nothing is known, so it is left to its author.
async fn may_be_null(lane: &Lane, column: &Column) -> Result<bool, StoreError> {
    let (Some(table), Some(number)) = (column.table_oid(), column.column_id()) else { return Ok(false) };
    let text = "SELECT attnotnull FROM pg_attribute WHERE attrelid = $1 AND attnum = $2";
    let row = lane.client.query_typed_one(text, &[(&table, Type::OID), (&number, Type::INT2)]).await;
    row.map(|row| !row.get::<_, bool>(0)).map_err(|e| engine_error(&e))
}
