//! A limit that two processes share: together they let through what one would, by Redis's clock.

use std::time::{Duration, Instant};

use kernel::limit::{SharedLimit, Taken};
use kernel::redis::{Away, Redis};
use kernel::testing::redis::Server;

use super::{counted, figure, server};
use crate::place::Place;

const PER: Duration = Duration::from_secs(1);

fn limit(redis: &Redis, burst: u32, per: Duration) -> SharedLimit<String> {
    SharedLimit::new(redis, "test", burst, per)
}

/// The limit of the second process; the planted fault is one that only that process knows.
fn second(place: &Place, redis: &Redis, burst: u32, per: Duration) -> SharedLimit<String> {
    SharedLimit::new(redis, if place.seeded { "own" } else { "test" }, burst, per)
}

/// Two processes with connections of their own.
async fn pair(server: &Server) -> (Redis, Redis) {
    (server.member("gateway").await, server.member("gateway").await)
}

pub(super) async fn together(place: Place) -> String {
    const BURST: u32 = 160;
    let server = server().await;
    let (one, two) = pair(&server).await;
    let (one, two) = (limit(&one, BURST, PER), second(&place, &two, BURST, PER));
    let key = "ann".to_owned();
    let begun = Instant::now();
    let storm = async |limit: &SharedLimit<String>| {
        let mut let_in = 0_u32;
        while begun.elapsed() < PER * 2 {
            match limit.take(&key).await.expect("Redis answers") {
                Taken::One { .. } => let_in += 1,
                Taken::NotBefore(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
        let_in
    };
    let (first, second) = tokio::join!(storm(&one), storm(&two));
    let seconds = begun.elapsed().as_secs_f64();
    let most = f64::from(BURST) * (1.0 + seconds);
    let all = f64::from(first + second);
    assert!(all <= most, "{first} + {second} in {seconds} s is more than {most}");
    assert!(all >= f64::from(BURST) * 1.5, "and not much less: {first} + {second}");
    assert!(first > 0 && second > 0);
    format!("{first} + {second} let in within {seconds:.1} s, at most {most:.0}")
}

/// The same after a quiet time in which each process kept a block for itself.
pub(super) async fn blocks(place: Place) -> String {
    const BURST: u32 = 160;
    let server = server().await;
    let (one, two) = pair(&server).await;
    let long = Duration::from_secs(100_000);
    let (one, two) = (limit(&one, BURST, long), second(&place, &two, BURST, long));
    let key = "ann".to_owned();
    let mut let_in = 0;
    for limit in [&one, &two, &one, &two] {
        while let Taken::One { .. } = limit.take(&key).await.expect("Redis answers") {
            let_in += 1;
            assert!(let_in <= BURST, "more than a burst");
        }
    }
    assert!(let_in >= BURST * 7 / 8, "{let_in} of {BURST}");
    let Taken::NotBefore(wait) = one.take(&key).await.expect("Redis answers") else { panic!("it is empty") };
    assert!(wait <= long / BURST, "the next token comes within one interval: {wait:?}");
    assert!(matches!(two.take(&"bob".to_owned()).await, Ok(Taken::One { .. })), "others have their own");
    format!("{let_in} let in of {BURST}, by 2 processes")
}

pub(super) async fn quiet(place: Place) -> String {
    let server = server().await;
    let redis = server.member("gateway").await;
    let (shared, text) = (limit(&redis, 1600, PER), counted(&redis));
    for _ in 0..600 {
        let shared = if place.seeded { &limit(&redis, 1600, PER) } else { &shared };
        assert!(matches!(shared.take(&"ann".to_owned()).await, Ok(Taken::One { .. })));
    }
    let asked = figure(&text(), "redis_calls_total{use=\"limits\",outcome=\"answered\"}");
    assert!(asked <= 10, "{asked} round trips for 600 requests");
    format!("{asked} questions for 600 requests")
}

pub(super) async fn clock(place: Place) -> String {
    let server = server().await;
    let redis = server.member("gateway").await;
    let limit = limit(&redis, 10, Duration::from_secs(1000));
    limit.take(&"ann".to_owned()).await.expect("Redis answers");
    let time = server.tell(&["TIME"]).await;
    let numbers: Vec<i64> = time.lines().filter_map(|line| line.trim().parse().ok()).collect();
    if place.seeded {
        server.tell(&["SET", "gateway:limit:test:ann", "1"]).await;
    }
    let stored = server.tell(&["GET", "gateway:limit:test:ann"]).await;
    let arrival: i64 = stored.lines().nth(1).expect("Redis answers").trim().parse().expect("Redis answers");
    let now = numbers[0] * 1_000_000 + numbers[1];
    let ahead = arrival - now;
    assert!((50_000_000..=100_000_000).contains(&ahead), "one token of 100 s, by its own clock: {ahead} µs");
    // A clock that was an hour ahead when it wrote must not lock the key out for that hour.
    let future = (now + 3_600_000_000_i64).to_string();
    server.tell(&["SET", "gateway:limit:test:bob", &future]).await;
    let Taken::NotBefore(wait) = limit.take(&"bob".to_owned()).await.expect("Redis answers") else {
        panic!("its bucket is empty")
    };
    assert!(wait <= Duration::from_secs(100), "{wait:?}");
    "1 token ahead by its own clock, an hour of another's forgiven".to_owned()
}

pub(super) async fn away(place: Place) -> String {
    let mut server = server().await;
    let redis = server.member("gateway").await;
    let limit = limit(&redis, 10, Duration::from_secs(100_000));
    let key = "ann".to_owned();
    while matches!(limit.take(&key).await.expect("Redis answers"), Taken::One { .. }) {}
    server.wipe().await;
    assert!(matches!(limit.take(&key).await, Ok(Taken::One { .. })), "its scripts are sent anew");
    if !place.seeded {
        server.kill();
    }
    assert_eq!(limit.take(&key).await, Err(Away));
    assert_eq!(limit.take(&key).await, Err(Away));
    server.start_again().await;
    place.until("it is back", async || redis.is_up()).await;
    assert!(matches!(limit.take(&key).await, Ok(Taken::One { .. })));
    "wiped, killed and back: each said".to_owned()
}
