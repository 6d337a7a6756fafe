//! What the door says by itself: limits, methods, other sites, traces, health.

use std::time::Duration;

use gateway::{Rate, Settings, Tiers};
use serde_json::{Value, json};

use crate::city::{City, settings};

#[tokio::test]
async fn callers_are_limited_by_address_and_by_tier() {
    let tiers =
        Tiers { free: Rate { per: Duration::from_secs(60), ..Rate::per_second("free", 2) }, ..Tiers::default() };
    let city = City::with(Settings { tiers, ..settings() }).await;
    let ask = async |token: &str| city.get("/api/v1/orders/7").bearer_auth(token).send().await.unwrap();
    let token = city.token();
    let first = ask(&token).await;
    assert_eq!(first.headers()["ratelimit-policy"], "\"free\";q=2;w=60");
    assert_eq!(first.headers()["ratelimit"], "\"free\";r=1;t=60");
    assert_eq!(ask(&token).await.status(), 200);
    let third = ask(&token).await;
    assert_eq!(third.status(), 429);
    let wait: u64 = third.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait}");
    assert!(third.headers()["ratelimit"].to_str().unwrap().starts_with("\"free\";r=0"));
    let premium = city.mint.token(|claims| claims["tier"] = json!("premium"));
    assert_eq!(ask(&premium).await.status(), 200, "its own bucket");
    let somebody = city.mint.token(|claims| claims["sub"] = json!("00000000-0000-0000-0000-000000000008"));
    assert_eq!(ask(&somebody).await.status(), 200, "another user");

    let slow = Rate { per: Duration::from_secs(60), ..Rate::per_second("address", 1) };
    let city = City::with(Settings { per_address: slow, ..settings() }).await;
    assert_eq!(city.get("/api/v1/menu").send().await.unwrap().status(), 200);
    let second = city.get("/api/v1/menu").send().await.unwrap();
    assert_eq!(
        (second.status().as_u16(), second.headers()["ratelimit-policy"].to_str().unwrap()),
        (429, "\"address\";q=1;w=60")
    );
    assert_eq!(city.get("/livez").send().await.unwrap().status(), 200, "health is never limited");
}

#[tokio::test]
async fn a_limit_may_hold_a_request_back_instead_of_refusing_it() {
    let patient = Rate { wait: Duration::from_millis(500), ..Rate::per_second("address", 5) };
    let city = City::with(Settings { per_address: patient, ..settings() }).await;
    let answers = futures::future::join_all((0..7).map(|_| city.get("/api/v1/menu").send())).await;
    assert!(answers.into_iter().all(|answer| answer.unwrap().status() == 200));
}

#[tokio::test]
async fn what_is_too_much_at_once_is_shed() {
    let city = City::with(Settings { max_in_flight: 1, ..settings() }).await;
    let (slow, shed) = tokio::join!(city.get("/api/v1/slow").send(), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        city.get("/api/v1/menu").send().await.unwrap()
    });
    assert_eq!(slow.unwrap().status(), 504);
    assert_eq!((shed.status().as_u16(), shed.headers()["retry-after"].to_str().unwrap()), (503, "1"));
    assert_eq!(city.get("/api/v1/menu").send().await.unwrap().status(), 200, "there is room again");
}

#[tokio::test]
async fn http2_comes_in_by_the_same_door() {
    // Fifty at once, on a busy machine: how long a service may take is not asked here.
    let city = City::with(Settings { deadline: Duration::from_secs(60), ..settings() }).await;
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let ask = (0..50).map(|_| client.get(format!("http://{}/api/v1/menu", city.address)).send());
    for answer in futures::future::join_all(ask).await {
        let answer = answer.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, http::Version::HTTP_2));
        let seen: Value = answer.json().await.unwrap();
        assert_eq!(seen["headers"]["host"][0], city.address.to_string());
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_so() {
    let city = City::start().await;
    let missing = city.get("/api/v1/nothing").send().await.unwrap();
    assert_eq!(missing.status(), 404);
    let trace = missing.headers()["traceparent"].to_str().unwrap().to_owned();
    let problem: Value = missing.json().await.unwrap();
    assert_eq!((problem["code"].as_str(), problem["type"].as_str()), (Some("not_found"), Some("/problems/not_found")));
    assert!(trace.contains(problem["trace_id"].as_str().unwrap()));
    let wrong = city.http.delete(format!("http://{}/api/v1/orders/7", city.address)).send().await.unwrap();
    assert_eq!((wrong.status().as_u16(), wrong.headers()["allow"].to_str().unwrap()), (405, "GET, HEAD, OPTIONS"));
    let options = city
        .http
        .request(http::Method::OPTIONS, format!("http://{}/api/v1/orders", city.address))
        .send()
        .await
        .unwrap();
    assert_eq!((options.status().as_u16(), options.headers()["allow"].to_str().unwrap()), (204, "POST, OPTIONS"));
    let trace =
        city.http.request(http::Method::TRACE, format!("http://{}/api/v1/menu", city.address)).send().await.unwrap();
    assert_eq!((trace.status().as_u16(), trace.headers()["allow"].to_str().unwrap()), (405, "GET, HEAD, OPTIONS"));
    let head = city.http.head(format!("http://{}/api/v1/menu", city.address)).send().await.unwrap();
    assert_eq!(head.status(), 200, "GET answers HEAD");
}

