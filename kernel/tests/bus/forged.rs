//! A publisher that errs: duplicates, holes, unknown types and fields, and more than a slow consumer can take.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use kernel::events::{Envelope, Reaction, Received};
use kernel::ids;
use kernel::testing::bus;
use kernel::testing::station::{Forger, Scripted};
use uuid::Uuid;

use crate::{City, Thing, alpha, copying, count_effects, note_effect, position, until};

fn event(kind: &str, position: i64, thing: Uuid, version: i64, note: &str) -> Envelope {
    let state = Thing { org: Uuid::from_u128(7), id: thing, version, note: note.to_owned() };
    let mut data = serde_json::to_value(state).unwrap();
    data["a_field_of_tomorrow"] = serde_json::json!({"deep": [1, 2]});
    Envelope {
        specversion: "1.0".into(),
        id: ids::fresh(),
        source: "alpha".into(),
        kind: kind.into(),
        subject: thing,
        time: "2026-01-01T12:00:00Z".parse().unwrap(),
        dataschema: format!("{kind}.v1"),
        orgid: Uuid::from_u128(7),
        version,
        traceparent: String::new(),
        position,
        data: serde_json::value::to_raw_value(&data).unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicates_take_one_effect_and_what_is_unknown_is_ignored() {
    for city in City::on_each_engine() {
        let thing = ids::fresh();
        let first = event("thing.changed", 1, thing, 1, "");
        let second = event("thing.changed", 3, thing, 2, "");
        let unknown = event("thing.of.tomorrow", 2, thing, 1, "");
        let again = Envelope { position: 4, ..first.clone() };
        let batches = vec![
            Scripted { range: (0, 2), events: vec![first.clone(), first.clone(), unknown] },
            Scripted { range: (2, 5), events: vec![second, again] },
        ];
        let forger = Forger::start(ids::fresh(), vec![batches]).await.unwrap();
        city.directory.set("alpha", vec![forger.address]);
        let mut beta = city.start("beta", "beta").await;
        beta.hear(&city.directory, vec![copying()], 3);
        until("all is read", async || position(&beta.store, "alpha").await == 5).await;
        assert_eq!(count_effects(&beta.store).await, 2);
        assert_eq!(bus::received(&beta.store, "alpha").await.unwrap().len(), 2);
        beta.stop().await;
        forger.stop();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_is_noticed_and_read_again_from_where_it_began() {
    for city in City::on_each_engine() {
        let thing = ids::fresh();
        let all: Vec<Envelope> = (1..=6).map(|v| event("thing.changed", v, thing, v, "")).collect();
        let holed = vec![
            Scripted { range: (0, 2), events: all[..2].to_vec() },
            Scripted { range: (4, 6), events: all[4..].to_vec() },
        ];
        let whole = vec![Scripted { range: (2, 6), events: all[2..].to_vec() }];
        let forger = Forger::start(ids::fresh(), vec![holed, whole]).await.unwrap();
        city.directory.set("alpha", vec![forger.address]);
        let mut beta = city.start("beta", "beta").await;
        beta.hear(&city.directory, vec![copying()], 3);
        until("all is read", async || position(&beta.store, "alpha").await == 6).await;
        assert_eq!(count_effects(&beta.store).await, 6);
        assert_eq!(bus::disorder(&bus::applied(&beta.store, "alpha").await.unwrap()), Vec::<String>::new());
        assert_eq!(*forger.asked.lock(), [0, 2]);
        beta.stop().await;
        forger.stop();
    }
}

/// Closed until opened; who is at it waits.
#[derive(Default)]
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    fn pass(&self) {
        // Whoever waits here must not keep the runtime's own drivers with it.
        tokio::task::block_in_place(|| drop(self.1.wait_while(self.0.lock().unwrap(), |open| !*open).unwrap()));
    }

    fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_slow_consumer_makes_its_publisher_wait_instead_of_filling_anybodys_memory() {
    const BATCHES: i64 = 200;
    for city in City::on_each_engine() {
        let thing = ids::fresh();
        let note = "x".repeat(256 << 10);
        let batch = |at: i64| Scripted {
            range: (at, at + 1),
            events: vec![event("thing.changed", at + 1, thing, at + 1, &note)],
        };
        let forger = Forger::start(ids::fresh(), vec![(0..BATCHES).map(batch).collect()]).await.unwrap();
        city.directory.set("alpha", vec![forger.address]);
        let mut beta = city.start("beta", "beta").await;
        let gate = Arc::new(Gate::default());
        let at_gate = gate.clone();
        let slow = Reaction::new(move |tx, event: Received<alpha::ThingChanged>| {
            let gate = at_gate.clone();
            async move {
                gate.pass();
                note_effect(&tx, &event).await
            }
        });
        beta.hear(&city.directory, vec![slow], 3);
        // It stands still once the count does.
        let mut before = usize::MAX;
        until("the publisher waits", async || {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = forger.sent.load(Ordering::SeqCst);
            now > 0 && std::mem::replace(&mut before, now) == now
        })
        .await;
        let sent = forger.sent.load(Ordering::SeqCst);
        gate.open();
        assert!(sent < 60, "{sent} of {BATCHES} batches of 256 KiB were sent to a consumer that took none");
        until("in the end all came", async || count_effects(&beta.store).await == BATCHES).await;
        beta.stop().await;
        forger.stop();
    }
}
