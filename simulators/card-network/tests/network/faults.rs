//! Faults on demand: by card and by rate, once per key, counted, and the same again for the same seed.
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Merchant, Open, VISA, open, open_with};

async fn fault_count(net: &Open, fault: &str) -> i64 {
    net.get("/v1/faults/counts").await.body[fault].as_i64().unwrap()
}

async fn authorise_body(net: &Open, number: &str, reference: &str) -> serde_json::Value {
    json!({ "reference": reference, "token": net.token(number).await, "amount_minor": 1500, "currency": "EUR" })
}

#[tokio::test]
async fn the_timeout_card_charges_and_then_never_answers_but_a_retry_gets_the_truth() {
    let net = open().await;
    let impatient = reqwest::Client::builder().no_proxy().timeout(Duration::from_millis(700)).build().unwrap();
    let impatient = Merchant { client: impatient, ..net.merchant.clone() };
    let body = authorise_body(&net, "4000000000007023", "r").await;
    assert!(impatient.try_post("/v1/authorizations", "a", body.clone()).await.unwrap_err().is_timeout());
    let known = net.get("/v1/lookup?reference=r").await.body;
    assert_eq!(known["authorizations"][0]["status"], "authorized", "the effect is there without an answer");
    let retried = net.post("/v1/authorizations", "a", body).await;
    assert_eq!((retried.status, retried.replayed), (200, true));
    let path = format!("/v1/authorizations/{}/capture", retried.text("id"));
    let capture = json!({ "amount_minor": 1500 });
    assert!(impatient.try_post(&path, "c", capture.clone()).await.unwrap_err().is_timeout());
    assert!(net.post(&path, "c", capture).await.replayed);
    assert_eq!(net.counted().await["capture/succeeded"], 1);
    assert_eq!(fault_count(&net, "timeout_after").await, 2);
}

#[tokio::test]
async fn a_call_that_hangs_is_given_up_with_a_timeout_in_the_end() {
    let net = open_with(|options| options.hang = Duration::from_millis(50)).await;
    assert_eq!(net.authorise("4000000000007023", "r").await.code(), (504, "timeout"));
}

#[tokio::test]
async fn the_error_card_charges_and_then_answers_500_once() {
    let net = open().await;
    let body = authorise_body(&net, "4000000000007031", "r").await;
    assert_eq!(net.post("/v1/authorizations", "a", body.clone()).await.code(), (500, "processing_error"));
    let id = net.post("/v1/authorizations", "a", body).await.text("id");
    assert_eq!(net.capture(&id, "c", 1500).await.code(), (500, "processing_error"));
    assert_eq!(net.capture(&id, "c", 1500).await.text("status"), "succeeded");
    assert_eq!(net.counted().await["capture/succeeded"], 1);
    assert_eq!(fault_count(&net, "error_after").await, 2);
}

#[tokio::test]
async fn an_error_before_has_no_effect_and_its_retry_succeeds() {
    let net = open().await;
    net.put("/v1/faults", json!({ "error_before": 100, "error_after": 100 })).await;
    let body = authorise_body(&net, VISA, "r").await;
    assert_eq!(net.post("/v1/authorizations", "a", body.clone()).await.code(), (503, "unavailable"));
    assert!(net.books().await.is_empty());
    let retried = net.post("/v1/authorizations", "a", body).await;
    assert_eq!((retried.status, retried.replayed), (200, false), "a key is struck once");
    assert_eq!((fault_count(&net, "error_before").await, fault_count(&net, "total").await), (1, 1));
}

#[tokio::test]
async fn a_slow_answer_comes_after_the_delay_and_its_retry_at_once() {
    let net = open().await;
    net.put("/v1/faults", json!({ "slow_ms": 400 })).await;
    let body = authorise_body(&net, "4000000000007049", "r").await;
    let began = Instant::now();
    assert_eq!(net.post("/v1/authorizations", "a", body.clone()).await.status, 200);
    assert!(began.elapsed() >= Duration::from_millis(400));
    assert!(net.post("/v1/authorizations", "a", body).await.replayed);
    assert_eq!(fault_count(&net, "slow").await, 1);
}

#[tokio::test]
async fn declines_by_rate_are_counted() {
    let net = open().await;
    net.put("/v1/faults", json!({ "decline": 100 })).await;
    let answer = net.authorise(VISA, "r").await;
    assert_eq!((answer.text("status"), answer.text("decline_code")), ("declined".into(), "card_declined".into()));
    assert_eq!(fault_count(&net, "decline").await, 1);
}

#[tokio::test]
async fn rates_seed_and_counts_survive_a_restart() {
    let net = open_with(|options| options.seed = 42).await;
    let set = net.put("/v1/faults", json!({ "decline": 100, "slow_ms": 10 })).await;
    assert_eq!((&set.body["seed"], &set.body["decline"]), (&json!(42), &json!(100.0)));
    net.authorise(VISA, "r").await;
    let net = net.reopen().await;
    assert_eq!(net.get("/v1/faults").await.body, set.body);
    assert_eq!(fault_count(&net, "decline").await, 1);
    let net = net.reopen_with(|options| options.faults = Some(card_network::FaultRates::default())).await;
    assert_eq!(net.get("/v1/faults").await.body["decline"], 0.0);
}

#[tokio::test]
async fn rates_that_are_no_percentages_are_refused() {
    let net = open().await;
    for wrong in [json!({ "decline": 101 }), json!({ "slow": -1 }), json!({ "slow_ms": 60_001 })] {
        assert_eq!(net.put("/v1/faults", wrong).await.code(), (422, "invalid_faults"));
    }
    assert_eq!(net.put("/v1/faults", json!({ "unheard_of": 1 })).await.code(), (422, "invalid_body"));
}

async fn declined_orders(seed: u64) -> Vec<usize> {
    let net = open().await;
    net.put("/v1/faults", json!({ "decline": 50, "seed": seed })).await;
    let mut declined = Vec::new();
    for order in 0..24 {
        if net.authorise(VISA, &format!("order-{order}")).await.text("status") == "declined" {
            declined.push(order);
        }
    }
    declined
}

#[tokio::test]
async fn a_rerun_with_the_same_seed_strikes_the_same_calls() {
    let (first, again, other) = tokio::join!(declined_orders(7), declined_orders(7), declined_orders(8));
    assert_eq!(first, again);
    assert_ne!(first, other);
}
