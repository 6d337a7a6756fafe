//! Against a real Redis that each test starts for itself: what is allowed, what is counted, and what goes on without it.
#![cfg(feature = "redis")]

mod answers;
mod away;
mod limits;
mod locks;
mod users;

use std::time::{Duration, Instant};

use kernel::redis::Redis;

/// How long anything may take before it counts as never.
const NEVER: Duration = Duration::from_secs(20);

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < NEVER, "after {NEVER:?} still not: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Everything it counts, as text.
fn counted(redis: &Redis) -> impl Fn() -> String {
    let mut registry = prometheus_client::registry::Registry::default();
    redis.register(&mut registry);
    move || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }
}

/// The number behind the first line that begins so; none counts as zero.
fn figure(text: &str, start: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(start));
    line.and_then(|rest| rest.trim().parse().ok()).unwrap_or(0)
}
