//! Locks: Redis turns rivals away, the database decides, and a zombie's work does not count.

use std::sync::Arc;
use std::time::Duration;

use kernel::clock::Clock;
use kernel::lock::{Held, Locks};
use kernel::params;
use kernel::sql;
use kernel::store::{Engine, Migration, Options, Scalar, Store, StoreError, WriteError};

use super::server;
use crate::place::Place;
use crate::store::tamper;

const STEPS: &[Migration] =
    &[Migration { name: "001_work", sql: "CREATE TABLE work (worker TEXT NOT NULL, epoch BIGINT NOT NULL);" }];
const LIFE: Duration = Duration::from_secs(10);

struct World {
    store: Store,
    clock: Clock,
    _folder: tempfile::TempDir,
}

async fn world() -> World {
    let folder = tempfile::tempdir().expect("the database works");
    let clock = Clock::manual(kernel::clock::Timestamp::from_micros(1_800_000_000_000_000));
    let engine = Engine::Sqlite { path: folder.path().join("locks.db") };
    let store = Store::open(Options::new(engine, clock.clone()), STEPS).await.expect("the database works");
    World { store, clock, _folder: folder }
}

/// One unit of protected work.
async fn work(store: &Store, held: &Arc<Held>, worker: &'static str) -> Result<(), WriteError<StoreError>> {
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
    store.read().one(count, params![worker]).await.expect("the database works").0
}

pub(super) async fn rivals(place: Place) -> String {
    let server = server().await;
    let world = world().await;
    let locks = Locks::new(world.store.clone(), Some(&server.member("orders").await));
    let first = locks.acquire("report", "one", LIFE).await.expect("the database works").expect("it is free");
    // As if the database had let it go: what turns the rival away now is Redis alone.
    world.clock.advance(LIFE * 2);
    if place.seeded {
        server.wipe().await;
    }
    assert!(locks.acquire("report", "two", LIFE).await.expect("the database works").is_none(), "a rival got it");
    assert!(
        locks.acquire("other", "two", LIFE).await.expect("the database works").is_some(),
        "another lock is another matter"
    );
    first.release().await.expect("the database works");
    let second = locks.acquire("report", "two", LIFE).await.expect("the database works").expect("it was given back");
    assert_eq!(second.epoch(), 2);
    "1 rival turned away, epoch 2 after it was given back".to_owned()
}

pub(super) async fn without(place: Place) -> String {
    let mut server = server().await;
    let world = world().await;
    let redis = server.member("orders").await;
    let locks = Locks::new(world.store.clone(), Some(&redis));
    let first = locks.acquire("report", "one", LIFE).await.expect("the database works").expect("it is free");
    server.wipe().await;
    if place.seeded {
        world.clock.advance(LIFE * 2);
    }
    assert!(locks.acquire("report", "two", LIFE).await.expect("the database works").is_none(), "wiped");
    assert!(first.renew(LIFE).await.expect("the database works"));
    server.kill();
    assert!(locks.acquire("report", "two", LIFE).await.expect("the database works").is_none(), "away");
    assert!(first.renew(LIFE).await.expect("the database works"), "the holder goes on without it");
    assert!(
        Locks::new(world.store.clone(), None)
            .acquire("report", "two", LIFE)
            .await
            .expect("the database works")
            .is_none(),
        "none at all"
    );
    "3 rivals turned away by the database".to_owned()
}

pub(super) async fn zombie(place: Place) -> String {
    let server = server().await;
    let world = world().await;
    let locks = Locks::new(world.store.clone(), Some(&server.member("orders").await));
    let zombie = Arc::new(locks.acquire("report", "one", LIFE).await.expect("the database works").expect("it is free"));
    work(&world.store, &zombie, "one").await.expect("the database works");
    // It is paused for longer than it may hold the lock; somebody else takes over.
    world.clock.advance(LIFE * 2);
    server.wipe().await;
    let second =
        Arc::new(locks.acquire("report", "two", LIFE).await.expect("the database works").expect("its time was over"));
    assert!(second.epoch() > zombie.epoch());
    // Redis comes back as it was: it says that the zombie is the holder.
    server.tell(&["SET", "orders:lock:report", "one"]).await;
    if place.seeded {
        tamper(&world.store, sql!("UPDATE lease SET owner = 'one', epoch = 1")).await;
    }
    let refused = work(&world.store, &zombie, "one").await;
    assert!(matches!(refused, Err(WriteError::Unit(StoreError::Refused(_)))), "{refused:?}");
    assert!(!zombie.renew(LIFE).await.expect("the database works"));
    work(&world.store, &second, "two").await.expect("the database works");
    assert_eq!((done_by(&world.store, "one").await, done_by(&world.store, "two").await), (1, 1));
    // And it opens no door that its successor closed.
    server.tell(&["SET", "orders:lock:report", "two"]).await;
    Arc::into_inner(zombie).expect("the database works").release().await.expect("the database works");
    assert!(server.tell(&["GET", "orders:lock:report"]).await.contains("two"));
    "epoch 1 refused, epoch 2 at work".to_owned()
}
