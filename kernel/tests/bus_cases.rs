//! The cases of the bus, on each store and each bus there is; and each of them fails when its fault is planted.

use kernel::testing::cases::{CASES, Case, Stage};

#[expect(clippy::disallowed_methods, reason = "where the engines are is told by the environment of the test run")]
fn told(name: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        let required = std::env::var("FX_TEST_REQUIRE_ENGINES").is_ok_and(|required| required == "1");
        assert!(!required, "{name} is not set");
        println!("skipped: {name} is not set");
    }
    value
}

/// Runs every case on stages made anew for each of them, a few at a time, and gives what went wrong.
async fn play<F: Future<Output = Result<Stage, String>>>(wanted: Result<(), ()>, stage: impl Fn() -> F) {
    use futures::StreamExt as _;
    let runs = CASES.iter().map(|case: &Case| {
        let stage = stage();
        async move {
            let stage = stage.await.unwrap();
            if let Some(why) = case.missing(&stage) {
                println!("{}: left out, {why}", case.name);
                return None;
            }
            Some((case.name, case.run(&stage).await))
        }
    });
    let ended: Vec<_> = futures::stream::iter(runs).buffer_unordered(4).filter_map(std::future::ready).collect().await;
    assert!(ended.len() + 1 >= CASES.len(), "hardly anything was played");
    for (name, outcome) in &ended {
        println!("{name}: {outcome:?}");
    }
    let wrong: Vec<_> = ended.iter().filter(|(_, outcome)| outcome.is_ok() != wanted.is_ok()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_keeps_every_promise_on_sqlite() {
    play(Ok(()), || async { Stage::on_stream(None, false) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_stream_keeps_every_promise_on_postgres() {
    let Some(postgres) = told("FX_TEST_POSTGRES") else { return };
    play(Ok(()), || async { Stage::on_stream(Some(postgres.clone()), false) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_finds_its_planted_fault_on_the_stream() {
    play(Err(()), || async { Stage::on_stream(None, true) }).await;
}

#[cfg(feature = "kafka")]
mod kafka {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn kafka_keeps_every_promise_on_sqlite() {
        let Some(brokers) = told("FX_TEST_KAFKA") else { return };
        play(Ok(()), || Stage::on_kafka(None, &brokers, false)).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn kafka_keeps_every_promise_on_postgres() {
        let (Some(brokers), Some(postgres)) = (told("FX_TEST_KAFKA"), told("FX_TEST_POSTGRES")) else { return };
        play(Ok(()), || Stage::on_kafka(Some(postgres.clone()), &brokers, false)).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_case_finds_its_planted_fault_on_kafka() {
        let Some(brokers) = told("FX_TEST_KAFKA") else { return };
        play(Err(()), || Stage::on_kafka(None, &brokers, true)).await;
    }
}
