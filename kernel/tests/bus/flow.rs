//! Events flow once and in order: through a chain, past a filter, across restarts; another outbox is refused.

use std::collections::BTreeMap;
use std::time::Duration;

use kernel::events::{Flow, Reaction, Received, adopt_epoch, parked_count, replay};
use kernel::ids;
use kernel::store::Options;
use kernel::telemetry::Trace;
use kernel::testing::station::Station;
use kernel::testing::{bus, station};
use tokio::task::JoinSet;

use crate::{
    CHANGED, COPIED, City, STEPS, alpha, any_port, beta, change, changed, check, copying, count_effects, keeping,
    note_effect, position, things, until,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_of_three_hands_every_event_on_once_and_in_order() {
    for city in City::on_each_engine() {
        let alpha = city.start("alpha", "alpha").await;
        let (mut beta, mut gamma) = (city.start("beta", "beta").await, city.start("gamma", "gamma").await);
        beta.hear(&city.directory, vec![copying()], 3);
        gamma.hear(&city.directory, vec![keeping()], 3);
        let all = things(5);
        let mut writers = JoinSet::new();
        for at in 0..8 {
            let (store, all) = (alpha.store.clone(), all.clone());
            writers.spawn(async move {
                for turn in 0..25 {
                    changed(&store, all[(at + turn) % all.len()], "a change").await;
                }
            });
        }
        writers.join_all().await;
        until("gamma has all", async || bus::received(&gamma.store, "beta").await.unwrap().len() == 200).await;
        check(&alpha.store, "alpha", &beta.store, &[CHANGED]).await;
        check(&beta.store, "beta", &gamma.store, &[COPIED]).await;
        assert_eq!(count_effects(&beta.store).await, 200);
        let traces = async |publisher: &str| -> BTreeMap<_, _> {
            let log = station::log(&city.directory, publisher, 0).await.unwrap();
            log.iter().map(|e| ((e.subject, e.version), Trace::parse(&e.traceparent).map(|t| t.trace_id))).collect()
        };
        let told = traces("beta").await;
        assert_eq!(told.len(), 200);
        assert!(told.values().all(Option::is_some), "every event of beta belongs to a trace");
        for station in [gamma, beta, alpha] {
            station.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_made_in_a_reaction_belongs_to_the_trace_of_its_cause() {
    for city in City::on_each_engine() {
        let (alpha, mut beta) = (city.start("alpha", "alpha").await, city.start("beta", "beta").await);
        let (trace, thing) = (Trace::start(), ids::fresh());
        kernel::telemetry::in_trace(trace, changed(&alpha.store, thing, "traced")).await;
        changed(&alpha.store, thing, "not traced").await;
        beta.hear(&city.directory, vec![copying()], 3);
        until("beta has both", async || count_effects(&beta.store).await == 2).await;
        // Where a relay gives positions, an event is published a moment after its commit.
        let mut log = Vec::new();
        until("beta has published both", async || {
            log = station::log(&city.directory, "beta", 0).await.unwrap();
            log.len() == 2
        })
        .await;
        let of = |at: usize| Trace::parse(&log[at].traceparent).unwrap();
        assert_eq!(of(0).trace_id, trace.trace_id);
        assert_ne!(of(0).span_id, trace.span_id);
        assert_ne!(of(1).trace_id, trace.trace_id);
        beta.stop().await;
        alpha.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_type_that_nobody_hears_moves_the_position_and_leaves_no_receipt() {
    for city in City::on_each_engine() {
        let (alpha, mut beta) = (city.start("alpha", "alpha").await, city.start("beta", "beta").await);
        beta.hear(&city.directory, vec![copying()], 3);
        let thing = ids::fresh();
        for _ in 0..600 {
            change::<alpha::ThingTouched>(&alpha.store, thing, "").await.unwrap();
        }
        until("the position moved over them", async || position(&beta.store, "alpha").await >= 512).await;
        changed(&alpha.store, thing, "heard").await;
        until("the heard one is there", async || count_effects(&beta.store).await == 1).await;
        check(&alpha.store, "alpha", &beta.store, &[CHANGED]).await;
        assert_eq!(position(&beta.store, "alpha").await, 601);
        until("health tells it", async || {
            let health = beta.health.publishers()["alpha"].clone();
            (health.flow, health.position, health.head) == (Flow::Connected, 601, 601)
        })
        .await;
        beta.stop().await;
        alpha.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_of_publisher_and_consumer_lose_and_double_nothing() {
    for city in City::on_each_engine() {
        let mut alpha = city.start("alpha", "alpha").await;
        let mut beta = city.start("beta", "beta").await;
        beta.hear(&city.directory, vec![copying()], 3);
        let thing = ids::fresh();
        for round in 1..=3 {
            for _ in 0..20 {
                changed(&alpha.store, thing, "").await;
            }
            alpha.stop().await;
            alpha = city.start("alpha", "alpha").await;
            changed(&alpha.store, thing, "").await;
            beta.stop().await;
            changed(&alpha.store, thing, "").await;
            beta = city.start("beta", "beta").await;
            beta.hear(&city.directory, vec![copying()], 3);
            until("beta caught up", async || count_effects(&beta.store).await == round * 22).await;
        }
        check(&alpha.store, "alpha", &beta.store, &[CHANGED]).await;
        beta.stop().await;
        alpha.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_that_is_too_much_for_one_unit_is_taken_in_smaller_ones() {
    for city in City::on_each_engine() {
        let alpha = city.start("alpha", "alpha").await;
        for thing in things(60) {
            changed(&alpha.store, thing, "").await;
        }
        let options = Options { deadline: Duration::from_millis(200), ..city.options("gamma") };
        let mut gamma = Station::start("gamma", options, STEPS, any_port()).await.unwrap();
        let slow = Reaction::new(|tx, event: Received<alpha::ThingChanged>| async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            note_effect(&tx, &event).await
        });
        gamma.hear(&city.directory, vec![slow], 3);
        until("all came", async || count_effects(&gamma.store).await == 60).await;
        check(&alpha.store, "alpha", &gamma.store, &[CHANGED]).await;
        assert!(parked_count(&gamma.store.read()).await.unwrap().is_empty());
        gamma.stop().await;
        alpha.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_of_one_consumer_do_not_get_in_each_others_way() {
    for city in City::on_each_engine() {
        let (alpha, mut beta) = (city.start("alpha", "alpha").await, city.start("beta", "beta").await);
        beta.hear(&city.directory, vec![copying()], 3);
        let mut twin = city.start("beta", "beta").await;
        twin.hear(&city.directory, vec![copying()], 3);
        for thing in things(300) {
            changed(&alpha.store, thing, "").await;
        }
        until("all came", async || count_effects(&beta.store).await >= 300).await;
        check(&alpha.store, "alpha", &beta.store, &[CHANGED]).await;
        assert_eq!(count_effects(&beta.store).await, 300);
        assert!(parked_count(&beta.store.read()).await.unwrap().is_empty(), "nobody parks because of the other");
        for station in [twin, beta, alpha] {
            station.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_waits_for_a_publisher_that_is_not_there_yet() {
    for city in City::on_each_engine() {
        let mut beta = city.start("beta", "beta").await;
        beta.hear(&city.directory, vec![copying()], 3);
        until("it says that nobody is listed", async || {
            let health = beta.health.publishers();
            health.get("alpha").and_then(|h| h.last_error.clone()).is_some_and(|why| why.contains("no instance"))
        })
        .await;
        let alpha = city.start("alpha", "alpha").await;
        changed(&alpha.store, ids::fresh(), "").await;
        until("it came", async || count_effects(&beta.store).await == 1).await;
        beta.stop().await;
        alpha.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_with_a_new_database_is_refused_until_somebody_accepts_it() {
    for city in City::on_each_engine() {
        let (alpha, mut beta) = (city.start("alpha", "alpha").await, city.start("beta", "beta").await);
        beta.hear(&city.directory, vec![copying()], 3);
        changed(&alpha.store, ids::fresh(), "").await;
        until("the first came", async || count_effects(&beta.store).await == 1).await;
        alpha.stop().await;
        let alpha = city.start("alpha", "alpha_anew").await;
        for _ in 0..3 {
            changed(&alpha.store, ids::fresh(), "").await;
        }
        until(
            "beta refuses",
            async || matches!(&beta.health.publishers()["alpha"].flow, Flow::Refused(why) if why.contains("made anew")),
        )
        .await;
        assert_eq!(count_effects(&beta.store).await, 1);
        assert!(adopt_epoch(&beta.store, &beta.health, "alpha").await.unwrap());
        until("the new ones came", async || count_effects(&beta.store).await == 4).await;
        assert!(!adopt_epoch(&beta.store, &beta.health, "nobody").await.unwrap());
        beta.stop().await;
        alpha.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_takes_a_second_effect_only_when_told_to() {
    for city in City::on_each_engine() {
        let (alpha, mut gamma) = (city.start("alpha", "alpha").await, city.start("gamma", "gamma").await);
        let count =
            Reaction::new(|tx, event: Received<alpha::ThingChanged>| async move { note_effect(&tx, &event).await });
        gamma.hear(&city.directory, vec![count], 3);
        let thing = ids::fresh();
        for _ in 0..10 {
            changed(&alpha.store, thing, "").await;
        }
        until("all came", async || count_effects(&gamma.store).await == 10).await;
        assert!(replay(&gamma.store, &gamma.health, "alpha", 1, false).await.unwrap());
        changed(&alpha.store, thing, "the last of the second round").await;
        until("it came", async || position(&gamma.store, "alpha").await == 11).await;
        assert_eq!(count_effects(&gamma.store).await, 11);
        assert!(replay(&gamma.store, &gamma.health, "alpha", 6, true).await.unwrap());
        until("six took effect again", async || count_effects(&gamma.store).await == 17).await;
        gamma.stop().await;
        alpha.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outbox_is_for_callers_that_prove_who_they_are() {
    let city = City::on_each_engine().remove(0);
    let alpha = city.start("alpha", "alpha").await;
    let said = station::knock_unsigned(&city.directory, "alpha").await.unwrap_err();
    assert!(said.contains("assertion"), "{said}");
    alpha.stop().await;
}

#[test]
fn the_events_of_the_suite_belong_to_their_publishers() {
    assert!(alpha::EVENTS.iter().all(|e| e.publisher == "alpha") && beta::EVENTS.iter().all(|e| e.publisher == "beta"));
}
