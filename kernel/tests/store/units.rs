//! Units that fail in every way there is: each leaves nothing behind and harms no bystander.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use futures::future::join_all;
use kernel::store::{Scalar, Sql, Store, StoreError, Tx, WriteError};
use kernel::{params, sql};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::world::{
    SERVERS, Tally, changed, note, notes, on_engines, on_every_engine, outbox_count, spawn, write_note,
};

type End = Result<(), WriteError<StoreError>>;

/// Runs `faulty` among 16 good units and checks that only those are there afterwards, and that the store still works.
async fn among_bystanders(store: &Store, faulty: impl Future<Output = ()>) {
    let good = join_all((1..=16).map(|id| write_note(store, id)));
    let (ended, ()) = futures::join!(good, faulty);
    for end in ended {
        end.unwrap();
    }
    write_note(store, 17).await.unwrap();
    assert_eq!(notes(store).await, (1..=17).collect::<Vec<_>>());
    assert_eq!(outbox_count(store).await, 0);
}

/// A note and an event that must not survive.
async fn start_writing(tx: &Tx) -> Result<(), StoreError> {
    tx.insert(&note(666)).await?;
    tx.emit(changed(kernel::ids::fresh(), 1))
}

#[test]
fn a_unit_that_refuses_leaves_nothing() {
    on_every_engine(async |world| {
        let store = world.open().await;
        among_bystanders(&store, async {
            let end = store
                .write(|tx: Tx| async move {
                    start_writing(&tx).await.unwrap();
                    Err::<(), _>("no")
                })
                .await;
            assert!(matches!(end, Err(WriteError::Unit("no"))), "{end:?}");
        })
        .await;
    });
}

#[test]
fn a_unit_that_panics_leaves_nothing() {
    on_every_engine(async |world| {
        let store = world.open().await;
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
    });
}

#[test]
fn a_unit_that_passes_its_deadline_leaves_nothing() {
    on_every_engine(async |world| {
        let mut options = world.options();
        options.deadline = Duration::from_millis(400);
        let store = world.open_with(options).await;
        let end: End = store
            .write(|tx: Tx| async move {
                start_writing(&tx).await?;
                std::future::pending().await
            })
            .await;
        assert!(matches!(end, Err(WriteError::Deadline)), "{end:?}");
        // The others get more time: a busy machine must not make them late.
        among_bystanders(&world.open().await, async {}).await;
    });
}

#[test]
fn a_statement_that_runs_past_the_deadline_is_cancelled_on_the_server() {
    on_engines(SERVERS, async |world| {
        let mut options = world.options();
        options.deadline = Duration::from_secs(3);
        let store = world.open_with(options).await;
        let end: End = store
            .write(|tx: Tx| async move {
                start_writing(&tx).await?;
                tx.all(Sql::<Scalar<i64>>::filed("SELECT 1 AS value FROM pg_sleep(60)"), params![]).await.map(drop)
            })
            .await;
        assert!(matches!(end, Err(WriteError::Deadline)), "{end:?}");
        // The server's own limit is twice the deadline, so by now it can only have been the cancel request.
        let still = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND state = 'active' AND pid <> pg_backend_pid()";
        let running: i64 = world.admin().await.query_one(still, &[]).await.unwrap().get(0);
        assert_eq!(running, 0);
        among_bystanders(&store, async {}).await;
    });
}

#[test]
fn a_failing_statement_seals_the_unit_even_if_its_error_is_swallowed() {
    on_every_engine(async |world| {
        let store = world.open().await;
        write_note(&store, 18).await.unwrap();
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
        assert_eq!(notes(&store).await, [18]);
        assert_eq!(outbox_count(&store).await, 0);
    });
}

#[test]
fn a_statement_abandoned_half_way_seals_the_unit() {
    on_engines(SERVERS, async |world| {
        let store = world.open().await;
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
    });
}

#[test]
fn a_unit_completes_although_its_caller_has_gone() {
    on_every_engine(async |world| {
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
        assert!(caller.await.unwrap_err().is_cancelled());
        go_on.notify_one();
        store.close().await;
        assert_eq!(notes(&world.open().await).await, [1, 2]);
    });
}

