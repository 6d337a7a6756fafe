//! The relay: every committed event gets a position, in an aggregate's own order, whoever dies or sleeps meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::join_all;
use kernel::store::{Scalar, Store, StoreError, Tx};
use kernel::testing::store::{PausedRelay, run_relay};
use kernel::{params, row, sql};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::world::{SERVERS, World, changed, on_engines, spawn};

const WRITERS: u128 = 16;
const THINGS: u128 = 20;
const UNITS: u128 = 60;

row! {
    struct Published {
        position: Option<i64>,
        aggregate_id: Uuid,
        aggregate_version: i64,
    }
}

/// Changes a thing: the version is bumped under its row lock before the outbox row is written.
async fn change(store: &Store, thing: Uuid) {
    let unit = move |tx: Tx| async move {
        let bump = sql!(Scalar<i64>, "UPDATE thing SET version = version + 1 WHERE id = $1 RETURNING version AS value");
        let Scalar(version) = tx.one(bump, params![thing]).await?;
        tx.emit(changed(thing, version))
    };
    store.write(unit).await.unwrap();
}

async fn add_things(store: &Store) {
    let unit = |tx: Tx| async move {
        for thing in 1..=THINGS {
            tx.run(sql!("INSERT INTO thing (id, version) VALUES ($1, 0)"), params![Uuid::from_u128(thing)]).await?;
        }
        Ok::<_, StoreError>(())
    };
    store.write(unit).await.unwrap();
}

async fn published(store: &Store) -> Vec<Published> {
    let all =
        sql!(Published, "SELECT position, aggregate_id, aggregate_version FROM outbox ORDER BY position NULLS LAST");
    store.read().all(all, params![]).await.unwrap()
}

/// Positions are 1, 2, 3 … and each aggregate's versions are too.
fn check_order(rows: &[Published], events: usize) {
    assert_eq!(rows.len(), events);
    let mut versions = BTreeMap::<Uuid, i64>::new();
    for (place, row) in (1..).zip(rows) {
        assert_eq!(row.position, Some(place), "positions have a gap");
        let version = versions.entry(row.aggregate_id).or_default();
        *version += 1;
        assert_eq!(row.aggregate_version, *version, "out of order inside {}", row.aggregate_id);
    }
}

async fn head_reaches(store: &Store, position: i64) {
    let mut head = store.head();
    let reached = tokio::time::timeout(Duration::from_secs(60), head.wait_for(|head| *head >= position)).await;
    assert_eq!(*reached.expect("the relay has stopped").unwrap(), position);
}

#[test]
fn events_keep_their_order_while_sixteen_write_and_relays_die() {
    on_engines(SERVERS, async |world| {
        let store = world.open().await;
        add_things(&store).await;
        let stores = [world.open().await, world.open().await, world.open().await];
        let stop = CancellationToken::new();
        let relay = |number: usize| {
            let (store, stop) = (stores[number].clone(), stop.clone());
            spawn(async move { run_relay(store, &format!("relay {number}"), stop).await })
        };
        let writer = |number: u128| {
            let store = &store;
            async move {
                for unit in 0..UNITS {
                    change(store, Uuid::from_u128((number * 7 + unit * 3) % THINGS + 1)).await;
                }
            }
        };
        let relays = async {
            let leader = relay(0);
            head_moves(&stores[0]).await;
            let others = [relay(1), relay(2)];
            // The leader is lost without a word; its lease has to run out.
            leader.abort();
            others
        };
        let (_, others) = futures::join!(join_all((0..WRITERS).map(writer)), relays);
        let events = usize::try_from(WRITERS * UNITS).unwrap();
        // One of these leads now, the other follows.
        head_reaches(&stores[1], i64::try_from(events).unwrap()).await;
        head_reaches(&stores[2], i64::try_from(events).unwrap()).await;
        check_order(&published(&store).await, events);
        stop.cancel();
        join_all(others).await.into_iter().for_each(Result::unwrap);
    });
}

async fn head_moves(store: &Store) {
    let moved = tokio::time::timeout(Duration::from_secs(60), store.head().wait_for(|head| *head > 0).map(drop)).await;
    moved.expect("no relay leads");
}

async fn expire_lease(world: &World) {
    let expire = format!("UPDATE {}.lease SET expires_at = clock_timestamp() - interval '1 second'", world.schema());
    assert_eq!(world.admin().await.execute(&expire, &[]).await.unwrap(), 1);
}

