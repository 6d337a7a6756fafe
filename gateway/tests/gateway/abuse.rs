//! Peers that lie, stall or send too much.

use std::time::Duration;

use gateway::Settings;
use kernel::http::server::Limits;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::city::{City, read_to_close, settings};

#[tokio::test]
async fn forged_identity_headers_never_arrive_however_they_are_spelt() {
    let city = City::start().await;
    let forged = [
        "X-User-Id",
        "x-user-id",
        "X_User_Id",
        "X-USER_ROLES",
        "X-User-Email",
        "X-Org-Ids",
        "x_org_ids",
        "X-Internal-Assertion",
        "X_Internal_Assertion",
        "X-Auth-Time",
        "X-Session-Id",
        "X-Forwarded-Host",
        "X_Forwarded_For",
        "Forwarded",
        "X-Real-IP",
        "X_Real_IP",
        "Baggage",
        "X-User-Anything",
    ];
    let lines: String = forged.iter().map(|name| format!("{name}: forged\r\n")).collect();
    let ask = format!("GET /api/v1/menu HTTP/1.1\r\nHost: a\r\n{lines}Connection: close, x-internal-assertion\r\n\r\n");
    let answer = city.raw(ask).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(!answer.contains("forged"), "{answer}");
    let seen: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert!(seen["headers"]["x-internal-assertion"][0].as_str().unwrap().starts_with("v1."), "ours is there: {seen}");
    assert!(seen["headers"]["x-user-id"].is_null());
    assert_eq!(seen["headers"]["x-forwarded-for"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn paths_with_two_readings_are_refused() {
    let city = City::start().await;
    let tricks = [
        "//api/v1/menu",
        "/api//v1/menu",
        "/api/v1/../v1/menu",
        "/api/v1/%2e%2e/menu",
        "/api/v1%2fmenu",
        "/api/v1/%5cmenu",
        "/api/v1/menu%00",
    ];
    for path in tricks {
        let answer = city.raw(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("malformed_request"), "{path}: {answer}");
    }
    assert_eq!(city.first.hits(), 0);
}

#[tokio::test]
async fn requests_with_two_ends_or_two_hosts_are_refused_and_closed() {
    let city = City::start().await;
    let post = |headers: &str| format!("POST /api/v1/upload HTTP/1.1\r\n{headers}\r\n\r\n0\r\n\r\n");
    for headers in [
        "Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
        "Host: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5",
        "Host: a\r\nContent-Length: 5\r\nContent-Length: 5",
        "Host: a\r\nContent-Length: 5\r\nContent-Length: 6",
        "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Host: a\r\nHost: b\r\nContent-Length: 5\r\nConnection: close",
        "X: no host\r\nContent-Length: 5\r\nConnection: close",
    ] {
        let answer = city.raw(post(headers)).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{headers}: {answer}");
    }
    let two_names = city.raw("GET http://b/api/v1/menu HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(two_names.starts_with("HTTP/1.1 400"), "{two_names}");
    let chunk = "POST /api/v1/upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n";
    assert!(city.raw(chunk).await.starts_with("HTTP/1.1 400"));
}

#[tokio::test]
async fn what_is_too_large_is_refused_by_its_own_status() {
    let city = City::start().await;
    let status = |answer: String| answer.split(' ').nth(1).unwrap_or_default().to_owned();
    let body = "POST /api/v1/upload HTTP/1.1\r\nHost: a\r\nContent-Length: 262145\r\n\r\n";
    assert_eq!(status(city.raw(body).await), "413");
    let uri = format!("GET /api/v1/menu?{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(8200));
    assert_eq!(status(city.raw(uri).await), "414");
    let headers = format!("GET /api/v1/menu HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(16_400));
    assert_eq!(status(city.raw(headers).await), "431");
    let mut stream = TcpStream::connect(city.address).await.unwrap();
    stream.write_all(b"POST /api/v1/upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    let chunk = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
    for _ in 0..9 {
        if stream.write_all(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    assert_eq!(status(read_to_close(&mut stream).await), "413", "chunks count as well");
}

#[tokio::test]
async fn slow_peers_are_let_go_and_others_do_not_notice() {
    let city = City::start().await;
    let slow = [
        "",
        "GET /api/v1/menu HTTP/1.1\r\nHost: a\r\n",
        "POST /api/v1/upload HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc",
    ];
    let peers = futures::future::join_all((0..60).map(|n| city.raw(slow[n % 3])));
    let good = async {
        for _ in 0..20 {
            assert_eq!(city.get("/api/v1/menu").send().await.unwrap().status(), 200);
        }
    };
    let (answers, ()) = tokio::join!(peers, good);
    for (n, answer) in answers.iter().enumerate() {
        match n % 3 {
            2 => assert!(answer.starts_with("HTTP/1.1 408"), "{answer}"),
            _ => assert_eq!(answer, ""),
        }
    }
}

#[tokio::test]
async fn one_address_has_a_share_of_the_connections() {
    let limits = Limits { max_connections_per_ip: Some(2), keep_alive: Duration::from_secs(5), ..settings().limits };
    let city = City::with(Settings { limits, ..settings() }).await;
    assert_eq!(city.get("/livez").send().await.unwrap().status(), 200, "one is kept open by the client");
    let mut second = TcpStream::connect(city.address).await.unwrap();
    second.write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut byte = [0];
    tokio::io::AsyncReadExt::read_exact(&mut second, &mut byte).await.unwrap();
    assert_eq!(city.raw("GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").await, "", "a third one is not");
}
