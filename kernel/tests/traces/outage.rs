//! No collector, a dead one, a slow one, one that refuses: requests go on, spans beyond the queue are dropped and counted.

use std::time::Duration;

use kernel::telemetry::Trace;
use kernel::testing::room::Room;

use crate::collector::{Collector, Mood};
use crate::desk::{counted, ended, open, want};

/// So many that neither queue nor batch could hold their spans.
const REQUESTS: usize = 30;
/// The six spans of a request are a batch, whenever they come.
const ONE_REQUEST: &[(&str, &str)] = &[("batch", "6"), ("every_ms", "600000")];
const SMALL: &[(&str, &str)] = &[("queue", "20"), ("batch", "10"), ("timeout_ms", "300")];

async fn make_many(room: &Room) {
    for _ in 0..REQUESTS {
        assert_eq!(want(room, "made", Trace::start_sampled(true)).await, 201);
    }
}

/// Whatever became of a span, it was counted: none is lost without a trace, and no more wait than the queue holds.
async fn all_is_accounted_for(room: &Room) {
    let spans_of_a_request = 6;
    let all = i64::try_from(REQUESTS * spans_of_a_request).unwrap();
    let mut sum = 0;
    for outcome in ["exported", "queue_full", "refused", "undelivered", "late"] {
        sum += ended(room, outcome).await;
    }
    // In the queue and in the batch that is being sent; the job's own runs are spans, too.
    let waiting = all - sum;
    assert!(waiting <= 20 + 10, "{waiting} spans are neither sent nor counted");
    assert!(counted(room, "trace_spans_queued{service=\"desk\"}").await <= 20);
}

#[tokio::test]
async fn a_collector_that_is_not_there_costs_spans_and_nothing_else() {
    // A port that was free a moment ago, and that nobody listens on.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let room = open(&format!("http://{nobody}"), SMALL).await;
    make_many(&room).await;
    assert!(ended(&room, "queue_full").await > 0);
    all_is_accounted_for(&room).await;
    room.finish().await;
}

#[tokio::test]
async fn a_collector_that_never_answers_holds_up_no_request_and_no_stop() {
    let collector = Collector::start(Mood::Silent).await;
    let room = open(&collector.endpoint(), SMALL).await;
    make_many(&room).await;
    assert!(collector.requests() > 0, "it was asked while requests went on");
    assert!(ended(&room, "queue_full").await > 0);
    all_is_accounted_for(&room).await;
    let stopped = tokio::time::timeout(Duration::from_secs(20), room.finish()).await;
    assert!(stopped.is_ok(), "the last try takes no longer than any other");
}

#[tokio::test]
async fn a_collector_that_asks_for_time_gets_the_same_spans_later() {
    for busy in [429, 503] {
        let collector = Collector::start(Mood::Busy(busy)).await;
        let room = open(&collector.endpoint(), ONE_REQUEST).await;
        assert_eq!(want(&room, "made", Trace::start_sampled(true)).await, 201);
        room.until("it was asked", async || collector.requests() > 0).await;
        assert!(collector.seen().is_empty());
        collector.becomes(Mood::Well);
        room.until("it was asked again", async || !collector.seen().is_empty()).await;
        collector.only("POST /things");
        assert_eq!(ended(&room, "refused").await, 0);
        room.finish().await;
    }
}

#[tokio::test]
async fn what_a_collector_refuses_is_counted_and_not_sent_again() {
    for (mood, refused) in [(Mood::Foreign, 6), (Mood::Picky(2), 2)] {
        let collector = Collector::start(mood).await;
        let room = open(&collector.endpoint(), ONE_REQUEST).await;
        assert_eq!(want(&room, "made", Trace::start_sampled(true)).await, 201);
        room.until("it is counted", async || ended(&room, "refused").await == refused).await;
        let requests = collector.requests();
        collector.becomes(Mood::Well);
        assert_eq!(want(&room, "made", Trace::start_sampled(true)).await, 201);
        room.until("the next ones are taken", async || ended(&room, "exported").await >= 6).await;
        assert_eq!((collector.requests(), requests), (2, 1), "{mood:?}");
        assert_eq!(ended(&room, "refused").await, refused, "{mood:?}");
        room.finish().await;
    }
}

#[tokio::test]
async fn without_an_endpoint_there_is_nothing_that_makes_or_counts_spans() {
    let room = open("", &[]).await;
    assert_eq!(want(&room, "made", Trace::start_sampled(true)).await, 201);
    let page = reqwest::get(format!("http://{}/metrics", room.address())).await.unwrap().text().await.unwrap();
    assert!(!page.contains("trace_spans"), "{page}");
    room.finish().await;
}
