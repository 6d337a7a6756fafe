//! Which spans there are, what they say, and how they hang together.

use kernel::telemetry::{Trace, in_trace};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

use crate::collector::{Collector, Mood, Seen};
use crate::desk::{LampLit, Thing, ended, open, want};

fn is_part_of(inner: &Seen, outer: &Seen) {
    assert_eq!(inner.span.trace_id, outer.span.trace_id, "{} and {}", inner.name(), outer.name());
    assert_eq!(inner.span.parent_span_id, outer.span.span_id, "{} in {}", inner.name(), outer.name());
    let (a, b) = (&inner.span, &outer.span);
    assert!(b.start_time_unix_nano <= a.start_time_unix_nano, "{} begins in {}", inner.name(), outer.name());
}

#[tokio::test]
async fn a_request_is_a_tree_from_the_server_to_the_event_it_sends() {
    let collector = Collector::start(Mood::Well).await;
    let room = open(&collector.endpoint(), &[]).await;
    let caller = Trace::start_sampled(true);
    assert_eq!(want(&room, "made", caller).await, 201);
    room.until("its spans are there", async || collector.seen().len() >= 6).await;
    let server = collector.only("POST /things");
    assert_eq!(server.span.trace_id, caller.trace_id);
    assert_eq!(server.span.parent_span_id, caller.span_id);
    assert_eq!((server.service.as_str(), server.span.kind()), ("desk", SpanKind::Server));
    for (key, value) in
        [("http.request.method", "POST"), ("http.route", "/things"), ("http.response.status_code", "201")]
    {
        assert_eq!(server.attribute(key).as_deref(), Some(value), "{key}");
    }
    assert!(server.span.status.is_none(), "what went well says nothing");
    let unit = collector.only("unit of work");
    is_part_of(&collector.only("guard"), &server);
    is_part_of(&unit, &server);
    assert_eq!(unit.attribute("db.system.name").as_deref(), Some("sqlite"));
    is_part_of(&collector.only("idempotency"), &unit);
    let handle = collector.only("handle");
    is_part_of(&handle, &unit);
    let sent = collector.only("send thing.made");
    is_part_of(&sent, &handle);
    assert_eq!(sent.span.kind(), SpanKind::Producer);
    assert_eq!(sent.attribute("messaging.destination.name").as_deref(), Some("desk.events"));
    assert!(sent.attribute("messaging.message.id").is_some());
    assert!(sent.span.end_time_unix_nano >= handle.span.end_time_unix_nano, "it ends with the COMMIT");
    assert_eq!(room.published().await, ["thing.made"]);
    let told = room.as_guest().get("/told/1").await;
    assert_eq!(told.body, serde_json::json!([1, caller.trace_hex()]), "what waits for the COMMIT is in the trace");
    room.finish().await;
}

#[tokio::test]
async fn an_event_is_handled_in_a_span_of_its_publishers_trace_and_what_follows_goes_on_from_there() {
    let collector = Collector::start(Mood::Well).await;
    let room = open(&collector.endpoint(), &[("ratio", "1")]).await;
    let sent = Trace::start_sampled(true);
    in_trace(sent, room.hear(LampLit(Thing::new()))).await;
    // A room delivers everything twice, so that there are two of each.
    room.until("its spans are there", async || {
        let seen = collector.seen();
        ["process lamp.lit", "send lamp.seen", "dust the lamp"]
            .iter()
            .all(|name| seen.iter().any(|s| s.name() == *name))
    })
    .await;
    let seen = collector.seen();
    let first = |name: &str| seen.iter().find(|seen| seen.name() == name).unwrap();
    let process = first("process lamp.lit");
    assert_eq!(process.span.trace_id, sent.trace_id);
    assert_eq!(process.span.parent_span_id, sent.span_id);
    assert_eq!(process.span.kind(), SpanKind::Consumer);
    is_part_of(first("send lamp.seen"), process);
    let dusted = first("dust the lamp");
    assert_eq!(dusted.span.trace_id[..4], [0x4b, 0xf9, 0x2f, 0x35], "a row's trace goes on");
    assert_eq!(dusted.span.links.len(), 1);
    let linked = dusted.span.links[0].span_id.clone();
    let is_it = |seen: &Seen| seen.span.span_id == linked && seen.name() == "job dust";
    room.until("the job's span ends after those in it", async || collector.seen().iter().any(is_it)).await;
    let job = collector.seen().into_iter().find(is_it).unwrap();
    assert!(job.span.parent_span_id.is_empty() && job.span.trace_id != sent.trace_id, "a job begins a trace");
    room.finish().await;
}

#[tokio::test]
async fn an_event_that_was_rolled_back_leaves_no_span_and_nothing_is_told() {
    let collector = Collector::start(Mood::Well).await;
    let room = open(&collector.endpoint(), &[]).await;
    assert_eq!(want(&room, "refused", Trace::start_sampled(true)).await, 409);
    assert_eq!(want(&room, "broken", Trace::start_sampled(true)).await, 500);
    room.until("both requests are there", async || {
        collector.seen().iter().filter(|seen| seen.name() == "POST /things").count() == 2
    })
    .await;
    assert!(!collector.seen().iter().any(|seen| seen.name() == "send thing.made"));
    assert_eq!(room.as_guest().get("/told/1").await.body[0], 0);
    let failed: Vec<Seen> = collector.seen().into_iter().filter(|seen| seen.span.status.is_some()).collect();
    let names: Vec<&str> = failed.iter().map(Seen::name).collect();
    assert_eq!(names, ["POST /things"], "a refusal is an answer, a fault is a failure");
    assert_eq!(failed[0].span.status.as_ref().unwrap().code(), StatusCode::Error);
    assert_eq!(failed[0].attribute("error.type").as_deref(), Some("500"));
    room.finish().await;
}

#[tokio::test]
async fn of_a_trace_that_is_not_wanted_only_what_failed_is_sent() {
    let collector = Collector::start(Mood::Well).await;
    let room = open(&collector.endpoint(), &[]).await;
    let unwanted = Trace::start_sampled(false);
    assert_eq!(want(&room, "made", unwanted).await, 201);
    assert_eq!(want(&room, "broken", unwanted).await, 500);
    room.until("the failure is there", async || !collector.seen().is_empty()).await;
    let only = collector.only("POST /things");
    assert_eq!((only.span.trace_id.as_slice(), collector.seen().len()), (unwanted.trace_id.as_slice(), 1));
    room.finish().await;
}

#[tokio::test]
async fn the_ratio_decides_about_traces_that_begin_here_and_not_about_others() {
    let collector = Collector::start(Mood::Well).await;
    let room = open(&collector.endpoint(), &[]).await;
    in_trace(Trace::start_sampled(true), room.hear(LampLit(Thing::new()))).await;
    room.until("what the publisher wants is there", async || {
        collector.seen().iter().any(|seen| seen.name() == "dust the lamp")
    })
    .await;
    assert!(!collector.seen().iter().any(|seen| seen.name().starts_with("job ")), "a job begins a trace");
    room.finish().await;
}

#[tokio::test]
async fn a_service_that_stops_sends_what_is_left() {
    let collector = Collector::start(Mood::Well).await;
    // Longer than the test: nothing would be sent before the end.
    let room = open(&collector.endpoint(), &[("every_ms", "600000")]).await;
    assert_eq!(want(&room, "made", Trace::start_sampled(true)).await, 201);
    assert_eq!((collector.seen().len(), ended(&room, "exported").await), (0, 0));
    room.finish().await;
    assert!(collector.seen().iter().any(|seen| seen.name() == "send thing.made"));
}
