//! Units whose failure is nobody's but their own: they are not tried again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use kernel::params;
use kernel::store::{Sql, StoreError, Tx, WriteError};

use crate::world::on_every_engine;

type End = Result<(), WriteError<StoreError>>;

#[test]
fn a_statement_that_does_not_parse_is_tried_once() {
    on_every_engine(async |world| {
        let store = world.open().await;
        let runs = Arc::new(AtomicU32::new(0));
        let counted = runs.clone();
        let end: End = store
            .write(move |tx: Tx| {
                counted.fetch_add(1, Ordering::SeqCst);
                async move { tx.run(Sql::filed("SELEKT 1"), params![]).await.map(drop) }
            })
            .await;
        assert!(matches!(end, Err(WriteError::Unit(StoreError::Engine(_)))), "{end:?}");
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    });
}
