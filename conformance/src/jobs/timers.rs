//! What happens by time: timers that fire once, and times of the day that were missed.

use std::time::Duration;

use kernel::clock::Timestamp;
use kernel::events::Fault;
use kernel::jobs::{DueTimer, Timer, Trigger, Tz};
use kernel::store::{Scalar, Store};
use kernel::{params, sql};
use tokio::sync::mpsc::unbounded_channel;
use uuid::Uuid;

use super::{Ground, HOUR, Instance, ORG, firing, set, telling, timers_left};
use crate::place::Place;
use crate::store::tamper;

pub(super) async fn timers(place: Place) -> String {
    let ground = Ground::new(&place);
    let clock = ground.clock.clone();
    let start = clock.now();
    let (told, mut fired) = unbounded_channel();
    let timers = || vec![firing("accept", &told), firing("pay", &told)];
    let store = ground.open().await;
    let instance = Instance::start(&store, "a", vec![], timers());
    set(&store, 3, "accept", start.plus(3 * HOUR)).await;
    set(&store, 1, "accept", start.plus(HOUR)).await;
    set(&store, 2, "pay", start.plus(2 * HOUR)).await;
    set(&store, 2, "accept", start.plus(2 * HOUR)).await;
    set(&store, 9, "pay", start.plus(HOUR)).await;
    store
        .write(|tx| async move { tx.clear_timer(ORG, Uuid::from_u128(9), "pay").await })
        .await
        .expect("the database works");
    clock.advance(HOUR);
    assert_eq!(ground.next(&mut fired).await.0, Uuid::from_u128(1));
    instance.stop().await;
    store.close().await;

    clock.advance(2 * HOUR);
    if place.seeded {
        set(&ground.open().await, 1, "accept", start.plus(HOUR)).await;
    }
    let store = ground.open().await;
    let instance = Instance::start(&store, "a", vec![], timers());
    let mut rest = [ground.next(&mut fired).await.0, ground.next(&mut fired).await.0, ground.next(&mut fired).await.0];
    // What is overdue fires side by side.
    rest.sort_unstable();
    assert_eq!(rest, [2, 2, 3].map(Uuid::from_u128));
    instance.stop().await;
    assert!(fired.is_empty());
    assert_eq!(timers_left(&store).await, 0);
    "4 timers fired once, 1 cleared never, 1 restart".to_owned()
}

pub(super) async fn timer_again(place: Place) -> String {
    let ground = Ground::new(&place);
    let clock = ground.clock.clone();
    let store = ground.open().await;
    let (told, mut tries) = unbounded_channel();
    let timer = Timer::new("accept", move |_, due: DueTimer| {
        let told = told.clone();
        async move {
            told.send(due.due_at).map_err(|e| Fault::Park(e.to_string()))?;
            match due.due_at.seconds() % 60 {
                0 => Err(Fault::Retry("busy".to_owned())),
                1 => panic!("worse"),
                _ => Ok(()),
            }
        }
    });
    let instance = Instance::start(&store, "a", vec![], vec![timer]);
    let due = clock.now();
    set(&store, 1, "accept", due).await;
    assert_eq!(ground.next(&mut tries).await, due);
    if place.seeded {
        place.until("the failure is noted", async || timer_due(&store).await != due).await;
        store
            .write(|tx| async move { tx.clear_timer(ORG, Uuid::from_u128(1), "accept").await })
            .await
            .expect("the database works");
        clock.advance(Duration::from_secs(1));
        ground.next(&mut tries).await;
    }
    // The pause counts from the unit that notes the failure, on a clock that stands still until we move it.
    while timer_due(&store).await == due {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    clock.advance(Duration::from_secs(1));
    assert_eq!(ground.next(&mut tries).await, due.plus(Duration::from_secs(1)));
    while timer_due(&store).await == due.plus(Duration::from_secs(1)) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    clock.advance(Duration::from_secs(2));
    assert_eq!(ground.next(&mut tries).await, due.plus(Duration::from_secs(3)));
    instance.stop().await;
    assert_eq!(timers_left(&store).await, 0);
    "failed, panicked, handled at the third try".to_owned()
}

pub(super) async fn cron(place: Place) -> String {
    let ground = Ground::new(&place);
    let clock = ground.clock.clone();
    let store = ground.open().await;
    let (told, mut runs) = unbounded_channel();
    let nightly = Trigger::Cron { expr: "0 3 * * *", zone: Tz::UTC };
    let begun = clock.now();
    let instance = Instance::start(&store, "a", vec![telling("settle", nightly, &told)], vec![]);
    ground.remembered(&store, "settle", |row| row.last_run_at == begun).await;
    instance.stop().await;
    assert!(runs.is_empty(), "a job that is new has missed nothing");
    clock.advance(80 * HOUR);
    if place.seeded {
        tamper(&store, sql!("DELETE FROM job_run")).await;
    }
    let instance = Instance::start(&store, "a", vec![telling("settle", nightly, &told)], vec![]);
    ground.next(&mut runs).await;
    let late = clock.now();
    ground.remembered(&store, "settle", |row| row.last_run_at == late).await;
    assert!(runs.is_empty(), "three nights were missed, one run makes up for them");
    clock.advance(24 * HOUR);
    ground.next(&mut runs).await;
    instance.stop().await;
    "3 nights missed, 1 run made up for them".to_owned()
}

async fn timer_due(store: &Store) -> Timestamp {
    let sql = sql!(Scalar<Timestamp>, "SELECT due_at AS value FROM saga_timer");
    store.read().one(sql, params![]).await.expect("the database works").0
}
