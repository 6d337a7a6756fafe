//! What only a server can do to a unit: deadlocks, conflicts, locks that stay, connections that are cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures::future::join_all;
use kernel::store::{Admin, Login, Options, Scalar, Sql, StoreError, Tx, WriteError};
use kernel::testing::world::{STEPS, Tally, World, changed, note, notes, outbox_count, spawn, write_note};
use kernel::{params, sql};

use super::tamper;
use crate::place::Place;

type End = Result<(), WriteError<StoreError>>;

/// How many clients meet in a conflict, and how many units each wants.
const CLIENTS: usize = 8;
const EACH: usize = 6;

pub(super) async fn deadlock(place: &Place, world: &World) -> String {
    // The lock timeout is three quarters of the deadline, and the server looks for deadlocks after a second: it has to be
    // first even where other cases keep it busy.
    let store = world.open_with(Options { deadline: Duration::from_secs(12), ..world.options() }).await;
    for name in ["a", "b"] {
        let row = Tally { name: name.into(), n: 0 };
        store
            .write(move |tx: Tx| {
                let row = row.clone();
                async move { tx.insert(&row).await }
            })
            .await
            .expect("the store works");
    }
    let runs = Arc::new(AtomicU32::new(0));
    let meet = Arc::new(tokio::sync::Barrier::new(2));
    let unit = |first: &'static str, second: &'static str| {
        let (runs, meet, met) = (runs.clone(), meet.clone(), Arc::new(AtomicBool::new(false)));
        store.write(move |tx: Tx| {
            let (runs, meet, met) = (runs.clone(), meet.clone(), met.clone());
            async move {
                runs.fetch_add(1, Ordering::SeqCst);
                let more = sql!("UPDATE tally SET n = n + 1 WHERE name = $1");
                tx.run(more, params![first]).await?;
                if !met.swap(true, Ordering::SeqCst) {
                    meet.wait().await;
                }
                tx.run(more, params![second]).await.map(drop)
            }
        })
    };
    let (one, other) = (unit("a", "b"), unit("b", "a"));
    let (one, other) = futures::join!(one, other);
    one.expect("the store works");
    other.expect("the store works");
    assert_eq!(runs.load(Ordering::SeqCst), 3);
    if place.seeded {
        tamper(&store, sql!("UPDATE tally SET n = n - 1 WHERE name = 'a'")).await;
    }
    let sum = sql!(Scalar<i64>, "SELECT CAST(COALESCE(SUM(n), 0) AS BIGINT) AS value FROM tally");
    assert_eq!(store.read().one(sum, params![]).await.expect("the store works"), Scalar(4));
    "2 units met, 3 runs, both committed".to_owned()
}

pub(super) async fn cut_before_commit(place: &Place, world: &World) -> String {
    let store = world.open().await;
    write_note(&store, 1).await.expect("the store works");
    let admin = Arc::new(world.admin().await);
    let runs = Arc::new(AtomicU32::new(0));
    let counted = runs.clone();
    store
        .write(move |tx: Tx| {
            let (admin, runs) = (admin.clone(), counted.clone());
            async move {
                tx.insert(&note(2)).await?;
                if runs.fetch_add(1, Ordering::SeqCst) == 0 {
                    let own = sql_backend(&tx).await?;
                    admin
                        .execute(
                            "SELECT pg_terminate_backend($1, 5000)",
                            &[&i32::try_from(own).expect("the store works")],
                        )
                        .await
                        .expect("the store works");
                }
                tx.insert(&note(3)).await
            }
        })
        .await
        .expect("the store works");
    if place.seeded {
        tamper(&store, sql!("DELETE FROM note WHERE id = 2")).await;
    }
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    assert_eq!(notes(&store).await, [1, 2, 3]);
    "1 connection cut, 2 runs, every row once".to_owned()
}

pub(super) async fn lock_timeout(place: &Place, world: &World) -> String {
    let store = world.open().await;
    write_note(&store, 1).await.expect("the store works");
    let admin = world.admin().await;
    let hold = format!("BEGIN; UPDATE {}.note SET remark = 'held'", world.schema());
    if !place.seeded {
        admin.batch_execute(&hold).await.expect("the store works");
    }
    let unit = |tx: Tx| async move { tx.run(sql!("DELETE FROM note"), params![]).await.map(drop) };
    let end: End = store.write(unit).await;
    assert!(matches!(end, Err(WriteError::Unit(StoreError::LockTimeout))), "{end:?}");
    admin.batch_execute("ROLLBACK").await.expect("the store works");
    store.write(unit).await.expect("the store works");
    "refused while it was locked, done when it was free".to_owned()
}

