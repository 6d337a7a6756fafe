//! Locks: Redis turns rivals away, the database decides, and a zombie's work does not count.

use std::time::Duration;

use kernel::clock::Clock;
use kernel::lock::{Held, Locks};
use kernel::params;
use kernel::sql;
use kernel::store::{Engine, Migration, Options, Scalar, Store, StoreError, WriteError};
use kernel::testing::redis::Server;

const STEPS: &[Migration] =
    &[Migration { name: "001_work", sql: "CREATE TABLE work (worker TEXT NOT NULL, epoch BIGINT NOT NULL);" }];
const LIFE: Duration = Duration::from_secs(10);

struct World {
    store: Store,
    clock: Clock,
    _folder: tempfile::TempDir,
}

async fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::manual(kernel::clock::Timestamp::from_micros(1_800_000_000_000_000));
    let engine = Engine::Sqlite { path: folder.path().join("locks.db") };
    let store = Store::open(Options::new(engine, clock.clone()), STEPS).await.unwrap();
    World { store, clock, _folder: folder }
}

/// One unit of protected work.
async fn work(store: &Store, held: &std::sync::Arc<Held>, worker: &'static str) -> Result<(), WriteError<StoreError>> {
    let held = held.clone();
    let unit = store.write(move |tx| {
        let held = held.clone();
        async move {
            held.guard(&tx).await?;
            tx.run(sql!("INSERT INTO work (worker, epoch) VALUES ($1, $2)"), params![worker, held.epoch()]).await?;
            Ok::<_, StoreError>(())
        }
    });
    unit.await
}

async fn done_by(store: &Store, worker: &str) -> i64 {
    let count = sql!(Scalar<i64>, "SELECT COUNT(*) AS value FROM work WHERE worker = $1");
    store.read().one(count, params![worker]).await.unwrap().0
}

#[tokio::test]
async fn one_holds_it_and_rivals_are_turned_away_by_redis() {
    let Some(server) = Server::start().await else { return };
    let world = world().await;
    let locks = Locks::new(world.store.clone(), Some(&server.member("orders").await));
    let first = locks.acquire("report", "one", LIFE).await.unwrap().expect("it is free");
    // As if the database had let it go: what turns the rival away now is Redis alone.
    world.clock.advance(LIFE * 2);
    assert!(locks.acquire("report", "two", LIFE).await.unwrap().is_none());
    assert!(locks.acquire("other", "two", LIFE).await.unwrap().is_some(), "another lock is another matter");
    first.release().await.unwrap();
    let second = locks.acquire("report", "two", LIFE).await.unwrap().expect("it was given back");
    assert_eq!(second.epoch(), 2);
}

#[tokio::test]
async fn a_wiped_or_absent_redis_lets_rivals_ask_the_database_which_says_no() {
    let Some(mut server) = Server::start().await else { return };
    let world = world().await;
    let redis = server.member("orders").await;
    let locks = Locks::new(world.store.clone(), Some(&redis));
    let first = locks.acquire("report", "one", LIFE).await.unwrap().expect("it is free");
    server.wipe().await;
    assert!(locks.acquire("report", "two", LIFE).await.unwrap().is_none(), "wiped");
    assert!(first.renew(LIFE).await.unwrap());
    server.kill();
    assert!(locks.acquire("report", "two", LIFE).await.unwrap().is_none(), "away");
    assert!(first.renew(LIFE).await.unwrap(), "the holder goes on without it");
    assert!(
        Locks::new(world.store.clone(), None).acquire("report", "two", LIFE).await.unwrap().is_none(),
        "none at all"
    );
}

#[tokio::test]
async fn a_holder_that_wakes_up_too_late_is_fenced_whatever_redis_says() {
    let Some(server) = Server::start().await else { return };
    let world = world().await;
    let locks = Locks::new(world.store.clone(), Some(&server.member("orders").await));
    let zombie = std::sync::Arc::new(locks.acquire("report", "one", LIFE).await.unwrap().expect("it is free"));
    work(&world.store, &zombie, "one").await.unwrap();
    // It is paused for longer than it may hold the lock; somebody else takes over.
    world.clock.advance(LIFE * 2);
    server.wipe().await;
    let second = std::sync::Arc::new(locks.acquire("report", "two", LIFE).await.unwrap().expect("its time was over"));
    assert!(second.epoch() > zombie.epoch());
    // Redis comes back as it was: it says that the zombie is the holder.
    server.tell(&["SET", "orders:lock:report", "one"]).await;
    let refused = work(&world.store, &zombie, "one").await;
    assert!(matches!(refused, Err(WriteError::Unit(StoreError::Refused(_)))), "{refused:?}");
    assert!(!zombie.renew(LIFE).await.unwrap());
    work(&world.store, &second, "two").await.unwrap();
    assert_eq!((done_by(&world.store, "one").await, done_by(&world.store, "two").await), (1, 1));
    // And it opens no door that its successor closed.
    server.tell(&["SET", "orders:lock:report", "two"]).await;
    std::sync::Arc::into_inner(zombie).unwrap().release().await.unwrap();
    assert!(server.tell(&["GET", "orders:lock:report"]).await.contains("two"));
}
