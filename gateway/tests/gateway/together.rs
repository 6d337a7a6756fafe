//! Two gateways and a Redis between them: one limit, one list of revocations, and what each does alone.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use gateway::{Rate, Settings, Tiers};
use kernel::clock::Timestamp;
use kernel::testing::redis::Server;
use uuid::Uuid;

use crate::city::{City, NOW, settings};

const BURST: u32 = 64;
const NEVER: Duration = Duration::from_secs(20);

/// A limit whose tokens do not come back while a test runs.
fn limited() -> Settings {
    let free = Rate { per: Duration::from_secs(100_000), ..Rate::per_second("free", BURST) };
    Settings { tiers: Tiers { free, ..Tiers::default() }, ..settings() }
}

/// How many of so many requests were let in, in turns by each of the gateways.
async fn let_in(city: &City, gateways: &[SocketAddr], requests: usize) -> u32 {
    let token = city.token();
    let mut count = 0;
    for (_, gateway) in (0..requests).zip(gateways.iter().cycle()) {
        let answer = city.order_at(*gateway, &token).send().await.unwrap();
        match answer.status().as_u16() {
            200 => count += 1,
            429 => assert_eq!(answer.headers()["ratelimit-policy"], format!("\"free\";q={BURST};w=100000")),
            other => panic!("{other}"),
        }
    }
    count
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < NEVER, "after {NEVER:?} still not: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn two_gateways_give_one_limit_together() {
    let Some(server) = Server::start().await else { return };
    let city = City::sharing(limited(), Some(server.member("gateway").await)).await;
    let (second, _) = city.another(limited(), Some(server.member("gateway").await)).await;
    let count = let_in(&city, &[city.address, second], 2 * BURST as usize).await;
    assert!(count <= BURST, "{count} of a limit of {BURST}");
    assert!(count >= BURST * 7 / 8, "{count} of a limit of {BURST}");
    // What it would be without.
    let alone = City::with(limited()).await;
    let (second, _) = alone.another(limited(), None).await;
    assert_eq!(let_in(&alone, &[alone.address, second], 2 * BURST as usize).await, 2 * BURST);
}

#[tokio::test]
async fn without_redis_each_gateway_gives_its_share() {
    let Some(mut server) = Server::start().await else { return };
    let redis = server.member("gateway").await;
    let city = City::sharing(limited(), Some(redis.clone())).await;
    let (second, _) = city.another(limited(), Some(server.member("gateway").await)).await;
    city.directory.set("gateway", vec![city.address, second]);
    server.kill();
    let count = let_in(&city, &[city.address, second], 2 * BURST as usize).await;
    assert_eq!(count, BURST, "half the limit at each of two");
    let headers = city.order_at(second, &city.token()).send().await.unwrap().headers().clone();
    assert!(headers["ratelimit"].to_str().unwrap().starts_with("\"free\";r=0;t="), "{headers:?}");
    server.start_again().await;
    until("Redis is back", async || redis.is_up()).await;
    until("both use it again", async || let_in(&city, &[city.address, second], 2).await == 2).await;
}

#[tokio::test]
async fn a_frozen_redis_delays_a_few_requests_and_fails_none() {
    let Some(server) = Server::start().await else { return };
    let redis = server.member("gateway").await;
    let city = City::sharing(settings(), Some(redis.clone())).await;
    assert_eq!(city.order(&city.token()).await.0, 200);
    server.freeze();
    for number in 0..40_u128 {
        // Others each time, so that no token is held for them.
        let token = city.mint.token(|claims| claims["sub"] = Uuid::from_u128(number + 100).to_string().into());
        assert_eq!(city.order(&token).await.0, 200);
    }
    assert!(!redis.is_up());
    let metrics = city.get("/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("redis_up{service=\"gateway\"} 0"), "{metrics}");
    assert!(
        metrics.contains("redis_calls_total{service=\"gateway\",use=\"limits\",outcome=\"lost\"} 3\n"),
        "{metrics}"
    );
    server.thaw();
}

#[tokio::test]
async fn a_revocation_that_one_gateway_heard_holds_at_all_of_them() {
    let Some(mut server) = Server::start().await else { return };
    let city = City::sharing(settings(), Some(server.member("gateway").await)).await;
    let (second, _) = city.another(settings(), Some(server.member("gateway").await)).await;
    let status =
        async |gateway: SocketAddr, token: &str| city.order_at(gateway, token).send().await.unwrap().status().as_u16();
    let in_session = |session: u128| {
        let sid = Uuid::from_u128(session).to_string();
        city.mint.token(move |claims| claims["sid"] = sid.into())
    };
    // By Redis's own clock, which drops what is over.
    let until_when = kernel::clock::Clock::system().now().plus(Duration::from_secs(900));
    let revoke = |session: u128| city.revocations.revoke_session(Uuid::from_u128(session), until_when);
    let (first, later) = (in_session(1), in_session(2));
    assert_eq!((status(second, &first).await, status(second, &later).await), (200, 200));
    let begun = Instant::now();
    revoke(1);
    until("the other gateway refuses it", async || status(second, &first).await == 401).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "a revoked session works for at most ten seconds");
    assert_eq!(status(second, &later).await, 200, "and no other one");
    // One that has just started, and hears nothing from the auth service.
    let (third, _) = city.another(settings(), Some(server.member("gateway").await)).await;
    assert_eq!(status(third, &first).await, 401, "it knew before it was ready");
    // Redis loses everything: those who know tell it again.
    server.kill();
    revoke(2);
    assert_eq!(status(city.address, &later).await, 401, "what one hears counts there at once");
    server.start_again().await;
    until("the others hear of it", async || status(second, &later).await == 401 && status(third, &later).await == 401)
        .await;
    let (fourth, _) = city.another(settings(), Some(server.member("gateway").await)).await;
    assert_eq!(status(fourth, &first).await, 401, "what was revoked before the loss too");
    let text = server.tell(&["ZCARD", "gateway:revoked"]).await;
    assert!(text.starts_with(":2"), "{text}");
}

#[tokio::test]
async fn a_user_whose_tokens_were_ended_is_refused_everywhere_and_what_is_over_is_dropped() {
    let Some(server) = Server::start().await else { return };
    let city = City::sharing(settings(), Some(server.member("gateway").await)).await;
    let (second, _) = city.another(settings(), Some(server.member("gateway").await)).await;
    let token = city.token();
    let user = Uuid::from_u128(7);
    let before: Timestamp = NOW.plus(Duration::from_secs(1));
    let now = kernel::clock::Clock::system().now();
    city.revocations.revoke_session(Uuid::from_u128(99), now.minus(Duration::from_secs(60)));
    city.revocations.revoke_user(user, before, now.plus(Duration::from_secs(900)));
    let refused = async || city.order_at(second, &token).send().await.unwrap().status() == 401;
    until("the other gateway refuses the user", refused).await;
    let kept = async || server.tell(&["ZCARD", "gateway:revoked"]).await.starts_with(":1");
    until("what is over is gone", kept).await;
}