#[test]
fn a_commit_wakes_the_relay() {
    on_engines(SERVERS, async |world| {
        let store = world.open().await;
        add_things(&store).await;
        let stop = CancellationToken::new();
        let (relayed, stopping) = (store.clone(), stop.clone());
        let relay = spawn(async move { run_relay(relayed, "the only one", stopping).await });
        let mut waited = Duration::ZERO;
        for position in 1..=5 {
            // By now the relay has found nothing more and would look again in a second.
            tokio::time::sleep(Duration::from_millis(200)).await;
            change(&store, Uuid::from_u128(1)).await;
            let committed = std::time::Instant::now();
            head_reaches(&store, position).await;
            waited += committed.elapsed();
        }
        assert!(waited < Duration::from_millis(2500), "{waited:?} for five events");
        stop.cancel();
        relay.await.unwrap();
    });
}

#[test]
fn a_relay_that_slept_through_its_lease_publishes_nothing() {
    on_engines(SERVERS, async |world| {
        let store = world.open().await;
        add_things(&store).await;
        let sleeper = PausedRelay::take(&store, "sleeper").await.expect("nobody leads yet");
        assert!(PausedRelay::take(&store, "other").await.is_none(), "two relays lead");
        change(&store, Uuid::from_u128(1)).await;
        assert_eq!(sleeper.publish(&store).await, Some(1));
        change(&store, Uuid::from_u128(1)).await;
        expire_lease(world).await;
        let other = PausedRelay::take(&store, "other").await.expect("the lease has run out");
        assert_eq!(sleeper.publish(&store).await, None);
        assert_eq!(published(&store).await.iter().filter(|row| row.position.is_some()).count(), 1);
        assert_eq!(other.publish(&store).await, Some(1));
        assert_eq!(other.publish(&store).await, Some(0));
        check_order(&published(&store).await, 2);
    });
}

#[test]
fn a_successor_waits_for_the_step_that_is_under_way() {
    on_engines(SERVERS, async |world| {
        let store = world.open().await;
        add_things(&store).await;
        let sleeper = PausedRelay::take(&store, "sleeper").await.expect("nobody leads yet");
        change(&store, Uuid::from_u128(1)).await;
        expire_lease(world).await;
        // The step stops in its middle: it still leads when it starts, and then the row it publishes is locked.
        let admin = world.admin().await;
        admin.batch_execute(&format!("BEGIN; SELECT 1 FROM {}.outbox FOR UPDATE", world.schema())).await.unwrap();
        let step = sleeper.publish(&store);
        let mut takeover = Box::pin(async {
            outbox_is_waited_for(world).await;
            PausedRelay::take(&store, "other").await
        });
        let during = async {
            let early = tokio::time::timeout(Duration::from_millis(300), &mut takeover).await;
            assert!(early.is_err(), "the lead was taken from a step that was under way");
            admin.batch_execute("ROLLBACK").await.unwrap();
            takeover.await
        };
        let (published_by_sleeper, other) = futures::join!(step, during);
        assert_eq!(published_by_sleeper, Some(1));
        assert_eq!(other.expect("the lease has run out").publish(&store).await, Some(0));
        check_order(&published(&store).await, 1);
    });
}

/// Returns once a session waits for a lock on a row of the outbox.
async fn outbox_is_waited_for(world: &World) {
    let admin = world.admin().await;
    let waiting = "SELECT count(*) FROM pg_locks w JOIN pg_locks t ON t.pid = w.pid JOIN pg_class c ON c.oid = t.relation JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT w.granted AND c.relname = 'outbox' AND n.nspname = $1";
    while admin.query_one(waiting, &[&world.schema()]).await.unwrap().get::<_, i64>(0) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn two_relays_that_both_believe_they_lead_publish_each_event_once() {
    on_engines(SERVERS, async |world| {
        let store = world.open().await;
        add_things(&store).await;
        let mut events = 0;
        let mut zombies = Vec::new();
        for round in 0..10_u128 {
            let leader = PausedRelay::take(&store, &format!("relay {round}")).await.expect("the lease has run out");
            zombies.push(leader);
            for thing in 1..=THINGS {
                change(&store, Uuid::from_u128(thing)).await;
                events += 1;
            }
            // All of them at once, the former ones included.
            let counts = join_all(zombies.iter().map(|relay| relay.publish(&store))).await;
            let given: Vec<i64> = counts.into_iter().flatten().collect();
            assert_eq!(given, [i64::try_from(THINGS).unwrap()]);
            expire_lease(world).await;
        }
        check_order(&published(&store).await, events);
    });
}
