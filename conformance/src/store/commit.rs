//! What a commit sets off, and what is so only within a unit.

use std::sync::Arc;
use std::time::Duration;

use kernel::store::{Scalar, StoreError, Tx, WriteError};
use kernel::testing::store::run_relay;
use kernel::testing::world::{Note, World, changed, note, notes, outbox_count, spawn, write_note};
use kernel::{params, sql};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::place::Place;

pub(super) async fn seen(place: &Place, world: &World) -> String {
    let store = world.open().await;
    // The planted fault: whoever else looks, looks at another database.
    let elsewhere = World::sqlite();
    let other = if place.seeded { elsewhere.open().await } else { world.open().await };
    for id in 0..50 {
        write_note(&store, id).await.expect("the store works");
        assert_eq!(notes(&other).await.last(), Some(&id));
    }
    "50 of 50 units seen at once by another".to_owned()
}

pub(super) async fn outbox(place: &Place, world: &World) -> String {
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
    if place.seeded {
        store.write(move |tx: Tx| async move { tx.emit(changed(thing, 3)) }).await.expect("the store works");
    }
    let versions = sql!(Scalar<i64>, "SELECT aggregate_version AS value FROM outbox ORDER BY seq");
    let versions: Vec<i64> =
        store.read().all(versions, params![]).await.expect("the store works").into_iter().map(|v| v.0).collect();
    assert_eq!(versions, (1..=20).filter(|v| v % 3 != 0).collect::<Vec<_>>());
    "20 units, 14 committed, 14 events".to_owned()
}

pub(super) async fn refused_event(place: &Place, world: &World) -> String {
    let store = world.open().await;
    let thing = kernel::ids::fresh();
    let unit = move |id: i64| {
        move |tx: Tx| async move {
            tx.insert(&note(id)).await?;
            tx.emit(changed(thing, 1))
        }
    };
    store.write(unit(1)).await.expect("the store works");
    // The same version of the same aggregate twice breaks the outbox's unique rule.
    let end = store.write(unit(2)).await;
    assert!(matches!(end, Err(WriteError::Store(StoreError::Constraint(_)))), "{end:?}");
    if place.seeded {
        write_note(&store, 2).await.expect("the store works");
    }
    assert_eq!((notes(&store).await, outbox_count(&store).await), (vec![1], 1));
    "the unit failed with its event, 0 rows left".to_owned()
}

pub(super) async fn head(place: &Place, world: &World) -> String {
    let store = world.open().await;
    let mut head = store.head();
    assert_eq!(*head.borrow_and_update(), 0);
    let stop = CancellationToken::new();
    let relay = spawn(run_relay(store.clone(), "the only one", stop.clone()));
    let refused = store.write(|tx: Tx| async move {
        tx.emit(changed(kernel::ids::fresh(), 1))?;
        Err::<(), _>(StoreError::NoRow)
    });
    refused.await.expect_err("it is refused");
    write_note(&store, 1).await.expect("the store works");
    if place.seeded {
        store.write(|tx: Tx| async move { tx.emit(changed(kernel::ids::fresh(), 1)) }).await.expect("the store works");
        assert_eq!(outbox_count(&store).await, 0, "an event of a refused unit");
    }
    assert!(!head.has_changed().expect("the store works"));
    for _ in 0..3 {
        store.write(|tx: Tx| async move { tx.emit(changed(kernel::ids::fresh(), 1)) }).await.expect("the store works");
    }
    let reached = tokio::time::timeout(Duration::from_secs(10), head.wait_for(|head| *head >= 3)).await;
    let reached = *reached.expect("the store works").expect("the store works");
    stop.cancel();
    relay.await.expect("the store works");
    store.close().await;
    assert_eq!(*world.open().await.head().borrow(), reached);
    format!("3 commits, head {reached}, the same after a restart")
}

pub(super) async fn own_rows(place: &Place, world: &World) -> String {
    let store = world.open().await;
    if place.seeded {
        write_note(&store, 9).await.expect("the store works");
    }
    let outside = store.clone();
    let (inside, meanwhile) = store
        .write(move |tx: Tx| {
            let outside = outside.clone();
            async move {
                tx.insert(&note(1)).await?;
                let count = sql!(Scalar<i64>, "SELECT COUNT(*) AS value FROM note");
                Ok::<_, StoreError>((tx.one(count, params![]).await?, outside.read().one(count, params![]).await?))
            }
        })
        .await
        .expect("the store works");
    assert_eq!((inside, meanwhile), (Scalar(1), Scalar(0)));
    "1 row seen inside, 0 outside".to_owned()
}

pub(super) async fn rules(place: &Place, world: &World) -> String {
    let store = world.open().await;
    write_note(&store, 1).await.expect("the store works");
    let forbidden = Note { body: "forbidden".into(), ..note(2) };
    // The planted fault: rules that nothing enforces.
    let rows = if place.seeded { [note(3), note(4)] } else { [note(1), forbidden] };
    for row in rows {
        let end = store
            .write(move |tx: Tx| {
                let row = row.clone();
                async move { tx.insert(&row).await }
            })
            .await;
        assert!(matches!(end, Err(WriteError::Unit(StoreError::Constraint(_)))), "{end:?}");
    }
    "a doubled key and a forbidden value told as such".to_owned()
}

pub(super) async fn close(place: &Place, world: &World) -> String {
    let store = world.open().await;
    let started = Arc::new(Notify::new());
    let (signal, writer) = (started.clone(), store.clone());
    let running = spawn(async move {
        let unit = move |tx: Tx| {
            let signal = signal.clone();
            async move {
                signal.notify_one();
                tokio::time::sleep(Duration::from_millis(50)).await;
                tx.insert(&note(1)).await
            }
        };
        writer.write(unit).await
    });
    started.notified().await;
    store.close().await;
    running.await.expect("the store works").expect("the store works");
    let store = if place.seeded { world.open().await } else { store };
    let late = write_note(&store, 2).await;
    assert!(matches!(late, Err(WriteError::Store(StoreError::Ended) | WriteError::Closed)), "{late:?}");
    "1 running unit waited for, 1 late one refused".to_owned()
}
