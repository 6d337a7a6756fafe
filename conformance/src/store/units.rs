//! Units that fail in every way there is: each leaves nothing behind and harms no bystander.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use kernel::store::{Scalar, Sql, Store, StoreError, Tx, WriteError};
use kernel::testing::world::{World, changed, note, notes, outbox_count, spawn, write_note};
use kernel::{params, sql};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::tamper;
use crate::place::Place;

type End = Result<(), WriteError<StoreError>>;

/// The planted fault: what a unit wrote stays although the unit failed.
async fn leak(place: &Place, store: &Store) {
    if place.seeded {
        write_note(store, 666).await.expect("the store works");
    }
}

/// Runs a faulty unit among 16 good ones, checks that only those are there afterwards, and that the store still works.
async fn among_bystanders(store: &Store, faulty: impl Future<Output = ()>) {
    let good = join_all((1..=16).map(|id| write_note(store, id)));
    let (ended, ()) = futures::join!(good, faulty);
    for end in ended {
        end.expect("the store works");
    }
    write_note(store, 17).await.expect("the store works");
    assert_eq!(notes(store).await, (1..=17).collect::<Vec<_>>(), "rows of the good units and of no other");
    assert_eq!(outbox_count(store).await, 0, "no event of a unit that failed");
}

/// A note and an event that must not survive.
async fn start_writing(tx: &Tx) -> Result<(), StoreError> {
    tx.insert(&note(667)).await?;
    tx.emit(changed(kernel::ids::fresh(), 1))
}

pub(super) async fn refusal(place: &Place, world: &World) -> String {
    let store = world.open().await;
    leak(place, &store).await;
    among_bystanders(&store, async {
        let end = store
            .write(|tx: Tx| async move {
                start_writing(&tx).await.expect("the store works");
                Err::<(), _>("no")
            })
            .await;
        assert!(matches!(end, Err(WriteError::Unit("no"))), "{end:?}");
    })
    .await;
    "16 bystanders kept all, 0 rows left".to_owned()
}

pub(super) async fn panics(place: &Place, world: &World) -> String {
    let store = world.open().await;
    leak(place, &store).await;
    among_bystanders(&store, async {
        let end: End = store
            .write(|tx: Tx| async move {
                start_writing(&tx).await?;
                panic!("oops")
            })
            .await;
        assert!(matches!(&end, Err(WriteError::Panicked(why)) if why == "oops"), "{end:?}");
        let end: End = store.write(|_: Tx| -> std::future::Ready<Result<(), StoreError>> { panic!("early") }).await;
        assert!(matches!(&end, Err(WriteError::Panicked(why)) if why == "early"), "{end:?}");
    })
    .await;
    "16 bystanders kept all, 0 rows left".to_owned()
}

pub(super) async fn deadline(place: &Place, world: &World) -> String {
    let mut options = world.options();
    options.deadline = Duration::from_millis(400);
    let store = world.open_with(options).await;
    leak(place, &store).await;
    let end: End = store
        .write(|tx: Tx| async move {
            start_writing(&tx).await?;
            std::future::pending().await
        })
        .await;
    assert!(matches!(end, Err(WriteError::Deadline)), "{end:?}");
    // The others get more time: a busy machine must not make them late.
    among_bystanders(&world.open().await, async {}).await;
    "ended after 400 ms, 0 rows left".to_owned()
}

pub(super) async fn cancelled(place: &Place, world: &World) -> String {
    let mut options = world.options();
    options.deadline = Duration::from_secs(3);
    let store = world.open_with(options).await;
    leak(place, &store).await;
    let end: End = store
        .write(|tx: Tx| async move {
            start_writing(&tx).await?;
            tx.all(Sql::<Scalar<i64>>::filed("SELECT 1 AS value FROM pg_sleep(60)"), params![]).await.map(drop)
        })
        .await;
    assert!(matches!(end, Err(WriteError::Deadline)), "{end:?}");
    // The server's own limit is twice the deadline, so by now it can only have been the cancel request.
    // The same case may be under way on another engine of the same server: its role is another.
    let ours = format!("{}_a", world.schema());
    let still =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND state = 'active' AND usename = $1";
    let running: i64 = world.admin().await.query_one(still, &[&ours]).await.expect("the store works").get(0);
    assert_eq!(running, 0, "it still runs on the server");
    among_bystanders(&store, async {}).await;
    "cancelled after 3 s of 60 s, 0 left running".to_owned()
}

pub(super) async fn sealed(place: &Place, world: &World) -> String {
    let store = world.open().await;
    write_note(&store, 18).await.expect("the store works");
    let later = Arc::new(Mutex::new(None));
    let seen = later.clone();
    let end: End = store
        .write(move |tx: Tx| {
            let seen = seen.clone();
            async move {
                start_writing(&tx).await?;
                drop(tx.insert(&note(18)).await);
                *seen.lock() = Some(tx.insert(&note(667)).await);
                Ok(())
            }
        })
        .await;
    assert!(matches!(end, Err(WriteError::Store(StoreError::Constraint(_)))), "{end:?}");
    assert!(matches!(later.lock().take(), Some(Err(StoreError::Sealed(_)))));
    leak(place, &store).await;
    assert_eq!(notes(&store).await, [18]);
    assert_eq!(outbox_count(&store).await, 0);
    "2 statements behind the failed one refused".to_owned()
}

