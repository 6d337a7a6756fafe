//! Copies of what others own: the newest version wins in any order, a rebuild gives the same rows, a purge keeps enough.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kernel::events::{
    Envelope, Event as _, Fault, Flow, Reaction, Received, forget, keep, projected, projected_by_id, projected_in_org,
    purge,
};
use kernel::ids;
use kernel::store::Tx;
use kernel::testing::{bus, station};
use kernel::{params, row, sql};
use proptest::prelude::*;
use uuid::Uuid;

use crate::{CHANGED, City, Thing, alpha, change, changed, check, things, until};

fn reactions() -> Vec<Reaction> {
    vec![keep::<alpha::ThingChanged>(), forget::<alpha::ThingGone>()]
}

/// A recorded log: 12 things, 60 changes, three of the things gone.
async fn recorded(city: &City) -> Vec<Envelope> {
    let alpha = city.start("alpha", "alpha").await;
    let all = things(12);
    for turn in 0..60 {
        changed(&alpha.store, all[turn % all.len()], &format!("turn {turn}")).await;
    }
    for thing in &all[..3] {
        change::<alpha::ThingGone>(&alpha.store, *thing, "").await.unwrap();
    }
    let log = station::log(&city.directory, "alpha", 0).await.unwrap();
    alpha.stop().await;
    log
}

row! {
    struct Latest {
        id: Uuid,
        note: String,
    }
}

/// What must not be written: the last to arrive wins.
fn blind() -> Reaction {
    Reaction::new(|tx: Tx, event: Received<alpha::ThingChanged>| async move {
        let sql =
            sql!("INSERT INTO latest (id, note) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET note = excluded.note");
        tx.run(sql, params![event.subject, event.note]).await.map(drop).map_err(Fault::from)
    })
}

/// Fingerprints of the guarded copies and receipts, and of the blind table, after a delivery.
async fn ends(city: &City, database: &str, events: &[Envelope]) -> (String, String) {
    let store = city.store(database).await;
    let mut all = reactions();
    all.push(blind());
    bus::deliver(&store, &all, events).await.unwrap();
    let copies = bus::copies(&store).await.unwrap();
    let mut receipts = bus::applied(&store, "alpha").await.unwrap();
    receipts.sort_by_key(|fact| fact.id);
    let latest = store.read().all(sql!(Latest, "SELECT id, note FROM latest"), params![]).await.unwrap();
    store.close().await;
    (bus::fingerprint(&copies) + &bus::fingerprint(&receipts), bus::fingerprint(&latest))
}

