//! Bad input and strangers: every refusal is a problem document, and no card number is ever kept.
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Merchant, VISA, open};

#[tokio::test]
async fn card_details_that_cannot_be_right_are_refused() {
    let net = open().await;
    let table = [
        (json!({ "number": "4242424242424241" }), "invalid_card"),
        (json!({ "number": "4242" }), "invalid_card"),
        (json!({ "number": "4242é424242424242" }), "invalid_card"),
        (json!({ "number": "4111111111111111" }), "card_not_supported"),
        (json!({ "cvc": "12" }), "invalid_card"),
        (json!({ "cvc": "12a" }), "invalid_card"),
        (json!({ "exp_month": 13 }), "invalid_card"),
        (json!({ "exp_year": 98 }), "invalid_card"),
        (json!({ "exp_year": 2020 }), "card_expired"),
        (json!({ "number": 4_242_424_242_424_242_i64 }), "invalid_body"),
        (json!({ "name": "extra" }), "invalid_body"),
    ];
    for (change, code) in table {
        let mut card = json!({ "number": VISA, "exp_month": 12, "exp_year": 2098, "cvc": "123" });
        card.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let answer = Merchant::send(net.client.post(format!("{}/v1/tokens", net.url)).json(&card)).await;
        assert_eq!(answer.code(), (422, code), "{change}");
        assert!(!answer.body.to_string().contains("424242"), "the answer repeats what was typed");
    }
}

#[tokio::test]
async fn neither_number_nor_security_code_reaches_the_disk() {
    let net = open().await;
    let card = json!({ "number": VISA, "exp_month": 12, "exp_year": 2098, "cvc": "8642" });
    let answer = Merchant::send(net.client.post(format!("{}/v1/tokens", net.url)).json(&card)).await;
    assert_eq!((answer.text("last4"), answer.text("brand")), ("4242".to_owned(), "visa".to_owned()));
    let token = answer.text("token");
    let dir = net.close().await;
    let mut kept = Vec::new();
    for file in std::fs::read_dir(dir.path()).unwrap() {
        kept.extend(std::fs::read(file.unwrap().path()).unwrap());
    }
    let holds = |text: &str| kept.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds(&token), "the search would find what is there");
    assert!(!holds(VISA) && !holds("8642"));
}

#[tokio::test]
async fn strangers_are_refused_on_every_merchant_call() {
    let net = open().await;
    let table = [
        (Method::POST, "/v1/authorizations"),
        (Method::GET, "/v1/authorizations/auth_x"),
        (Method::POST, "/v1/authorizations/auth_x/capture"),
        (Method::POST, "/v1/authorizations/auth_x/void"),
        (Method::POST, "/v1/refunds"),
        (Method::GET, "/v1/lookup?reference=x"),
        (Method::GET, "/v1/books"),
        (Method::GET, "/v1/books/summary"),
        (Method::PUT, "/v1/webhook_endpoint"),
        (Method::PUT, "/v1/faults"),
        (Method::GET, "/v1/faults"),
        (Method::GET, "/v1/faults/counts"),
    ];
    for (method, path) in table {
        for key in ["", "sk_test_wrong"] {
            let stranger = Merchant { api_key: key.to_owned(), ..net.merchant.clone() };
            let answer = Merchant::send(stranger.request(method.clone(), path)).await;
            assert_eq!(answer.code(), (401, "unauthorized"), "{method} {path}");
        }
    }
    assert_eq!(net.get("/livez").await.body["status"], "ok");
}

#[tokio::test]
async fn malformed_requests_get_a_problem_document_each() {
    let net = open().await;
    let post = |kind: &'static str, body: Vec<u8>| {
        let request = net.request(Method::POST, "/v1/authorizations").header("idempotency-key", "k");
        Merchant::send(request.header("content-type", kind).body(body))
    };
    let json_type = "application/json; charset=utf-8";
    assert_eq!(post(json_type, b"{".to_vec()).await.code(), (400, "malformed_json"));
    assert_eq!(post(json_type, b"\xff\xfe".to_vec()).await.code(), (400, "malformed_json"));
    assert_eq!(post(json_type, b"[]".to_vec()).await.code(), (422, "invalid_body"));
    assert_eq!(post(json_type, "[".repeat(60_000).into_bytes()).await.status, 422);
    assert_eq!(post("text/plain", b"{}".to_vec()).await.code(), (415, "unsupported_media_type"));
    assert_eq!(post(json_type, vec![b' '; 64 * 1024 + 1]).await.code(), (413, "body_too_large"));
    let missing = net.get("/v1/nothing").await;
    assert_eq!(missing.code(), (404, "not_found"));
    assert_eq!(missing.content_type, "application/problem+json");
    let wrong = Merchant::send(net.request(Method::DELETE, "/v1/books")).await;
    assert_eq!(wrong.code(), (405, "method_not_allowed"));
    assert_eq!(net.get("/v1/authorizations/%ff").await.code(), (400, "invalid_parameter"));
}

#[tokio::test]
async fn amounts_currencies_and_references_have_limits() {
    let net = open().await;
    let token = net.token(VISA).await;
    let table: [(&str, Value, &str); 11] = [
        ("amount_minor", json!(0), "invalid_amount"),
        ("amount_minor", json!(-1), "invalid_amount"),
        ("amount_minor", json!(1_000_000_000_001_i64), "invalid_amount"),
        ("amount_minor", json!(1.5), "invalid_body"),
        ("amount_minor", json!(u64::MAX), "invalid_body"),
        ("amount_minor", json!("1500"), "invalid_body"),
        ("currency", json!("eur"), "invalid_currency"),
        ("currency", json!("EURO"), "invalid_currency"),
        ("reference", json!(""), "invalid_reference"),
        ("reference", json!("x".repeat(256)), "invalid_reference"),
        ("token", json!("tok_unknown"), "token_unknown"),
    ];
    for (field, value, code) in table {
        let mut body = json!({ "reference": "r", "token": token, "amount_minor": 1, "currency": "EUR" });
        body[field] = value;
        assert_eq!(net.post("/v1/authorizations", "k", body).await.code(), (422, code), "{field}");
    }
    assert!(net.books().await.is_empty(), "a refused request leaves no trace");
}

#[tokio::test]
async fn connections_that_say_nothing_or_stop_halfway_are_closed() {
    let net = open().await;
    let address = net.url.strip_prefix("http://").unwrap();
    let silent = ended_within(address, b"");
    let halfway = ended_within(address, b"GET /livez HTTP/1.1\r\nHost: x\r\n");
    let (silent, halfway) = tokio::join!(silent, halfway);
    assert!(silent && halfway, "silent closed: {silent}, halfway closed: {halfway}");
}

async fn ended_within(address: &str, said: &[u8]) -> bool {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(said).await.unwrap();
    tokio::time::timeout(Duration::from_secs(8), stream.read_to_end(&mut Vec::new())).await.is_ok()
}