pub(super) async fn lost_commit(place: &Place, world: &World) -> String {
    let (proxy, engine) = world.behind_proxy().await;
    let mut options = world.options();
    options.engine = engine;
    let store = world.open_with(options).await;
    write_note(&store, 1).await.expect("the store works");
    proxy.cut_after_commit();
    let runs = Arc::new(AtomicU32::new(0));
    let counted = runs.clone();
    let unit = move |tx: Tx| {
        let run = i64::from(counted.fetch_add(1, Ordering::SeqCst));
        async move {
            tx.insert(&note(2 + 10 * run)).await?;
            tx.emit(changed(kernel::ids::fresh(), 1))
        }
    };
    let end = store.write(unit.clone()).await;
    if place.seeded {
        store.write(unit).await.expect("the store works");
    }
    assert!(matches!(end, Err(WriteError::Unknown)), "{end:?}");
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    // The commit had reached the server, and the store goes on with another connection.
    write_note(&store, 3).await.expect("the store works");
    assert_eq!((notes(&store).await, outbox_count(&store).await), (vec![1, 2, 3], 1));
    "told as unknown, 1 run, 1 effect".to_owned()
}

pub(super) async fn conflict(place: &Place, world: &World) -> String {
    // Not by opening a store: a pooler would keep sessions that began before the role was strict.
    let admin = Admin::connect(world.server().admin_url.as_deref().expect("the store works"), None)
        .await
        .expect("the store works");
    let login = Login::read(&format!("{}_a scratch", world.schema())).expect("the store works");
    admin.provision(world.schema(), STEPS, Some(&login)).await.expect("the store works");
    let strict = format!("ALTER ROLE {}_a SET default_transaction_isolation = 'serializable'", world.schema());
    if !place.seeded {
        world.admin().await.batch_execute(&strict).await.expect("the store works");
    }
    let store = world.open().await;
    let (runs, most, given_up) =
        (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let client = |number: usize| {
        let (store, runs, most, given_up) = (store.clone(), runs.clone(), most.clone(), given_up.clone());
        async move {
            for round in 0..EACH {
                loop {
                    let (mine, all) = (Arc::new(AtomicU32::new(0)), runs.clone());
                    let counted = mine.clone();
                    let unit = move |tx: Tx| {
                        counted.fetch_add(1, Ordering::SeqCst);
                        all.fetch_add(1, Ordering::SeqCst);
                        async move { count_and_add(&tx, number, round).await }
                    };
                    let end = store.write(unit).await;
                    let tried = mine.load(Ordering::SeqCst);
                    most.fetch_max(tried, Ordering::SeqCst);
                    match end {
                        Ok(()) => break,
                        Err(WriteError::Store(StoreError::Conflict(_)) | WriteError::Unit(StoreError::Conflict(_))) => {
                            given_up.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(other) => panic!("{other:?}"),
                    }
                }
            }
        }
    };
    join_all((0..CLIENTS).map(|number| spawn(client(number))))
        .await
        .into_iter()
        .for_each(|end| end.expect("the store works"));
    let rows = sql!(Scalar<i64>, "SELECT n AS value FROM tally ORDER BY n");
    let seen: Vec<i64> =
        store.read().all(rows, params![]).await.expect("the store works").into_iter().map(|Scalar(n)| n).collect();
    // Each unit wrote how many there were before it: one after the other gives each number once.
    assert_eq!(seen, (0..i64::try_from(CLIENTS * EACH).expect("the store works")).collect::<Vec<_>>());
    let (runs, most) = (runs.load(Ordering::SeqCst) as usize, most.load(Ordering::SeqCst));
    assert!(runs > CLIENTS * EACH, "there was no conflict to run again for");
    assert!(most <= 5, "a unit ran {most} times");
    format!(
        "{} units, {} conflicts repeated, {} given up and asked again",
        CLIENTS * EACH,
        runs - CLIENTS * EACH,
        given_up.load(Ordering::SeqCst)
    )
}

async fn sql_backend(tx: &Tx) -> Result<i64, StoreError> {
    tx.one(Sql::<Scalar<i64>>::filed("SELECT pg_backend_pid() AS value"), params![]).await.map(|Scalar(pid)| pid)
}

/// Reads what every other unit writes: under SERIALIZABLE two of them at once cannot both commit.
async fn count_and_add(tx: &Tx, client: usize, round: usize) -> Result<(), StoreError> {
    let Scalar(n) = tx.one(sql!(Scalar<i64>, "SELECT COUNT(*) AS value FROM tally"), params![]).await?;
    tx.insert(&Tally { name: format!("{client} {round}"), n }).await
}
