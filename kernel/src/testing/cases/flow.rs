//! Events flow once and in order: under writers, again, across sudden ends, among instances, to the slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::join_all;

use super::stage::{
    Stage, ThingChanged, ThingTouched, change, changed, check, effects, noting, tamper, things, tracing, waiting,
};
use crate::events::{self, Event as _};
use crate::ids;
use crate::sql;
use crate::store::{Options, Tx};
use crate::telemetry::{self, Trace};
use crate::testing::bus;

async fn received(store: &crate::store::Store) -> usize {
    bus::received(store, "alpha").await.expect("the database answers").len()
}

pub(super) async fn order(stage: &Stage) -> String {
    let alpha = stage.publisher("alpha").await;
    let beta = stage.consumer("beta", vec![noting()]).await;
    let all = things(5);
    if stage.seeded {
        // A publisher that tells of a later version first.
        let unit = |tx: Tx| async move {
            let id = ids::fresh();
            for version in [2, 1] {
                let thing = super::stage::Thing { org: super::stage::ORG, id, version, note: String::new() };
                tx.emit(ThingChanged::from_payload(thing))?;
            }
            Ok::<_, crate::store::StoreError>(())
        };
        alpha.store.write(unit).await.expect("both are written");
    }
    let writers = (0..8_usize).map(|at| {
        let (store, all) = (&alpha.store, &all);
        async move {
            for turn in 0..25 {
                changed(store, all[(at + turn) % all.len()], "").await;
                change::<ThingTouched>(store, all[(at + turn) % all.len()], "").await;
            }
        }
    });
    join_all(writers).await;
    stage.until("all came", async || received(&beta.store).await >= 200).await;
    let events = check(&alpha.store, &beta.store).await;
    beta.stop().await;
    alpha.stop().await;
    format!("{events} events, none out of order")
}

pub(super) async fn duplicate(stage: &Stage) -> String {
    let alpha = stage.publisher("alpha").await;
    let beta = stage.consumer("beta", vec![noting()]).await;
    let thing = ids::fresh();
    for _ in 0..20 {
        changed(&alpha.store, thing, "").await;
    }
    stage.until("all came", async || effects(&beta.store).await == 20).await;
    if stage.seeded {
        tamper(&beta.store, || sql!("DELETE FROM inbox")).await;
    }
    let again = events::replay(&beta.store, &beta.health, "alpha", 1, false).await;
    assert!(again.expect("the database answers"));
    changed(&alpha.store, thing, "the last").await;
    stage.until("the last came behind the second round", async || effects(&beta.store).await >= 21).await;
    check(&alpha.store, &beta.store).await;
    beta.stop().await;
    alpha.stop().await;
    "20 delivered twice, 0 second effects".to_owned()
}

pub(super) async fn replay(stage: &Stage) -> String {
    let alpha = stage.publisher("alpha").await;
    let beta = stage.consumer("beta", vec![noting()]).await;
    let thing = ids::fresh();
    for _ in 0..10 {
        changed(&alpha.store, thing, "").await;
    }
    stage.until("all came", async || effects(&beta.store).await == 10).await;
    let again = events::replay(&beta.store, &beta.health, "alpha", 6, !stage.seeded).await;
    assert!(again.expect("the database answers"));
    changed(&alpha.store, thing, "the last").await;
    stage.until("five took effect again", async || effects(&beta.store).await == 16).await;
    stage.until("each has its receipt", async || received(&beta.store).await == 11).await;
    beta.stop().await;
    alpha.stop().await;
    "5 of 10 again".to_owned()
}

pub(super) async fn trace(stage: &Stage) -> String {
    let alpha = stage.publisher("alpha").await;
    let seen = Arc::default();
    let beta = stage.consumer("beta", vec![tracing(&seen)]).await;
    let of = Trace::start();
    let around = if stage.seeded { Trace::start() } else { of };
    telemetry::in_trace(around, changed(&alpha.store, ids::fresh(), "")).await;
    stage.until("it came", async || effects(&beta.store).await == 1).await;
    // A unit that was taken back has looked too.
    for (service, trace) in seen.lock().iter() {
        assert_eq!((service.as_deref(), trace), (Some("beta"), &of.trace_id), "for whom, and in which trace");
    }
    beta.stop().await;
    alpha.stop().await;
    "for its hearer, in its trace".to_owned()
}

