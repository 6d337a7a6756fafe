//! Against a real Redis that each test starts for itself: what is allowed, and what is no case of `conformance`.
#![cfg(feature = "redis")]

mod answers;
mod away;
mod users;

use std::time::{Duration, Instant};

/// How long anything may take before it counts as never.
const NEVER: Duration = Duration::from_secs(20);

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < NEVER, "after {NEVER:?} still not: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
