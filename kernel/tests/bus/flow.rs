//! What only the stream has: a chain with its traces, positions past a filter, waiting for a publisher, callers' proofs.
//! What any bus must do stands in the cases of the bus.

use std::collections::BTreeMap;

use kernel::events::Flow;
use kernel::ids;
use kernel::telemetry::Trace;
use kernel::testing::{bus, station};
use tokio::task::JoinSet;

use crate::{
    CHANGED, COPIED, City, alpha, beta, change, changed, check, copying, count_effects, keeping, position, things,
    until,
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
