//! Between gateway and instances: balance, second tries, breakers, streams, tunnels.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::city::{City, NOW, body_in_pieces, next_chunk, read_to_close};

#[tokio::test]
async fn the_target_and_the_body_arrive_as_they_were_sent() {
    let city = City::start().await;
    let request = city.post("/api/v1/upload?a=%2F&b=1").body(body_in_pieces(vec!["one ", "two"]));
    let seen: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(seen["target"], "/api/v1/upload?a=%2F&b=1");
    assert_eq!(seen["body"], "one two");
    assert_eq!(seen["headers"]["x-forwarded-for"][0], "127.0.0.1");
    assert_eq!(seen["headers"]["host"][0], city.address.to_string());
}

#[tokio::test]
async fn both_instances_get_work_and_a_dead_one_costs_no_repeatable_request() {
    let city = City::start().await;
    let second = city.second().await;
    for _ in 0..40 {
        assert_eq!(city.get("/api/v1/menu").send().await.unwrap().status(), 200);
    }
    assert!(city.first.hits() > 5 && second.hits() > 5, "{} and {}", city.first.hits(), second.hits());
    second.kill().await;
    for _ in 0..20 {
        assert_eq!(city.get("/api/v1/menu").send().await.unwrap().status(), 200);
        let keyed = city.post("/api/v1/orders").bearer_auth(city.token()).header("idempotency-key", "k").body("{}");
        assert_eq!(keyed.send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn what_must_not_be_repeated_is_not() {
    let city = City::start().await;
    city.first.status.store(503, Ordering::SeqCst);
    let order = || city.post("/api/v1/orders").bearer_auth(city.token()).body("{}");
    assert_eq!(order().send().await.unwrap().status(), 503);
    assert_eq!(city.first.hits(), 1, "no key, one try");
    assert_eq!(order().header("idempotency-key", "k").send().await.unwrap().status(), 503);
    assert_eq!(city.first.hits(), 4, "a key, three tries");
    assert_eq!(city.get("/api/v1/menu").send().await.unwrap().status(), 503);
    assert_eq!(city.first.hits(), 7);
    city.first.status.store(500, Ordering::SeqCst);
    assert_eq!(city.get("/api/v1/menu").send().await.unwrap().status(), 500);
    assert_eq!(city.first.hits(), 8, "the service's own fault is no reason to ask again");
    assert_eq!(
        city.post("/api/v1/upload").header("idempotency-key", "k").body("{}").send().await.unwrap().status(),
        500
    );
    assert_eq!(city.first.hits(), 9, "a key means nothing to a route that does not keep it");
}

#[tokio::test]
async fn a_dead_service_is_502_and_an_absent_one_503() {
    let city = City::start().await;
    let gone = city.second().await;
    let address = gone.address;
    gone.kill().await;
    city.directory.set("orders", vec![address]);
    assert_eq!(city.get("/api/v1/menu").send().await.unwrap().status(), 502);
    city.directory.set("orders", Vec::new());
    let absent = city.get("/api/v1/menu").send().await.unwrap();
    assert_eq!((absent.status().as_u16(), absent.headers()["retry-after"].to_str().unwrap()), (503, "1"));
}

#[tokio::test]
async fn the_circuit_opens_rests_the_service_and_closes_again() {
    let city = City::start().await;
    city.first.status.store(500, Ordering::SeqCst);
    for _ in 0..10 {
        assert_eq!(city.get("/api/v1/menu").send().await.unwrap().status(), 500);
    }
    let open = city.get("/api/v1/menu").send().await.unwrap();
    assert_eq!((open.status().as_u16(), open.headers()["retry-after"].to_str().unwrap()), (503, "30"));
    assert_eq!(open.json::<Value>().await.unwrap()["code"], "circuit_open");
    assert_eq!(city.first.hits(), 10, "it is left alone");
    city.first.status.store(200, Ordering::SeqCst);
    city.clock.advance(Duration::from_secs(30));
    for _ in 0..5 {
        assert_eq!(city.get("/api/v1/menu").send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn refusals_of_a_service_do_not_open_its_circuit() {
    let city = City::start().await;
    city.first.status.store(409, Ordering::SeqCst);
    for _ in 0..15 {
        assert_eq!(city.get("/api/v1/menu").send().await.unwrap().status(), 409);
    }
}

#[tokio::test]
async fn a_service_without_room_to_keep_things_still_answers_what_needs_none() {
    let city = City::start().await;
    city.first.status.store(507, Ordering::SeqCst);
    for _ in 0..15 {
        assert_eq!(city.get("/api/v1/menu").send().await.unwrap().status(), 507);
    }
    assert_eq!(city.first.hits(), 15, "asking again at once would not help");
    city.first.status.store(200, Ordering::SeqCst);
    assert_eq!(city.get("/api/v1/menu").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_service_that_does_not_answer_is_504() {
    let city = City::start().await;
    let answer = city.get("/api/v1/slow").send().await.unwrap();
    assert_eq!(answer.status(), 504);
    assert_eq!(answer.json::<Value>().await.unwrap()["code"], "timeout");
    assert_eq!(city.first.hits(), 1);
}

#[tokio::test]
async fn events_arrive_one_by_one_and_outlive_every_deadline() {
    let city = City::start().await;
    let request = city.get("/api/v1/events").header("accept-encoding", "br, gzip");
    let mut answer = request.send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    city.first.feed.send("data: one\n\n").await.unwrap();
    assert_eq!(next_chunk(&mut answer).await, "data: one\n\n");
    tokio::time::sleep(Duration::from_millis(1000)).await;
    city.first.feed.send("data: two\n\n").await.unwrap();
    assert_eq!(next_chunk(&mut answer).await, "data: two\n\n");
}

#[tokio::test]
async fn an_event_stream_ends_with_the_session_it_belongs_to() {
    let city = City::start().await;
    let mut answer = city.get("/api/v1/events").bearer_auth(city.token()).send().await.unwrap();
    city.first.feed.send("data: one\n\n").await.unwrap();
    assert_eq!(next_chunk(&mut answer).await, "data: one\n\n");
    city.revocations.revoke_session(Uuid::from_u128(9), NOW.plus(Duration::from_secs(600)));
    assert_eq!(next_chunk(&mut answer).await, "", "the end");
}

#[tokio::test]
async fn a_tunnel_ends_when_its_token_has_expired() {
    let city = City::start().await;
    let mut stream = TcpStream::connect(city.address).await.unwrap();
    let ask = "GET /api/v1/socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    stream.write_all(format!("{ask}Authorization: Bearer {}\r\n\r\n", city.token()).as_bytes()).await.unwrap();
    let mut buffer = [0; 1024];
    assert!(stream.read(&mut buffer).await.unwrap() > 0);
    stream.write_all(b"hello").await.unwrap();
    stream.read_exact(&mut buffer[..5]).await.unwrap();
    city.clock.advance(Duration::from_secs(661));
    assert_eq!(read_to_close(&mut stream).await, "");
}

#[tokio::test]
async fn websockets_pass_and_are_not_idle_requests() {
    let city = City::start().await;
    let mut stream = TcpStream::connect(city.address).await.unwrap();
    let ask = "GET /api/v1/socket HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-User-Id: forged\r\n\r\n";
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut buffer = [0; 1024];
    let n = stream.read(&mut buffer).await.unwrap();
    let head = String::from_utf8_lossy(&buffer[..n]).to_lowercase();
    assert!(head.starts_with("http/1.1 101") && head.contains("upgrade: websocket"), "{head}");
    for pause in [0, 700] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        stream.write_all(b"hello").await.unwrap();
        stream.read_exact(&mut buffer[..5]).await.unwrap();
        assert_eq!(&buffer[..5], b"HELLO");
    }
    city.shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(3), city.server).await.expect("tunnels end with the gateway").unwrap();
}