pub(super) async fn kill(stage: &Stage) -> String {
    let mut alpha = stage.publisher("alpha").await;
    let mut beta = stage.consumer("beta", vec![noting()]).await;
    let all = things(3);
    for round in 1..=4 {
        for turn in 0..20 {
            changed(&alpha.store, all[turn % 3], "").await;
        }
        // No goodbye: what was in flight is in flight.
        drop(alpha);
        alpha = stage.publisher("alpha").await;
        changed(&alpha.store, all[0], "").await;
        drop(beta);
        changed(&alpha.store, all[1], "").await;
        beta = stage.consumer("beta", vec![noting()]).await;
        stage.until("it caught up", async || effects(&beta.store).await >= round * 22).await;
    }
    if stage.seeded {
        tamper(&beta.store, || sql!("DELETE FROM effect WHERE version = 2")).await;
    }
    let events = check(&alpha.store, &beta.store).await;
    beta.stop().await;
    alpha.stop().await;
    format!("8 sudden ends, {events} events")
}

pub(super) async fn rebalance(stage: &Stage) -> String {
    let alpha = stage.publisher("alpha").await;
    let first = stage.consumer("beta", vec![noting()]).await;
    let second = stage.consumer("beta", vec![noting()]).await;
    let all = things(40);
    for thing in &all {
        changed(&alpha.store, *thing, "").await;
    }
    stage.until("they began", async || effects(&second.store).await > 0).await;
    let third = stage.consumer("beta", vec![noting()]).await;
    for thing in all.iter().chain(&all) {
        changed(&alpha.store, *thing, "").await;
    }
    drop(first);
    if stage.seeded {
        // What a zombie would do that nothing fences.
        tamper(&second.store, || sql!("INSERT INTO effect (id, version) SELECT id, version FROM effect")).await;
    }
    for thing in &all {
        changed(&alpha.store, *thing, "").await;
    }
    stage.until("all came", async || received(&third.store).await == 160).await;
    check(&alpha.store, &third.store).await;
    assert_eq!(super::stage::parked(&third.store).await, 0, "nobody parks because of another");
    for station in [third, second, alpha] {
        station.stop().await;
    }
    "2 joined, 1 fell out, 160 events".to_owned()
}

pub(super) async fn backlog(stage: &Stage) -> String {
    let alpha = stage.publisher("alpha").await;
    for thing in things(60) {
        changed(&alpha.store, thing, "").await;
    }
    let options = Options { deadline: Duration::from_millis(200), ..stage.options("gamma") };
    let open = Arc::new(AtomicBool::new(true));
    // In the seeded fault not even one fits.
    let pause = Duration::from_millis(if stage.seeded { 400 } else { 10 });
    let gamma = stage.consumer_with("gamma", options, vec![waiting(&open, pause)]).await;
    stage.until("all came", async || effects(&gamma.store).await == 60).await;
    check(&alpha.store, &gamma.store).await;
    assert_eq!(super::stage::parked(&gamma.store).await, 0, "parked although it fits");
    gamma.stop().await;
    alpha.stop().await;
    "60 events of 10 ms in units of 200 ms".to_owned()
}

pub(super) async fn slow(stage: &Stage) -> String {
    let alpha = stage.publisher("alpha").await;
    let open = Arc::new(AtomicBool::new(false));
    let slow = stage.consumer("slow", vec![waiting(&open, Duration::ZERO)]).await;
    let quick = stage.consumer("quick", vec![noting()]).await;
    let note = "x".repeat(16 << 10);
    let all = things(50);
    for turn in 0..200 {
        changed(&alpha.store, all[turn % 50], &note).await;
    }
    stage.until("the other one has all", async || effects(&quick.store).await == 200).await;
    assert_eq!(effects(&slow.store).await, 0);
    open.store(!stage.seeded, Ordering::SeqCst);
    // What ran out of patience before the gate opened is parked, in its order.
    stage.until("the slow one has all in hand", async || received(&slow.store).await == 200).await;
    let reactions = [waiting(&open, Duration::ZERO)];
    events::redrive(&slow.store, &reactions, None).await.expect("the database answers");
    stage.until("the slow one has all", async || effects(&slow.store).await == 200).await;
    check(&alpha.store, &slow.store).await;
    for station in [slow, quick, alpha] {
        station.stop().await;
    }
    "200 events of 16 KiB, the other consumer level meanwhile".to_owned()
}
