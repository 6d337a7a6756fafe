//! Settings and secrets that change while customers are served: no request fails, and everybody takes up the new.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::load::{Answers, Load, only_good};
use crate::program::{City, Data, until};

/// Guests who look at restaurants without end: each request is signed by the gateway and checked by a service.
fn guests(city: &City<'_>) -> Load {
    let url = format!("{}/api/v1/restaurants", city.opened["gateway"].as_str().unwrap());
    Load::of(move |_, stop| look(&url, stop))
}

fn look(url: &str, stop: &AtomicBool) -> Answers {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut answers = Answers::new();
    runtime.block_on(async {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
        while !stop.load(Ordering::SeqCst) {
            let answer = match http.get(url).send().await {
                Ok(answer) => answer.status().as_u16().to_string(),
                Err(error) => error.to_string(),
            };
            *answers.entry(answer).or_default() += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    answers
}

pub(crate) fn fetch(url: &str) -> (reqwest::header::HeaderMap, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let answer = reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap();
        (answer.headers().clone(), answer.text().await.unwrap())
    })
}

fn set(data: &Data, text: &str) {
    let draft = data.path().join(".draft");
    std::fs::write(&draft, text).unwrap();
    std::fs::rename(draft, data.path().join("foodexpress.toml")).unwrap();
}

fn in_force(city: &City<'_>, key: &str) -> Value {
    city.run(&["config", "show", key]).rows().remove(0)
}

const FIRST: &str = "[gateway]\nper_address = 5000\n";
const SECOND: &str = "
    [gateway]\nper_address = 6000\nper_caller = 300\nmax_in_flight = 900
    [orders]\naccept_within_s = 700\nusual_ride_minutes = 25\nkeep_carts_days = 20
    [kitchen]\naccept_within_ms = 200000
    [delivery]\nassign_within_s = 1800
    [notifications]\nmost_tries = 5
    [payments]\nretry_window_s = 90\nprovider_calls = 32
";

#[test]
fn settings_change_under_load_without_a_failed_request() {
    let data = Data::new();
    std::fs::create_dir_all(data.path()).unwrap();
    set(&data, FIRST);
    let city = data.up(&["--processes"]);
    let gateway = city.opened["gateway"].as_str().unwrap().to_owned();
    let load = guests(&city);
    set(&data, SECOND);
    until("the new limit is shown to callers", || {
        let (headers, _) = fetch(&format!("{gateway}/api/v1/restaurants"));
        headers["ratelimit-policy"].to_str().unwrap().contains("q=6000").then_some(())
    });
    for service in ["orders", "kitchen", "delivery", "notifications", "payments"] {
        let address = city.member(service)["address"].as_str().unwrap().to_owned();
        let accepted = format!("config_offers_total{{service=\"{service}\",outcome=\"accepted\"}} 1\n");
        until("each service has taken it", || {
            fetch(&format!("http://{address}/metrics")).1.contains(&accepted).then_some(())
        });
    }
    city.order();
    only_good(&load.end());

    let held = in_force(&city, "kitchen.accept_within_ms");
    assert_eq!((&held["value"], &held["origin"]), (&json!(200_000), &json!("foodexpress.toml")));
    let held = in_force(&city, "payments.provider_calls");
    assert_eq!(held["value"], 64, "read at start, so the old one is in force");
    let shown = city.run(&["config", "show"]).result();
    assert_eq!((&shown["version"], &shown["needs_restart"]), (&json!(2), &json!(["payments.provider_calls"])));
    assert_eq!(city.run(&["config", "history"]).result()["versions"], 2);
    let differs = city.run(&["config", "diff", "1", "2"]).rows();
    assert!(
        differs.iter().any(|d| d["key"] == "orders.accept_within_s" && d["from"] == 600 && d["to"] == 700),
        "{differs:?}"
    );

    set(&data, &SECOND.replace("retry_window_s = 90", "retry_window_s = 180"));
    let refused =
        until("a refusal", || Some(city.run(&["config", "show"]).result()["refused"].clone()).filter(Value::is_string));
    let says =
        "orders.pay_within_s = 180 (default) must be longer than payments.retry_window_s = 180 (foodexpress.toml)";
    assert!(refused.as_str().unwrap().contains(says), "{refused}");
    assert_eq!(in_force(&city, "payments.retry_window_s")["value"], 90);
    city.order();
    city.stop();
    let said = data.run(&["up", "--ports", "auto"]).refusal().errors;
    assert!(said.contains(says), "a start refuses it, too: {said}");
}

#[test]
fn secrets_are_replaced_under_load_without_a_refused_request_and_never_shown() {
    let data = Data::new();
    std::fs::create_dir_all(data.path()).unwrap();
    set(&data, FIRST);
    let city = data.up(&["--processes"]);
    let names = ["internal", "card-network-api-key", "card-network-webhook-secret"];
    let read = |name: &str| std::fs::read_to_string(data.path().join("secrets").join(name)).unwrap();
    let mut secrets: Vec<String> = names.map(read).to_vec();
    let load = guests(&city);
    for (done, name) in names.into_iter().enumerate() {
        assert_eq!(city.run(&["secrets", "rotate", name]).result()["restart"], false);
        assert_eq!(read(&format!("{name}.previous")), secrets[done]);
        assert_ne!(read(name), secrets[done]);
        secrets.push(read(name));
        city.order();
    }
    // The first secret is good no longer once another rotation has begun: two are, at most.
    city.run(&["secrets", "rotate", "internal"]).result();
    secrets.push(read("internal"));
    only_good(&load.end());
    city.order();
    city.audit(4);
    for name in names {
        let listed = city.run(&["secrets", "list"]).rows();
        let state = listed.iter().find(|row| row["name"] == name).unwrap();
        assert!(state["state"].as_str().unwrap().starts_with("rotated"), "{state}");
    }
    let said = city.run(&["config", "show"]).rows().iter().map(Value::to_string).collect::<String>();
    let logs = std::fs::read_dir(data.path().join("logs")).unwrap();
    let logs: String = logs.map(|log| std::fs::read_to_string(log.unwrap().path()).unwrap()).collect();
    assert!(logs.contains("a secret changed and is taken up"), "the logs were looked at");
    for secret in &secrets {
        assert!(!said.contains(secret.trim()) && !logs.contains(secret.trim()), "a secret shows itself");
    }
    for member in city.members() {
        let command = std::fs::read_to_string(format!("/proc/{}/cmdline", member["pid"])).unwrap();
        assert!(!secrets.iter().any(|secret| command.contains(secret.trim())), "{command}");
    }
    let unknown = city.run(&["secrets", "rotate", "nothing"]).refusal().errors;
    assert!(unknown.contains("secrets list"), "{unknown}");
    city.stop();
}
