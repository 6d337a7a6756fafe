//! Redis stopped, frozen, slow, restarted, wrong: nobody waits for long, and it is found again without being asked for.

use std::time::{Duration, Instant};

use kernel::redis::{Away, Redis, RedisSettings};
use kernel::task::Tasks;
use kernel::testing::redis::Server;

use crate::{counted, figure, until};

const LIFE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn while_it_is_stopped_calls_fail_at_once_and_it_is_found_when_it_is_back() {
    let Some(mut server) = Server::start().await else { return };
    let redis = server.member("orders").await;
    let (used, text) = (redis.for_use("a"), counted(&redis));
    assert!(text().contains("redis_up 1\n"), "{}", text());
    used.put(&[("x".to_owned(), vec![1], LIFE)]).await.unwrap();
    let life = used.life().unwrap();
    server.kill();
    assert_eq!(used.get("x").await, Err(Away), "the connection is gone");
    assert!(text().contains("redis_up 0\n"));
    for _ in 0..1000 {
        assert_eq!(used.get("x").await, Err(Away));
    }
    assert!(figure(&text(), "redis_calls_total{use=\"a\",outcome=\"away\"}") >= 1000, "{}", text());
    assert!(figure(&text(), "redis_calls_total{use=\"a\",outcome=\"lost\"}") <= 2, "only the first was tried");
    server.start_again().await;
    until("it is back", async || redis.is_up()).await;
    assert_eq!(used.get("x").await, Ok(None), "with nothing on its disk it knows nothing");
    assert_ne!(used.life().unwrap(), life, "and that shows");
}

#[tokio::test]
async fn a_frozen_one_costs_a_few_answers_of_waiting_and_then_nothing() {
    let Some(server) = Server::start().await else { return };
    let redis = server.member("orders").await;
    let (used, text) = (redis.for_use("a"), counted(&redis));
    used.put(&[("x".to_owned(), vec![7], LIFE)]).await.unwrap();
    let life = used.life().unwrap();
    server.freeze();
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
    until("it is back", async || redis.is_up()).await;
    assert_eq!(used.get("x").await, Ok(Some(vec![7])), "it forgot nothing");
    assert_eq!(used.life().unwrap(), life, "and says so");
}

#[tokio::test]
async fn one_late_answer_is_no_outage() {
    let Some(server) = Server::start().await else { return };
    let redis = server.member("orders").await;
    let used = redis.for_use("a");
    for _ in 0..3 {
        server.freeze();
        assert_eq!(used.get("x").await, Err(Away));
        server.thaw();
        assert!(redis.is_up());
        // Its late answer must not be taken for that of the next question.
        until("it answers", async || used.put(&[("x".to_owned(), vec![9], LIFE)]).await.is_ok()).await;
        assert_eq!(used.get("x").await, Ok(Some(vec![9])));
    }
}

#[tokio::test]
async fn one_that_is_always_slow_is_left_alone() {
    let Some(server) = Server::start().await else { return };
    let redis = server.member_far_away("orders", Duration::from_millis(1500)).await;
    assert!(!redis.is_up(), "its answers take longer than anybody should wait");
    assert!(redis.stand().contains("redis.answer_ms"), "{}", redis.stand());
    let near = server.member_far_away("ledger", Duration::from_millis(2)).await;
    assert!(near.is_up());
    assert_eq!(near.for_use("a").get("x").await, Ok(None));
}

#[tokio::test]
async fn an_address_where_nobody_is_or_nobody_answers_lets_the_program_start() {
    let Some(server) = Server::start().await else { return };
    let password = server.secrets().get("redis-orders").unwrap();
    let tasks = Tasks::new();
    let open = async |url: &str| {
        let settings = RedisSettings { url: url.to_owned(), connect_ms: 200, ..RedisSettings::default() };
        Redis::open_as(&settings, "orders", &password, &tasks).await
    };
    let nobody = open("redis://127.0.0.1:1").await.unwrap();
    assert!(!nobody.is_up() && nobody.stand().contains("redis://127.0.0.1:1"), "{}", nobody.stand());
    let deaf = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let begun = Instant::now();
    let unheard = open(&format!("redis://{}", deaf.local_addr().unwrap())).await.unwrap();
    assert!(unheard.stand().contains("redis.connect_ms = 200"), "{}", unheard.stand());
    assert!(begun.elapsed() < crate::NEVER);
    let error = open("http://127.0.0.1:1").await.err().unwrap();
    assert!(error.to_string().contains("redis.url"), "{error}");
}

/// Many callers while it is wiped, frozen, killed and started again: each call ends, with the right value or with none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_no_call_hangs_or_gets_anothers_answer() {
    let Some(mut server) = Server::start().await else { return };
    let redis = server.member("orders").await;
    let tasks = Tasks::new();
    let stop = tasks.stopping();
    let callers = (0..16_u8).map(|number| {
        let (used, stop) = (redis.for_use("a"), stop.clone());
        tasks.short("caller", async move {
            let (mut right, mut without) = (0_u64, 0_u64);
            while !stop.is_cancelled() {
                let key = format!("k{number}");
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
        until("it is back", async || redis.is_up()).await;
        server.kill();
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.start_again().await;
        until("it is back", async || redis.is_up()).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    stop.cancel();
    for caller in callers {
        let (right, _) =
            tokio::time::timeout(crate::NEVER, caller).await.expect("no call hangs").unwrap().expect("no panic");
        assert!(right > 0);
    }
}
