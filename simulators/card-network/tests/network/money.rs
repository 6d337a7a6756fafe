//! Holding, taking and giving back money: what is allowed, what is refused, and what the books say afterwards.
use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::harness::{Merchant, VISA, eventually, open};

#[tokio::test]
async fn money_is_held_taken_and_partly_given_back_and_the_books_balance() {
    let net = open().await;
    let held = net.authorise(VISA, "order-1").await;
    assert_eq!((held.status, held.text("status").as_str()), (200, "authorized"), "{held:?}");
    let id = held.text("id");
    assert_eq!(net.get("/v1/books/summary").await.body["open_authorizations"], 1);
    let captured = net.capture(&id, "c1", 1400).await;
    assert_eq!((captured.status, &captured.body["amount_minor"]), (200, &json!(1400)));
    assert_eq!(net.refund(&id, "back-1", 400).await.text("status"), "succeeded");
    let shown = net.get(&format!("/v1/authorizations/{id}")).await.body;
    assert_eq!((&shown["status"], &shown["captured_minor"]), (&json!("captured"), &json!(1400)));
    assert_eq!(shown["refunded_minor"], 400);
    let summary = net.get("/v1/books/summary").await.body;
    let euros = &summary["currencies"][0];
    assert_eq!((&euros["captured_minor"], &euros["refunded_minor"]), (&json!(1400), &json!(400)));
    assert_eq!((&euros["net_minor"], &euros["debits_minor"]), (&json!(1000), &euros["credits_minor"]));
    assert_eq!((&summary["balanced"], &summary["open_authorizations"]), (&json!(true), &json!(0)));
    for account in summary["accounts"].as_array().unwrap() {
        let expected = match account["account"].as_str().unwrap() {
            "cardholder" => 1000,
            "merchant" => -1000,
            _ => 0,
        };
        assert_eq!(account["balance_minor"], expected, "{account}");
    }
}

#[tokio::test]
async fn each_test_card_does_what_it_says() {
    let net = open().await;
    let table = [
        (VISA, "authorized", None),
        ("5555 5555 5555 4444", "authorized", None),
        ("4000000000000002", "declined", Some("card_declined")),
        ("4000000000009995", "declined", Some("insufficient_funds")),
        ("4000000000003220", "requires_action", None),
        ("4000000000007015", "authorized", None),
    ];
    for (number, status, decline_code) in table {
        let answer = net.authorise(number, number.replace(' ', "").as_str()).await;
        assert_eq!(answer.status, 200);
        assert_eq!((answer.text("status").as_str(), answer.body["decline_code"].as_str()), (status, decline_code));
    }
    let listed = net.get("/v1/test-cards").await.body;
    for card in listed["test_cards"].as_array().unwrap() {
        assert!(net.token(card["number"].as_str().unwrap()).await.starts_with("tok_"));
    }
}

#[tokio::test]
async fn what_the_state_of_the_money_forbids_is_refused_with_its_own_code() {
    let net = open().await;
    let held = |reference: &'static str, number: &'static str| {
        let merchant = net.merchant.clone();
        async move { merchant.authorise(number, reference).await.text("id") }
    };
    let taken = net.charge(VISA, "taken").await;
    assert_eq!(net.capture(&taken, "again", 1500).await.code(), (409, "already_captured"));
    assert_eq!(net.void(&taken, "void-taken").await.code(), (409, "already_captured"));
    assert_eq!(net.refund(&taken, "too-much", 1501).await.code(), (422, "refund_exceeds_capture"));
    assert_eq!(net.refund(&taken, "part", 1000).await.status, 200);
    assert_eq!(net.refund(&taken, "rest-and-more", 501).await.code(), (422, "refund_exceeds_capture"));
    let open = held("open", VISA).await;
    assert_eq!(net.capture(&open, "over", 1501).await.code(), (422, "amount_exceeds_authorization"));
    assert_eq!(net.refund(&open, "early", 1).await.code(), (409, "authorization_not_captured"));
    assert_eq!(net.void(&open, "void-open").await.text("status"), "succeeded");
    assert_eq!(net.capture(&open, "late", 1500).await.code(), (409, "already_voided"));
    assert_eq!(net.void(&open, "void-again").await.code(), (409, "already_voided"));
    let declined = held("declined", "4000000000000002").await;
    assert_eq!(net.capture(&declined, "c-declined", 1500).await.code(), (409, "authorization_declined"));
    assert_eq!(net.void(&declined, "v-declined").await.code(), (409, "authorization_declined"));
    let waiting = held("waiting", "4000000000003220").await;
    assert_eq!(net.capture(&waiting, "c-waiting", 1500).await.code(), (409, "authorization_requires_action"));
    assert_eq!(net.capture("auth_none", "c-none", 1500).await.code(), (404, "authorization_not_found"));
    let counted = net.counted().await;
    assert_eq!((counted["capture/succeeded"], counted["refund/succeeded"], counted["void/succeeded"]), (1, 1, 1));
    assert_eq!(net.get("/v1/books/summary").await.body["balanced"], true);
}