pub(super) async fn abandoned(place: &Place, world: &World) -> String {
    let store = world.open().await;
    leak(place, &store).await;
    let end: End = store
        .write(|tx: Tx| async move {
            start_writing(&tx).await?;
            let slow = tx.all(Sql::<Scalar<i64>>::filed("SELECT 1 AS value FROM pg_sleep(0.2)"), params![]);
            drop(tokio::time::timeout(Duration::from_millis(20), slow).await);
            Ok(())
        })
        .await;
    assert!(matches!(end, Err(WriteError::Store(StoreError::Refused(_)))), "{end:?}");
    among_bystanders(&store, async {}).await;
    "left after 20 ms, nothing committed".to_owned()
}

pub(super) async fn caller_gone(place: &Place, world: &World) -> String {
    let store = world.open().await;
    let (started, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (unit_started, unit_goes_on) = (started.clone(), go_on.clone());
    let writer = store.clone();
    let caller = spawn(async move {
        let unit = move |tx: Tx| {
            let (started, go_on) = (unit_started.clone(), unit_goes_on.clone());
            async move {
                tx.insert(&note(1)).await?;
                started.notify_one();
                go_on.notified().await;
                tx.insert(&note(2)).await
            }
        };
        writer.write(unit).await
    });
    started.notified().await;
    caller.abort();
    assert!(caller.await.expect_err("it is refused").is_cancelled());
    go_on.notify_one();
    if place.seeded {
        tamper(&store, sql!("DELETE FROM note WHERE id = 2")).await;
    }
    store.close().await;
    assert_eq!(notes(&world.open().await).await, [1, 2]);
    "both rows of the unit are there".to_owned()
}

pub(super) async fn callers_leave(place: &Place, world: &World) -> String {
    let store = world.open().await;
    for round in 0..200_i64 {
        let writer = store.clone();
        let unit = move |tx: Tx| async move {
            tx.insert(&note(round * 2)).await?;
            tx.insert(&note(round * 2 + 1)).await
        };
        let caller = spawn(async move { writer.write(unit).await });
        // From before the unit is handed in until after it is done.
        std::thread::sleep(Duration::from_micros(u64::try_from(round % 40).expect("a small number") * 50));
        caller.abort();
    }
    if place.seeded {
        write_note(&store, 1001).await.expect("the store works");
    }
    store.close().await;
    let ids = notes(&world.open().await).await;
    assert!(ids.chunks(2).all(|pair| pair.len() == 2 && pair[0] % 2 == 0 && pair[1] == pair[0] + 1), "{ids:?}");
    format!("200 left, {} units whole, 0 by half", ids.len() / 2)
}

pub(super) async fn kept_handle(place: &Place, world: &World) -> String {
    let store = world.open().await;
    leak(place, &store).await;
    let kept: Arc<Mutex<Option<Tx>>> = Arc::default();
    let keep = kept.clone();
    let end: End = store
        .write(move |tx: Tx| {
            let keep = keep.clone();
            async move {
                start_writing(&tx).await?;
                *keep.lock() = Some(tx);
                Ok(())
            }
        })
        .await;
    assert!(matches!(end, Err(WriteError::Store(StoreError::Refused(_)))), "{end:?}");
    let leaked = kept.lock().take().expect("the store works");
    for _ in 0..3 {
        let late = leaked.insert(&note(667)).await;
        assert!(matches!(late, Err(StoreError::Ended)), "{late:?}");
    }
    among_bystanders(&store, async {}).await;
    "3 late statements refused".to_owned()
}

pub(super) async fn words(place: &Place, world: &World) -> String {
    let store = world.open().await;
    leak(place, &store).await;
    for text in [
        "COMMIT",
        "rollback",
        "BEGIN",
        "SAVEPOINT a",
        "SET search_path = public",
        " ; COMMIT",
        "PRAGMA foreign_keys = OFF",
    ] {
        let end: End = store
            .write(move |tx: Tx| async move {
                start_writing(&tx).await?;
                tx.run(Sql::filed(text), params![]).await.map(drop)
            })
            .await;
        assert!(matches!(end, Err(WriteError::Unit(StoreError::Refused(_)))), "{text}: {end:?}");
    }
    let end: End = store
        .write(|tx: Tx| async move {
            start_writing(&tx).await?;
            tx.run(Sql::filed("DELETE FROM note; COMMIT"), params![]).await.map(drop)
        })
        .await;
    assert!(end.is_err());
    among_bystanders(&store, async {}).await;
    "8 ways out of the transaction refused".to_owned()
}
