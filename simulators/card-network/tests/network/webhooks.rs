//! Events: signed, tried until accepted, in order unless a fault says otherwise, and not lost by a restart.
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use card_network::{Clock, Options};
use serde_json::json;

use crate::harness::{Ear, Hook, Merchant, Open, SECRET, VISA, listen, open, open_with};

/// Retries wait on the clock, so these networks use the real one.
async fn open_towards(ear: &Ear) -> Open {
    let url = ear.url.clone();
    open_with(|options| send_to(options, url)).await
}

fn send_to(options: &mut Options, url: String) {
    options.clock = Clock::system();
    options.webhook_url = Some(url);
}

fn assert_signed(hook: &Hook) {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let tag = STANDARD.decode(hook.signature.strip_prefix("v1,").unwrap()).unwrap();
    let signed = format!("{}.{}.{}", hook.id, hook.timestamp, hook.raw);
    hmac::verify(&key, signed.as_bytes(), &tag).expect("the signature fits id, time and body");
    assert_eq!(hook.body["id"], json!(hook.id));
}

#[tokio::test]
async fn every_outcome_is_told_signed_and_in_order() {
    let mut ear = listen(0).await;
    let net = open_towards(&ear).await;
    let id = net.charge(VISA, "paid").await;
    net.refund(&id, "back", 100).await;
    for kind in ["authorization.succeeded", "capture.succeeded", "refund.succeeded"] {
        let hook = ear.next().await;
        assert_signed(&hook);
        assert_eq!(
            (hook.kind(), &hook.body["data"]["reference"]),
            (kind, &json!(if kind.starts_with("refund") { "back" } else { "paid" }))
        );
    }
    net.authorise("4000000000000002", "declined").await;
    assert_eq!(ear.next().await.kind(), "authorization.declined");
    let open = net.authorise(VISA, "voided").await.text("id");
    net.void(&open, "v").await;
    assert_eq!(ear.next().await.kind(), "authorization.succeeded");
    assert_eq!(ear.next().await.body["data"]["status"], "voided");
    let asked = net.authorise("4000000000003220", "asked").await;
    Merchant::send(net.client.post(asked.text("challenge_url")).json(&json!({ "outcome": "pass" }))).await;
    let hook = ear.next().await;
    assert_eq!(
        (hook.kind(), &hook.body["data"]["status"]),
        ("authorization.challenge_completed", &json!("authorized"))
    );
    net.authorise("4000000000007015", "expired").await;
    assert_eq!(ear.next().await.kind(), "authorization.succeeded");
    assert_eq!(ear.next().await.kind(), "authorization.expired");
    let fails = net.charge("4000000000005126", "kept").await;
    net.refund(&fails, "kept-back", 100).await;
    assert_eq!([ear.next().await.kind(), ear.next().await.kind()], ["authorization.succeeded", "capture.succeeded"]);
    let hook = ear.next().await;
    assert_eq!((hook.kind(), &hook.body["data"]["status"]), ("refund.failed", &json!("failed")));
    assert_eq!(net.get(&format!("/v1/authorizations/{fails}")).await.body["refunded_minor"], 0);
}

#[tokio::test]
async fn an_event_is_sent_again_until_it_is_accepted_and_later_ones_wait() {
    let mut ear = listen(2).await;
    let net = open_towards(&ear).await;
    net.charge(VISA, "r").await;
    let tries = [ear.next().await, ear.next().await, ear.next().await];
    assert!(tries.iter().all(|hook| hook.id == tries[0].id && hook.kind() == "authorization.succeeded"));
    tries.iter().for_each(assert_signed);
    assert_eq!(ear.next().await.kind(), "capture.succeeded");
}

#[tokio::test]
async fn the_duplicate_card_sends_each_event_twice_under_one_id() {
    let mut ear = listen(0).await;
    let net = open_towards(&ear).await;
    net.authorise("4000000000007056", "r").await;
    let (first, second) = (ear.next().await, ear.next().await);
    assert_eq!((&first.id, &first.raw), (&second.id, &second.raw));
    assert_eq!(net.get("/v1/faults/counts").await.body["webhook_duplicate"], 1);
}

#[tokio::test]
async fn the_reorder_card_lets_the_second_event_overtake_the_first() {
    let mut ear = listen(0).await;
    let net = open_towards(&ear).await;
    net.charge("4000000000007064", "r").await;
    assert_eq!(ear.next().await.kind(), "capture.succeeded");
    assert_eq!(ear.next().await.kind(), "authorization.succeeded");
}

#[tokio::test]
async fn a_held_event_with_nothing_to_overtake_it_comes_late_but_comes() {
    let mut ear = listen(0).await;
    let net = open_towards(&ear).await;
    net.put("/v1/faults", json!({ "webhook_reorder": 100 })).await;
    net.authorise(VISA, "r").await;
    assert_eq!(ear.next().await.kind(), "authorization.succeeded");
    assert_eq!(net.get("/v1/faults/counts").await.body["webhook_reorder"], 1);
}

#[tokio::test]
async fn a_dropped_event_is_never_sent_and_the_next_one_is() {
    let mut ear = listen(0).await;
    let net = open_towards(&ear).await;
    net.put("/v1/faults", json!({ "webhook_drop": 100 })).await;
    let id = net.authorise(VISA, "r").await.text("id");
    net.put("/v1/faults", json!({})).await;
    net.capture(&id, "c", 1500).await;
    assert_eq!(ear.next().await.kind(), "capture.succeeded");
    assert!(ear.is_silent());
    assert_eq!(net.get("/v1/faults/counts").await.body["webhook_drop"], 1);
}

#[tokio::test]
async fn events_wait_for_an_address_and_survive_a_restart() {
    let net = open().await;
    net.authorise(VISA, "r").await;
    let mut net = net.reopen().await;
    let mut ear = listen(0).await;
    let set = net.put("/v1/webhook_endpoint", json!({ "url": ear.url })).await;
    assert_eq!(set.body["url"], ear.url);
    assert_eq!(ear.next().await.kind(), "authorization.succeeded");
    net = net.reopen().await;
    assert_eq!(net.get("/v1/webhook_endpoint").await.body["url"], ear.url);
    for wrong in ["", "/hooks", "https://localhost/", "file:///etc/passwd"] {
        let answer = net.put("/v1/webhook_endpoint", json!({ "url": wrong })).await;
        assert_eq!(answer.code(), (422, "invalid_webhook_url"), "{wrong}");
    }
}
