//! Real conflicts of SERIALIZABLE: whole units run again, within a bound, and what commits is as if one came after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::future::join_all;
use kernel::store::{Admin, Login, Scalar, StoreError, Tx, WriteError};
use kernel::{params, sql};

use crate::world::{SERVERS, STEPS, Tally, on_engines, spawn};

const CLIENTS: usize = 8;
const EACH: usize = 6;

#[test]
fn serialisation_failures_run_again_and_leave_a_serial_history() {
    on_engines(SERVERS, async |world| {
        // Not by opening a store: a pooler would keep sessions that began before the role was strict.
        let admin = Admin::connect(world.server().admin_url.as_deref().unwrap(), None).await.unwrap();
        let login = Login::read(&format!("{}_a scratch", world.schema())).unwrap();
        admin.provision(world.schema(), STEPS, Some(&login)).await.unwrap();
        let strict = format!("ALTER ROLE {}_a SET default_transaction_isolation = 'serializable'", world.schema());
        world.admin().await.batch_execute(&strict).await.unwrap();
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
                            Err(
                                WriteError::Store(StoreError::Conflict(_)) | WriteError::Unit(StoreError::Conflict(_)),
                            ) => {
                                given_up.fetch_add(1, Ordering::SeqCst);
                            }
                            Err(other) => panic!("{other:?}"),
                        }
                    }
                }
            }
        };
        join_all((0..CLIENTS).map(|number| spawn(client(number)))).await.into_iter().for_each(Result::unwrap);
        let rows = sql!(Scalar<i64>, "SELECT n AS value FROM tally ORDER BY n");
        let seen: Vec<i64> = store.read().all(rows, params![]).await.unwrap().into_iter().map(|Scalar(n)| n).collect();
        // Each unit wrote how many there were before it: one after the other gives each number once.
        assert_eq!(seen, (0..i64::try_from(CLIENTS * EACH).unwrap()).collect::<Vec<_>>());
        let (runs, most) = (runs.load(Ordering::SeqCst) as usize, most.load(Ordering::SeqCst));
        println!(
            "{runs} runs for {} units, {most} at the most, {} given up",
            CLIENTS * EACH,
            given_up.load(Ordering::SeqCst)
        );
        assert!(runs > CLIENTS * EACH, "there was no conflict to run again for");
        assert!(most <= 5, "a unit ran {most} times");
    });
}

/// Reads what every other unit writes: under SERIALIZABLE two of them at once cannot both commit.
async fn count_and_add(tx: &Tx, client: usize, round: usize) -> Result<(), StoreError> {
    let Scalar(n) = tx.one(sql!(Scalar<i64>, "SELECT COUNT(*) AS value FROM tally"), params![]).await?;
    tx.insert(&Tally { name: format!("{client} {round}"), n }).await
}