#[test]
fn any_order_and_any_repetition_of_a_log_end_alike() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    for city in City::on_each_engine() {
        let log = runtime.block_on(recorded(&city));
        let (straight, blind) = runtime.block_on(ends(&city, "straight", &log));
        let mut differing = 0;
        // Where every case makes a schema over the network, fewer do.
        let count = if city.on_postgres() { 20 } else { 300 };
        let cases = ProptestConfig { cases: count, failure_persistence: None, ..ProptestConfig::default() };
        let mut runner = proptest::test_runner::TestRunner::new(cases);
        let differing = std::cell::RefCell::new(&mut differing);
        let outcome = runner.run(&any::<u64>(), |seed| {
            let events = bus::shuffled(&log, seed);
            let (got, got_blind) = runtime.block_on(ends(&city, &format!("case_{seed}"), &events));
            **differing.borrow_mut() += u32::from(got_blind != blind);
            prop_assert_eq!(&got, &straight, "seed {}", seed);
            Ok(())
        });
        outcome.unwrap();
        let caught = **differing.borrow();
        assert!(caught > count / 2, "the check must see a table that ignores versions; it saw {caught} of {count}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_are_read_by_id_by_organisation_and_not_once_they_are_gone() {
    for city in City::on_each_engine() {
        let (alpha, mut gamma) = (city.start("alpha", "alpha").await, city.start("gamma", "gamma").await);
        gamma.hear(&city.directory, reactions(), 3);
        let (here, gone) = (ids::fresh(), ids::fresh());
        changed(&alpha.store, here, "old").await;
        let newest = changed(&alpha.store, here, "new").await;
        changed(&alpha.store, gone, "").await;
        change::<alpha::ThingGone>(&alpha.store, gone, "").await.unwrap();
        until("all came", async || bus::received(&gamma.store, "alpha").await.unwrap().len() == 4).await;
        let db = gamma.store.read();
        let org = Uuid::from_u128(7);
        let read = projected::<Thing>(&db, CHANGED.aggregate, org, here).await.unwrap();
        assert_eq!(read, Some((newest.clone(), 2)));
        assert_eq!(projected::<Thing>(&db, "thing", ids::fresh(), here).await.unwrap(), None);
        assert_eq!(projected_by_id::<Thing>(&db, "thing", here).await.unwrap(), Some((newest.clone(), 2)));
        assert_eq!(projected_by_id::<Thing>(&db, "thing", gone).await.unwrap(), None);
        let list = projected_in_org::<Thing>(&db, "thing", org, None, 10).await.unwrap();
        assert_eq!(list, [(newest, 2)]);
        assert_eq!(projected_in_org::<Thing>(&db, "thing", org, Some(here), 10).await.unwrap(), []);
        gamma.stop().await;
        alpha.stop().await;
    }
}

async fn damage(store: &kernel::store::Store) {
    let unit = |tx: Tx| async move {
        tx.run(sql!("UPDATE projection SET data = '{}', version = version - 1"), params![]).await
    };
    store.write(unit).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_is_row_identical_while_events_keep_coming() {
    for city in City::on_each_engine() {
        let (alpha, mut gamma) = (city.start("alpha", "alpha").await, city.start("gamma", "gamma").await);
        gamma.hear(&city.directory, reactions(), 3);
        let all = things(20);
        for turn in 0..400 {
            changed(&alpha.store, all[turn % all.len()], &format!("turn {turn}")).await;
        }
        change::<alpha::ThingGone>(&alpha.store, all[0], "").await.unwrap();
        until("all came", async || bus::received(&gamma.store, "alpha").await.unwrap().len() == 401).await;
        let before = bus::copies(&gamma.store).await.unwrap();
        damage(&gamma.store).await;
        assert_ne!(bus::copies(&gamma.store).await.unwrap(), before);
        let read = gamma.rebuild(&city.directory, &reactions(), "alpha").await.unwrap();
        assert_eq!(read, 401);
        assert_eq!(bus::copies(&gamma.store).await.unwrap(), before, "row-identical when nothing moves");
        // Each thing changes once: what a swap loses no later event brings back.
        let writing = AtomicBool::new(true);
        let writer = async {
            for thing in things(300) {
                changed(&alpha.store, thing, "later").await;
            }
            writing.store(false, Ordering::SeqCst);
        };
        let rebuilds = async {
            while writing.load(Ordering::SeqCst) {
                gamma.rebuild(&city.directory, &reactions(), "alpha").await.unwrap();
            }
        };
        tokio::join!(writer, rebuilds);
        until("all came", async || bus::received(&gamma.store, "alpha").await.unwrap().len() == 701).await;
        let live = bus::copies(&gamma.store).await.unwrap();
        let fresh = city.store("fresh").await;
        let log = station::log(&city.directory, "alpha", 0).await.unwrap();
        bus::deliver(&fresh, &reactions(), &log).await.unwrap();
        assert_eq!(bus::copies(&fresh).await.unwrap(), live, "as the log says, also when it moved meanwhile");
        check(&alpha.store, "alpha", &gamma.store, &[alpha::ThingChanged::DEF, alpha::ThingGone::DEF]).await;
        fresh.close().await;
        gamma.stop().await;
        alpha.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_keeps_what_a_copy_is_made_from_and_tells_who_came_too_late() {
    for city in City::on_each_engine() {
        let (alpha, mut gamma) = (city.start("alpha", "alpha").await, city.start("gamma", "gamma").await);
        gamma.hear(&city.directory, reactions(), 3);
        let all = things(3);
        changed(&alpha.store, all[0], "seen by the one who leaves").await;
        let mut delta = city.start("delta", "delta").await;
        delta.hear(&city.directory, reactions(), 3);
        until("delta has one", async || bus::received(&delta.store, "alpha").await.unwrap().len() == 1).await;
        delta.stop().await;
        for turn in 0..1200 {
            changed(&alpha.store, all[turn % 3], "").await;
        }
        until("gamma has all", async || bus::received(&gamma.store, "alpha").await.unwrap().len() == 1201).await;
        let day = Duration::from_secs(24 * 3600);
        assert_eq!(purge(&alpha.store, day).await.unwrap().events, 0, "nothing is old yet");
        city.clock.advance(day * 3);
        assert_eq!(purge(&alpha.store, day).await.unwrap().events, 1198);
        assert_eq!(purge(&gamma.store, day).await.unwrap().receipts, 1198);
        let before = bus::copies(&gamma.store).await.unwrap();
        assert_eq!(gamma.rebuild(&city.directory, &reactions(), "alpha").await.unwrap(), 3);
        assert_eq!(bus::copies(&gamma.store).await.unwrap(), before);
        let mut delta = city.start("delta", "delta").await;
        delta.hear(&city.directory, reactions(), 3);
        until("delta is told", async || {
            let health = delta.health.publishers();
            matches!(health.get("alpha").map(|h| &h.flow), Some(Flow::Refused(why)) if why.contains("purged"))
        })
        .await;
        assert!(kernel::events::replay(&delta.store, &delta.health, "alpha", 0, false).await.unwrap());
        until("it reads what is kept", async || bus::copies(&delta.store).await.unwrap() == before).await;
        for station in [delta, gamma, alpha] {
            station.stop().await;
        }
    }
}
