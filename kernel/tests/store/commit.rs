//! What a commit sets off, and what it does not before it is one.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use kernel::store::{Scalar, StoreError, Tx, WriteError};
use kernel::testing::store::run_relay;
use kernel::{params, sql};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::world::{On, changed, note, notes, on_engines, on_every_engine, outbox_count, spawn, write_note};

#[test]
fn an_acknowledged_unit_is_seen_by_everybody_else() {
    on_every_engine(async |world| {
        let (store, other) = (world.open().await, world.open().await);
        for id in 0..50 {
            write_note(&store, id).await.unwrap();
            assert_eq!(notes(&other).await.last(), Some(&id));
        }
    });
}

#[test]
fn an_event_is_in_the_outbox_exactly_if_its_unit_committed() {
    on_every_engine(async |world| {
        let store = world.open().await;
        let thing = kernel::ids::fresh();
        for version in 1..=20_i64 {
            let end = store
                .write(move |tx: Tx| async move {
                    tx.emit(changed(thing, version))?;
                    if version % 3 == 0 { Err(StoreError::NoRow) } else { Ok(()) }
                })
                .await;
            assert_eq!(end.is_ok(), version % 3 != 0);
        }
        let versions = sql!(Scalar<i64>, "SELECT aggregate_version AS value FROM outbox ORDER BY seq");
        let versions: Vec<i64> =
            store.read().all(versions, params![]).await.unwrap().into_iter().map(|v| v.0).collect();
        assert_eq!(versions, (1..=20).filter(|v| v % 3 != 0).collect::<Vec<_>>());
    });
}

#[test]
fn an_event_that_the_outbox_refuses_fails_its_unit() {
    on_every_engine(async |world| {
        let store = world.open().await;
        let thing = kernel::ids::fresh();
        let unit = move |id: i64| {
            move |tx: Tx| async move {
                tx.insert(&note(id)).await?;
                tx.emit(changed(thing, 1))
            }
        };
        store.write(unit(1)).await.unwrap();
        // The same version of the same aggregate twice breaks the outbox's unique rule.
        let end = store.write(unit(2)).await;
        assert!(matches!(end, Err(WriteError::Store(StoreError::Constraint(_)))), "{end:?}");
        assert_eq!((notes(&store).await, outbox_count(&store).await), (vec![1], 1));
    });
}

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
fn the_head_moves_after_the_commit_and_is_found_again_after_a_restart() {
    on_every_engine(async |world| {
        let store = world.open().await;
        let mut head = store.head();
        assert_eq!(*head.borrow_and_update(), 0);
        let stop = CancellationToken::new();
        let relay = spawn(run_relay_of(store.clone(), stop.clone()));
        let refused = store.write(|tx: Tx| async move {
            tx.emit(changed(kernel::ids::fresh(), 1))?;
            Err::<(), _>(StoreError::NoRow)
        });
        refused.await.unwrap_err();
        write_note(&store, 1).await.unwrap();
        assert!(!head.has_changed().unwrap());
        for _ in 0..3 {
            store.write(|tx: Tx| async move { tx.emit(changed(kernel::ids::fresh(), 1)) }).await.unwrap();
        }
        let reached = tokio::time::timeout(Duration::from_secs(10), head.wait_for(|head| *head >= 3)).await;
        let reached = *reached.unwrap().unwrap();
        stop.cancel();
        relay.await.unwrap();
        store.close().await;
        assert_eq!(*world.open().await.head().borrow(), reached);
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

async fn run_relay_of(store: kernel::store::Store, stop: CancellationToken) {
    run_relay(store, "the only one", stop).await;
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
