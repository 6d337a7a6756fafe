//! What a commit sets off, and what it does not before it is one.

use std::sync::Arc;

use futures::future::join_all;
use kernel::store::{StoreError, Tx, WriteError};
use tokio::sync::Notify;

use crate::world::{On, changed, on_engines, on_every_engine, outbox_count, write_note};

#[test]
fn an_event_that_the_service_does_not_claim_is_refused() {
    on_every_engine(async |world| {
        let mut options = world.options();
        options.claims = vec!["something.else"];
        let store = world.open_with(options).await;
        let end = store.write(|tx: Tx| async move { tx.emit(changed(kernel::ids::fresh(), 1)) }).await;
        assert!(matches!(end, Err(WriteError::Unit(StoreError::Refused(_)))), "{end:?}");
        assert_eq!(outbox_count(&store).await, 0);
    });
}

#[test]
fn a_head_never_tells_of_an_event_that_was_rolled_back() {
    on_every_engine(async |world| {
        let store = world.open().await;
        let thing = kernel::ids::fresh();
        // The first event goes in, the second is refused for its version, and both are rolled back.
        let doubled = store.write(move |tx: Tx| async move {
            tx.emit(changed(thing, 1))?;
            tx.emit(changed(thing, 1))
        });
        doubled.await.unwrap_err();
        assert_eq!((outbox_count(&store).await, *store.head().borrow()), (0, 0));
    });
}

#[test]
fn units_that_wait_together_share_a_commit_on_sqlite() {
    on_engines(&[On::Sqlite], async |world| {
        let store = world.open().await;
        let log = world.path("test.db-wal");
        let size = || std::fs::metadata(&log).unwrap().len();
        let start = size();
        for id in 0..100 {
            write_note(&store, id).await.unwrap();
        }
        let one_by_one = size() - start;
        // One unit holds the writer until the others wait behind it.
        let (held, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (is_held, released) = (held.clone(), go_on.clone());
        let holding = store.write(move |_: Tx| {
            let (held, go_on) = (is_held.clone(), released.clone());
            async move {
                held.notify_one();
                go_on.notified().await;
                Ok::<_, StoreError>(())
            }
        });
        let others = async {
            held.notified().await;
            let all = join_all((100..200).map(|id| write_note(&store, id)));
            let release = async {
                tokio::task::yield_now().await;
                go_on.notify_one();
            };
            futures::join!(all, release).0
        };
        let (end, ended) = futures::join!(holding, others);
        end.unwrap();
        ended.into_iter().for_each(Result::unwrap);
        let together = size() - start - one_by_one;
        assert!(together * 3 < one_by_one, "{together} bytes for 100 units together, {one_by_one} one by one");
    });
}
