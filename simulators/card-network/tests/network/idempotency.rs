//! One key, one effect, one answer: under repetition, in parallel and across a restart.
use reqwest::Method;
use serde_json::json;

use crate::harness::{Merchant, VISA, open};

#[tokio::test]
async fn a_call_that_moves_money_needs_one_good_key() {
    let net = open().await;
    let call = || net.request(Method::POST, "/v1/authorizations").json(&json!({}));
    assert_eq!(Merchant::send(call()).await.code(), (400, "idempotency_key_required"));
    for bad in ["", "with space", "x".repeat(256).as_str()] {
        let answer = Merchant::send(call().header("idempotency-key", bad)).await;
        assert_eq!(answer.code(), (400, "idempotency_key_invalid"), "{bad}");
    }
    let two = call().header("idempotency-key", "a").header("idempotency-key", "b");
    assert_eq!(Merchant::send(two).await.code(), (400, "idempotency_key_invalid"));
}

#[tokio::test]
async fn the_same_call_again_gets_the_same_answer_even_after_a_restart() {
    let net = open().await;
    let id = net.authorise(VISA, "r").await.text("id");
    let first = net.capture(&id, "c", 1500).await;
    let second = net.capture(&id, "c", 1500).await;
    assert!(!first.replayed && second.replayed);
    assert_eq!((first.status, &first.body), (second.status, &second.body));
    let net = net.reopen().await;
    let third = net.capture(&id, "c", 1500).await;
    assert!(third.replayed);
    assert_eq!(third.body, first.body);
    assert_eq!(net.counted().await["capture/succeeded"], 1);
}

#[tokio::test]
async fn a_key_cannot_be_used_for_another_call() {
    let net = open().await;
    let id = net.authorise(VISA, "r").await.text("id");
    net.capture(&id, "c", 1500).await;
    assert_eq!(net.capture(&id, "c", 1499).await.code(), (422, "idempotency_key_reused"));
    assert_eq!(net.void(&id, "c").await.code(), (422, "idempotency_key_reused"));
    let other = net.authorise(VISA, "other").await.text("id");
    assert_eq!(net.capture(&other, "c", 1500).await.code(), (422, "idempotency_key_reused"));
}

#[tokio::test]
async fn refusals_about_money_are_stored_and_refusals_of_input_are_not() {
    let net = open().await;
    let taken = net.charge(VISA, "taken").await;
    assert_eq!(net.void(&taken, "late").await.code(), (409, "already_captured"));
    let again = net.void(&taken, "late").await;
    assert_eq!((again.code(), again.replayed), ((409, "already_captured"), true));
    assert_eq!(again.content_type, "application/problem+json");
    let open = net.authorise(VISA, "open").await.text("id");
    assert_eq!(net.capture(&open, "typo", 15_000).await.status, 422);
    let mended = net.capture(&open, "typo", 1500).await;
    assert_eq!((mended.status, mended.replayed), (200, false));
}

#[tokio::test]
async fn fifty_equal_calls_at_once_have_one_effect() {
    let net = open().await;
    let token = net.token(VISA).await;
    let body = json!({ "reference": "r", "token": token, "amount_minor": 1500, "currency": "EUR" });
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (merchant, body) = (net.merchant.clone(), body.clone());
        calls.spawn(async move { merchant.post("/v1/authorizations", "same", body).await });
    }
    let answers = calls.join_all().await;
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.body == answers[0].body));
    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
    assert_eq!(net.books().await.len(), 1);
}