#[test]
fn callers_that_leave_at_any_moment_leave_whole_units_or_nothing() {
    on_every_engine(async |world| {
        let store = world.open().await;
        for round in 0..200_i64 {
            let writer = store.clone();
            let unit = move |tx: Tx| async move {
                tx.insert(&note(round * 2)).await?;
                tx.insert(&note(round * 2 + 1)).await
            };
            let caller = spawn(async move { writer.write(unit).await });
            for _ in 0..round % 7 {
                tokio::task::yield_now().await;
            }
            caller.abort();
        }
        store.close().await;
        let ids = notes(&world.open().await).await;
        assert!(ids.chunks(2).all(|pair| pair.len() == 2 && pair[0] % 2 == 0 && pair[1] == pair[0] + 1), "{ids:?}");
    });
}

#[test]
fn a_handle_kept_beyond_its_unit_does_nothing_and_fails_the_unit() {
    on_every_engine(async |world| {
        let store = world.open().await;
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
        let leaked = kept.lock().take().unwrap();
        for _ in 0..3 {
            let late = leaked.insert(&note(667)).await;
            assert!(matches!(late, Err(StoreError::Ended)), "{late:?}");
        }
        among_bystanders(&store, async {}).await;
    });
}

#[test]
fn a_unit_cannot_end_or_reconfigure_its_transaction() {
    on_every_engine(async |world| {
        let store = world.open().await;
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
    });
}

#[test]
fn units_that_deadlock_run_again_and_all_commit() {
    on_engines(SERVERS, async |world| {
        let store = world.open().await;
        for name in ["a", "b"] {
            let row = Tally { name: name.into(), n: 0 };
            store
                .write(move |tx: Tx| {
                    let row = row.clone();
                    async move { tx.insert(&row).await }
                })
                .await
                .unwrap();
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
        // The lock timeout is three quarters of the deadline: with two seconds, the server finds the deadlock first.
        let (one, other) = (unit("a", "b"), unit("b", "a"));
        let (one, other) = futures::join!(one, other);
        one.unwrap();
        other.unwrap();
        assert_eq!(runs.load(Ordering::SeqCst), 3);
        let sum = sql!(Scalar<i64>, "SELECT CAST(COALESCE(SUM(n), 0) AS BIGINT) AS value FROM tally");
        assert_eq!(store.read().one(sum, params![]).await.unwrap(), Scalar(4));
    });
}

#[test]
fn a_unit_whose_connection_is_cut_before_its_commit_runs_again() {
    on_engines(SERVERS, async |world| {
        let store = world.open().await;
        write_note(&store, 1).await.unwrap();
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
                            .execute("SELECT pg_terminate_backend($1, 5000)", &[&i32::try_from(own).unwrap()])
                            .await
                            .unwrap();
                    }
                    tx.insert(&note(3)).await
                }
            })
            .await
            .unwrap();
        assert_eq!(runs.load(Ordering::SeqCst), 2);
        assert_eq!(notes(&store).await, [1, 2, 3]);
    });
}

async fn sql_backend(tx: &Tx) -> Result<i64, StoreError> {
    tx.one(Sql::<Scalar<i64>>::filed("SELECT pg_backend_pid() AS value"), params![]).await.map(|Scalar(pid)| pid)
}

#[test]
fn a_row_that_stays_locked_is_told_as_a_lock_timeout() {
    on_engines(SERVERS, async |world| {
        let store = world.open().await;
        write_note(&store, 1).await.unwrap();
        let admin = world.admin().await;
        let hold = format!("BEGIN; UPDATE {}.note SET remark = 'held'", world.schema());
        admin.batch_execute(&hold).await.unwrap();
        let unit = |tx: Tx| async move { tx.run(sql!("DELETE FROM note"), params![]).await.map(drop) };
        let end: End = store.write(unit).await;
        assert!(matches!(end, Err(WriteError::Unit(StoreError::LockTimeout))), "{end:?}");
        admin.batch_execute("ROLLBACK").await.unwrap();
        store.write(unit).await.unwrap();
    });
}

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

#[test]
fn a_closed_store_refuses_units_and_waits_for_those_that_run() {
    on_every_engine(async |world| {
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
        running.await.unwrap().unwrap();
        let late = write_note(&store, 2).await;
        assert!(matches!(late, Err(WriteError::Store(StoreError::Ended)) | Err(WriteError::Closed)), "{late:?}");
    });
}
