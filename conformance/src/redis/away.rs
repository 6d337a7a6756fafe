//! Redis stopped, frozen, slow, restarted: nobody waits for long, and it is found again without being asked for.

use std::time::Duration;

use kernel::redis::Away;
use kernel::task::Tasks;

use super::{counted, figure, server};
use crate::place::Place;

const LIFE: Duration = Duration::from_secs(60);

pub(super) async fn stopped(place: Place) -> String {
    let mut server = server().await;
    let redis = server.member("orders").await;
    let (used, text) = (redis.for_use("a"), counted(&redis));
    assert!(text().contains("redis_up 1\n"), "{}", text());
    used.put(&[("x".to_owned(), vec![1], LIFE)]).await.expect("Redis answers");
    let life = used.life().expect("Redis answers");
    if !place.seeded {
        server.kill();
    }
    assert_eq!(used.get("x").await, Err(Away), "the connection is gone");
    assert!(text().contains("redis_up 0\n"));
    for _ in 0..1000 {
        assert_eq!(used.get("x").await, Err(Away));
    }
    assert!(figure(&text(), "redis_calls_total{use=\"a\",outcome=\"away\"}") >= 1000, "{}", text());
    assert!(figure(&text(), "redis_calls_total{use=\"a\",outcome=\"lost\"}") <= 2, "only the first was tried");
    server.start_again().await;
    place.until("it is back", async || redis.is_up()).await;
    assert_eq!(used.get("x").await, Ok(None), "with nothing on its disk it knows nothing");
    assert_ne!(used.life().expect("Redis answers"), life, "and that shows");
    "1001 calls refused at once, found again by itself".to_owned()
}

pub(super) async fn frozen(place: Place) -> String {
    let server = server().await;
    let redis = server.member("orders").await;
    let (used, text) = (redis.for_use("a"), counted(&redis));
    used.put(&[("x".to_owned(), vec![7], LIFE)]).await.expect("Redis answers");
    let life = used.life().expect("Redis answers");
    if !place.seeded {
        server.freeze();
    }
    let mut tried = 0;
    while redis.is_up() {
        assert_eq!(used.get("x").await, Err(Away));
        tried += 1;
        assert!(tried < 10, "it counts as away after a few late answers");
    }
    assert_eq!(tried, 3);
    for _ in 0..1000 {
        assert_eq!(used.get("x").await, Err(Away));
    }
    let lost = figure(&text(), "redis_calls_total{use=\"a\",outcome=\"lost\"}");
    assert_eq!(lost, 3, "nobody waited after that: {}", text());
    server.thaw();
    place.until("it is back", async || redis.is_up()).await;
    assert_eq!(used.get("x").await, Ok(Some(vec![7])), "it forgot nothing");
    assert_eq!(used.life().expect("Redis answers"), life, "and says so");
    format!("{tried} calls waited, 1000 did not, nothing forgotten")
}

pub(super) async fn late(place: Place) -> String {
    let server = server().await;
    let redis = server.member("orders").await;
    let used = redis.for_use("a");
    for _ in 0..3 {
        server.freeze();
        for _ in 0..if place.seeded { 3 } else { 1 } {
            assert_eq!(used.get("x").await, Err(Away));
        }
        server.thaw();
        assert!(redis.is_up(), "it counts as away");
        // Its late answer must not be taken for that of the next question.
        place.until("it answers", async || used.put(&[("x".to_owned(), vec![9], LIFE)]).await.is_ok()).await;
        assert_eq!(used.get("x").await, Ok(Some(vec![9])));
    }
    "3 late answers, 0 outages, 0 answers of another question".to_owned()
}

pub(super) async fn slow(place: Place) -> String {
    let server = server().await;
    let redis = server.member_far_away("orders", Duration::from_millis(if place.seeded { 2 } else { 1500 })).await;
    assert!(!redis.is_up(), "its answers take longer than anybody should wait");
    assert!(redis.stand().contains("redis.answer_ms"), "{}", redis.stand());
    let near = server.member_far_away("ledger", Duration::from_millis(2)).await;
    assert!(near.is_up());
    assert_eq!(near.for_use("a").get("x").await, Ok(None));
    "left alone at 1500 ms, used at 2 ms".to_owned()
}

/// Many callers while it is wiped, frozen, killed and started again: each call ends, with the right value or with none.
pub(super) async fn load(place: Place) -> String {
    let mut server = server().await;
    let redis = server.member("orders").await;
    let (tasks, seeded) = (Tasks::new(), place.seeded);
    let stop = tasks.stopping();
    let callers = (0..16_u8).map(|number| {
        let (used, stop) = (redis.for_use("a"), stop.clone());
        tasks.short("caller", async move {
            let (mut right, mut without) = (0_u64, 0_u64);
            while !stop.is_cancelled() {
                // The planted fault: two who use one key.
                let key = format!("k{}", if seeded { 0 } else { number });
                let put = used.put(&[(key.clone(), vec![number; 64], LIFE)]).await;
                match used.get(&key).await {
                    Ok(Some(value)) => {
                        assert_eq!(value, vec![number; 64], "another's answer");
                        right += 1;
                    }
                    Ok(None) | Err(Away) => without += 1,
                }
                if put.is_err() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            (right, without)
        })
    });
    let callers: Vec<_> = callers.collect();
    for _ in 0..3 {
        server.wipe().await;
        server.freeze();
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.thaw();
        place.until("it is back", async || redis.is_up()).await;
        server.kill();
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.start_again().await;
        place.until("it is back", async || redis.is_up()).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    stop.cancel();
    let mut answers = 0;
    for caller in callers {
        let ended = tokio::time::timeout(super::NEVER, caller).await.expect("no call hangs").expect("Redis answers");
        let (right, _) = ended.expect("no panic");
        assert!(right > 0, "a caller got nothing right");
        answers += right;
    }
    format!("16 callers, 3 wipes, freezes and kills, {answers} right answers, 0 of another")
}
