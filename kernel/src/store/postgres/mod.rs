//! PostgreSQL: unnamed statements in one round trip, right through a pooler in transaction mode.

use std::sync::Arc;

use super::error::StoreError;
use super::job::Job;
use super::migrate::Migration;
use super::row::{ColumnShape, Statement};
use super::value::Value;
use super::{AfterCommit, Options};

pub(crate) struct Postgres;
pub(crate) struct PgUnit;
pub(crate) struct PgRead;

impl Postgres {
    pub(crate) async fn open(_: &Options, _: &[Migration], _: Arc<AfterCommit>) -> Result<Self, StoreError> {
        Err(StoreError::Refused("PostgreSQL is not there yet".into()))
    }
    pub(crate) async fn submit(&self, _: Box<dyn Job>) {}
    pub(crate) fn reader(&self) -> Arc<PgRead> {
        Arc::new(PgRead)
    }
    pub(crate) async fn prepare(&self, _: &Statement) -> Result<(), StoreError> {
        Err(StoreError::Ended)
    }
    pub(crate) async fn close(&self) {}
}
impl PgUnit {
    pub(crate) async fn query(
        &self,
        _: &str,
        _: &[Value],
        _: &'static [ColumnShape],
    ) -> Result<Vec<Vec<Value>>, StoreError> {
        Err(StoreError::Ended)
    }
    pub(crate) async fn execute(&self, _: &str, _: &[Value]) -> Result<u64, StoreError> {
        Err(StoreError::Ended)
    }
}
impl PgRead {
    pub(crate) async fn query(
        &self,
        _: &str,
        _: &[Value],
        _: &'static [ColumnShape],
    ) -> Result<Vec<Vec<Value>>, StoreError> {
        Err(StoreError::Ended)
    }
}
