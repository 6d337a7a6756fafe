//! What one order leaves behind in a real city: metrics by their names, log lines by their fields, one trace, no secret.

mod city;
mod order_trace;
mod watching;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use city::{City, json_lines};

/// What the demo's customer types into the provider's form, and nobody else may ever keep.
const CARD: &str = "4242424242424242";
/// The beginnings of an access token's two usual headers, and the name under which a form sends the card's code.
const OTHER_SECRETS: [&str; 3] = ["eyJhbGciOi", "eyJ0eXAiOi", "\"cvc\""];
const FIELDS: [&str; 7] = ["timestamp", "level", "service", "traceId", "spanId", "message", "context"];

#[tokio::test]
async fn one_order_is_counted_logged_and_traced_and_leaves_no_secret_behind() {
    let city = City::up(&[]).await;
    let order = city.run(&["demo", "order"]).await.pop().unwrap();
    assert_eq!(order["status"], "DELIVERED");
    let (id, trace) = (order["order_id"].as_str().unwrap(), order["trace_id"].as_str().unwrap());
    everybody_counts(&city).await;
    everybody_is_ready(&city).await;
    let mut saga = city.run(&["why", id]).await;
    assert_eq!(
        saga.pop().unwrap()["trace_id"],
        trace,
        "the gateway's answer and the order's first event name one trace"
    );
    let along: BTreeSet<&str> =
        saga.iter().filter(|e| e["trace_id"] == trace).filter_map(|event| event["by"].as_str()).collect();
    for service in ["orders", "kitchen", "payments", "notifications"] {
        assert!(along.contains(service), "{service} is not in the trace: {along:?}");
    }
    let folder = city.stop().await;
    every_line_has_its_fields(folder.path(), id, trace);
    let files = files_under(folder.path());
    assert!(!holding(&files, "visa").is_empty(), "the search sees into the databases");
    for secret in OTHER_SECRETS.iter().chain(&[CARD]) {
        assert_eq!(holding(&files, secret), Vec::<PathBuf>::new(), "{secret}");
    }
}

/// Every metric of the requirements, at the member that has to show it, with exactly these labels.
async fn everybody_counts(city: &City) {
    let circuit: (&str, &[&str]) = ("circuit_breaker_state", &["name", "service", "state"]);
    let lag: (&str, &[&str]) =
        ("kafka_consumer_lag", &["consumer", "group", "partition", "publisher", "service", "topic"]);
    let expected: [(&str, Vec<(&str, &[&str])>); 6] = [
        (
            "payments",
            vec![
                ("payment_requests_total", &["method", "service", "status"]),
                ("payment_processing_duration_seconds_count", &["service"]),
                circuit,
                lag,
            ],
        ),
        ("orders", vec![("order_created_total", &["restaurant_id", "service"]), lag]),
        ("kitchen", vec![lag]),
        ("delivery", vec![lag]),
        ("notifications", vec![lag]),
        ("gateway", vec![circuit]),
    ];
    for (member, metrics) in expected {
        let samples = scrape(city, member).await;
        for (name, labels) in metrics {
            let found = samples.get(name).unwrap_or_else(|| panic!("{member} shows no {name}"));
            assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), labels, "{member}: {name}");
        }
    }
    for service in ["auth", "restaurants", "orders", "payments", "kitchen", "delivery", "notifications"] {
        let samples = scrape(city, service).await;
        for name in ["http_server_request_duration_seconds_count", "store_units_total"] {
            assert!(samples.contains_key(name), "{service} shows no {name}");
        }
    }
}

/// The names of a member's samples with their labels' names in order.
async fn scrape(city: &City, member: &str) -> BTreeMap<String, BTreeSet<String>> {
    let (status, kind, text) = city.get(member, "metrics").await;
    assert_eq!((status, kind.as_str()), (200, "text/plain; version=0.0.4; charset=utf-8"), "{member}");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples
        .filter_map(|line| line.split_once('{'))
        .map(|(name, rest)| {
            let labels = rest.split_once('}').map_or("", |(labels, _)| labels);
            let names = labels.split("\",").filter_map(|label| label.split_once('=')).map(|(name, _)| name.to_owned());
            (name.to_owned(), names.collect())
        })
        .collect()
}

async fn everybody_is_ready(city: &City) {
    assert_eq!(city.get("gateway", "readyz").await.0, 200);
    for member in ["auth", "restaurants", "orders", "payments", "kitchen", "delivery", "notifications"] {
        let (status, _, text) = city.get(member, "readyz").await;
        let report: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status, &report["status"]), (200, &Value::from("UP")), "{member}: {text}");
        for check in ["database", "bus"] {
            assert_eq!(report["checks"][check]["ok"], true, "{member}: {text}");
        }
    }
}

fn every_line_has_its_fields(folder: &Path, order: &str, trace: &str) {
    let mut lines = json_lines(&std::fs::read_to_string(folder.join("city.stderr")).unwrap());
    for log in files_under(&folder.join("data").join("logs")) {
        lines.extend(json_lines(&std::fs::read_to_string(log).unwrap()));
    }
    for line in &lines {
        let fields: BTreeSet<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, BTreeSet::from(FIELDS), "{line}");
        assert_eq!(line["context"].get("withheld"), None, "a field that nobody allowed: {line}");
        assert_ne!(line["message"], "lost a publisher; trying again", "nobody is lost where all stop together: {line}");
        assert_ne!(line["service"], "city", "a line that knows no service: {line}");
    }
    let about: Vec<&Value> = lines.iter().filter(|line| line["context"]["orderId"] == order).collect();
    let placed = about.iter().find(|line| line["service"] == "orders").expect("placing an order is told");
    let paid = about.iter().find(|line| line["service"] == "payments").expect("its payment is told");
    for line in [placed, paid] {
        assert_eq!(line["traceId"], trace, "{line}");
        assert_eq!(line["spanId"].as_str().map(str::len), Some(16), "{line}");
        assert!(line["context"]["amount"].is_i64() && line["context"]["currency"] == "EUR", "{line}");
        assert_eq!(line["context"]["maskedCard"], "visa ****4242", "{line}");
    }
    assert!(paid["context"]["paymentId"].is_string(), "{paid}");
}

fn files_under(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_under(&path)) } else { files.push(path) }
    }
    files
}

fn holding(files: &[PathBuf], text: &str) -> Vec<PathBuf> {
    let holds =
        |file: &&PathBuf| std::fs::read(file).unwrap().windows(text.len()).any(|bytes| bytes == text.as_bytes());
    files.iter().filter(holds).cloned().collect()
}