#[tokio::test]
async fn a_challenge_is_answered_once_by_the_cardholder_without_an_api_key() {
    let net = open().await;
    for (outcome, other, status) in [("pass", "fail", "authorized"), ("fail", "pass", "declined")] {
        let asked = net.authorise("4000000000003220", outcome).await;
        let url = asked.text("challenge_url");
        let answer =
            async |outcome: &str| Merchant::send(net.client.post(&url).json(&json!({ "outcome": outcome }))).await;
        assert_eq!(answer(outcome).await.text("status"), status);
        assert_eq!(answer(outcome).await.text("status"), status, "the same answer again is the same answer");
        assert_eq!(answer(other).await.code(), (409, "challenge_not_pending"));
    }
    let plain = net.authorise(VISA, "plain").await.text("id");
    let path = format!("/v1/authorizations/{plain}/challenge");
    let uncalled = Merchant::send(net.request(Method::POST, &path).json(&json!({ "outcome": "pass" }))).await;
    assert_eq!(uncalled.code(), (409, "challenge_not_pending"));
    assert_eq!(net.get("/v1/books/summary").await.body["open_authorizations"], 2);
}

#[tokio::test]
async fn a_hold_ends_by_itself_and_cannot_be_captured_afterwards() {
    let net = open().await;
    let id = net.authorise(VISA, "slow-kitchen").await.text("id");
    let waiting = net.authorise("4000000000003220", "never-answered").await.text("id");
    let spare = net.authorise(VISA, "in-time").await.text("id");
    net.let_pass(Duration::from_secs(7 * 24 * 60 * 60 - 1));
    assert_eq!(net.capture(&spare, "in-time:capture", 1500).await.status, 200);
    net.let_pass(Duration::from_secs(1));
    assert_eq!(net.capture(&id, "c", 1500).await.code(), (402, "authorization_expired"));
    assert!(net.capture(&id, "c", 1500).await.replayed);
    assert_eq!(net.void(&id, "v").await.code(), (402, "authorization_expired"));
    assert_eq!(net.get(&format!("/v1/authorizations/{waiting}")).await.text("status"), "expired");
    let summary = net.get("/v1/books/summary").await.body;
    assert_eq!((&summary["open_authorizations"], &summary["balanced"]), (&json!(0), &json!(true)));
    assert_eq!(net.counted().await["expiry/succeeded"], 2);
}

#[tokio::test]
async fn the_card_that_expires_at_once_is_swept_without_anyone_asking() {
    let net = open().await;
    let id = net.authorise("4000000000007015", "r").await.text("id");
    eventually("the hold is released", async || net.counted().await.contains_key("expiry/succeeded")).await;
    assert_eq!(net.capture(&id, "c", 1500).await.code(), (402, "authorization_expired"));
}

#[tokio::test]
async fn a_client_that_charges_a_reference_twice_is_served_and_caught() {
    let net = open().await;
    net.charge(VISA, "honest").await;
    let summary = net.get("/v1/books/summary").await.body;
    assert_eq!((&summary["captures_per_reference_max"], &summary["references_captured_twice"]), (&json!(1), &json!(0)));
    let token = net.token(VISA).await;
    for key in ["try-1", "try-2"] {
        let body = json!({ "reference": "double", "token": token, "amount_minor": 1500, "currency": "EUR" });
        let id = net.post("/v1/authorizations", key, body).await.text("id");
        assert_eq!(net.capture(&id, &format!("{key}:capture"), 1500).await.status, 200);
    }
    let summary = net.get("/v1/books/summary").await.body;
    assert_eq!((&summary["captures_per_reference_max"], &summary["references_captured_twice"]), (&json!(2), &json!(1)));
}

#[tokio::test]
async fn a_reference_leads_to_everything_known_about_it() {
    let net = open().await;
    let id = net.charge(VISA, "order-7").await;
    net.refund(&id, "refund-7", 500).await;
    for reference in ["order-7", "refund-7"] {
        let known = net.get(&format!("/v1/lookup?reference={reference}")).await.body;
        let authorization = &known["authorizations"][0];
        assert_eq!((&authorization["id"], &authorization["status"]), (&json!(id), &json!("captured")));
        assert_eq!(authorization["captures"][0]["idempotency_key"], "order-7:capture");
        assert_eq!(authorization["refunds"][0]["reference"], "refund-7");
        assert_eq!(authorization["voids"], json!([]));
        assert_eq!(authorization["idempotency_keys"], json!(["order-7:authorise", "order-7:capture", "refund-7"]));
    }
    assert_eq!(net.get("/v1/lookup?reference=order-8").await.code(), (404, "reference_not_found"));
    assert_eq!(net.get("/v1/lookup").await.code(), (400, "invalid_parameter"));
}

#[tokio::test]
async fn the_books_are_listed_page_by_page_in_the_order_written() {
    let net = open().await;
    for order in 0..5 {
        net.charge(VISA, &format!("order-{order}")).await;
    }
    let first = net.get("/v1/books?limit=4").await.body;
    assert_eq!((first["operations"].as_array().unwrap().len(), &first["next_after"]), (4, &json!(4)));
    let seqs: Vec<i64> = net.books().await.iter().map(|row| row["seq"].as_i64().unwrap()).collect();
    assert_eq!(seqs, (1..=10).collect::<Vec<_>>());
    assert_eq!(net.get("/v1/books?after=10").await.body["next_after"], json!(null));
    for wrong in ["limit=0", "limit=1001", "limit=many"] {
        assert_eq!(net.get(&format!("/v1/books?{wrong}")).await.code(), (400, "invalid_parameter"));
    }
}