#[tokio::test]
async fn pages_of_listed_sites_may_call_and_others_may_not() {
    let city = City::start().await;
    let preflight = async |origin: &str| {
        let url = format!("http://{}/api/v1/orders", city.address);
        let request = city.http.request(http::Method::OPTIONS, url).header("origin", origin);
        request.header("access-control-request-method", "POST").send().await.unwrap()
    };
    let known = preflight("https://console.test").await;
    assert_eq!(known.headers()["access-control-allow-origin"], "https://console.test");
    assert_eq!(known.headers()["access-control-allow-methods"], "POST, OPTIONS");
    let stranger = preflight("https://evil.test").await;
    assert!(!stranger.headers().contains_key("access-control-allow-origin"));
    assert!(!stranger.headers().contains_key("access-control-allow-methods"));
    let answer = city.get("/api/v1/menu").header("origin", "https://console.test").send().await.unwrap();
    assert_eq!(answer.headers()["access-control-allow-origin"], "https://console.test");
    assert!(answer.headers().get_all("vary").iter().any(|vary| vary == "origin"));
}

#[tokio::test]
async fn traces_and_correlation_ids_are_continued_if_harmless() {
    let city = City::start().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = city.get("/api/v1/menu").header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    let answer = request.header("x-correlation-id", "mine-7").send().await.unwrap();
    assert_eq!(answer.headers()["x-correlation-id"], "mine-7");
    let shown = answer.headers()["traceparent"].to_str().unwrap().to_owned();
    let seen: Value = answer.json().await.unwrap();
    assert_eq!(seen["headers"]["traceparent"][0], shown);
    assert!(shown.contains(trace) && !shown.contains("00f067aa0ba902b7"), "a step of its own: {shown}");
    assert_eq!(seen["headers"]["x-correlation-id"][0], "mine-7");
    let odd = city.get("/api/v1/menu").header("x-correlation-id", "a b\"<script>").send().await.unwrap();
    assert!(odd.headers()["x-correlation-id"].to_str().unwrap().bytes().all(|byte| byte.is_ascii_hexdigit()));
}

#[tokio::test]
async fn long_text_is_compressed_for_those_who_ask() {
    let city = City::start().await;
    let ask = async |path: &str, coding: &str| city.get(path).header("accept-encoding", coding).send().await.unwrap();
    for coding in ["br", "gzip"] {
        let answer = ask("/api/v1/big", coding).await;
        assert_eq!(answer.headers()["content-encoding"], coding);
        assert!(answer.bytes().await.unwrap().len() < 500);
    }
    for (path, coding) in [("/api/v1/big", "identity"), ("/api/v1/big", "br;q=0"), ("/api/v1/menu", "br")] {
        let answer = ask(path, coding).await;
        assert!(!answer.headers().contains_key("content-encoding"), "{path} {coding}");
    }
}

#[tokio::test]
async fn it_counts_by_template_and_shows_its_circuits() {
    let city = City::start().await;
    city.order(&city.token()).await;
    let missing = city.get("/api/v1/nothing-here").send().await.unwrap();
    assert_eq!(missing.status(), 404);
    let text = city.get("/metrics").send().await.unwrap().text().await.unwrap();
    let counted = |method: &str, route: &str, status: &str| {
        format!(
            "http_server_request_duration_seconds_count{{service=\"gateway\",http_request_method=\"{method}\",http_route=\"{route}\",http_response_status_code=\"{status}\",error_type=\"\"}} 1\n"
        )
    };
    for line in [counted("GET", "/api/v1/orders/{id}", "200"), counted("_OTHER", "", "404")] {
        assert!(text.contains(&line), "{line} in\n{text}");
    }
    for (state, is) in [("closed", 1), ("open", 0)] {
        let line = format!("circuit_breaker_state{{service=\"gateway\",name=\"orders\",state=\"{state}\"}} {is}\n");
        assert!(text.contains(&line), "{line} in\n{text}");
    }
}

#[tokio::test]
async fn a_stop_is_announced_then_finished() {
    let city = City::start().await;
    let slow = city.get("/api/v1/slow").send();
    let (slow, ()) = tokio::join!(slow, async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        city.shutdown.cancel();
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(city.get("/readyz").send().await.unwrap().status(), 503, "still there, but not ready");
    });
    assert_eq!(slow.unwrap().status(), 504, "answered, not cut");
    tokio::time::timeout(Duration::from_secs(3), city.server).await.expect("drained").unwrap();
    assert!(tokio::net::TcpStream::connect(city.address).await.is_err());
}
