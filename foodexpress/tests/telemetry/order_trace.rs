//! One order's spans through the whole city: the steps of a request in their order, every hop over the bus hung on its
//! publisher. Looked at twice: as they are sent, and as a real Jaeger gives them back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Plain;
use prost::Message as _;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::city::City;
use crate::watching::{skip, told};

/// A span, wherever it was read.
#[derive(Clone, Debug)]
struct Step {
    service: String,
    name: String,
    trace: String,
    id: String,
    parent: String,
    kind: i64,
    start: u64,
}

const SERVER: i64 = 2;
const CLIENT: i64 = 3;
const PRODUCER: i64 = 4;
const CONSUMER: i64 = 5;

/// A trace with its steps by identity.
struct Tree {
    steps: BTreeMap<String, Step>,
}

impl Tree {
    fn of(steps: Vec<Step>) -> Self {
        Self { steps: steps.into_iter().map(|step| (step.id.clone(), step)).collect() }
    }

    /// The steps directly inside one, in the order they began.
    fn inside(&self, outer: &Step) -> Vec<&Step> {
        let mut inside: Vec<&Step> = self.steps.values().filter(|step| step.parent == outer.id).collect();
        inside.sort_by_key(|step| step.start);
        inside
    }

    fn child(&self, outer: &Step, name: &str) -> &Step {
        let inside = self.inside(outer);
        let found = inside.iter().find(|step| step.name == name);
        found.unwrap_or_else(|| {
            panic!("no {name} in {} but {:?}", outer.name, inside.iter().map(|s| &s.name).collect::<Vec<_>>())
        })
    }

    fn of_kind(&self, kind: i64) -> impl Iterator<Item = &Step> {
        self.steps.values().filter(move |step| step.kind == kind)
    }

    /// Whether everything that an order leads to is there, down to the message about its payment.
    fn is_whole(&self) -> bool {
        let named = |service: &str, name: &str| self.steps.values().any(|s| s.service == service && s.name == name);
        named("gateway", "POST /api/v1/orders")
            && named("orders", "process payment.authorized")
            && named("orders", "process inventory.reserved")
            && named("notifications", "send notification.sent")
    }
}

/// The flow of a request, and of what it sets off.
fn check(tree: &Tree) {
    let roots: Vec<&Step> = tree.steps.values().filter(|step| !tree.steps.contains_key(&step.parent)).collect();
    assert_eq!(roots.len(), 1, "everything hangs on one root: {roots:?}");
    let root = roots[0];
    assert_eq!((root.service.as_str(), root.name.as_str()), ("gateway", "POST /api/v1/orders"));
    assert_eq!((root.parent.as_str(), root.kind), ("", SERVER));
    let names: Vec<&str> = tree.inside(root).iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["limit", "authenticate", "limit", "authorise", "route orders"]);
    let call = tree.child(tree.child(root, "route orders"), "POST");
    assert_eq!(call.kind, CLIENT);
    let server = tree.child(call, "POST /api/v1/orders");
    assert_eq!((server.service.as_str(), server.kind), ("orders", SERVER));
    let names: Vec<&str> = tree.inside(server).iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["guard", "unit of work"]);
    let unit = tree.child(server, "unit of work");
    let names: Vec<&str> = tree.inside(unit).iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["idempotency", "handle"]);
    tree.child(tree.child(unit, "handle"), "send order.created");
    the_bus(tree);
    the_provider(tree);
}

/// Whoever handles an event does so under the step that sent that very event, in another service.
fn the_bus(tree: &Tree) {
    let mut hops = BTreeSet::new();
    for process in tree.of_kind(CONSUMER) {
        let sent = &tree.steps[&process.parent];
        let event = process.name.strip_prefix("process ").unwrap();
        assert_eq!((sent.name.as_str(), sent.kind), (format!("send {event}").as_str(), PRODUCER), "{process:?}");
        assert_ne!(sent.service, process.service, "{process:?}");
        assert!(sent.start <= process.start, "{process:?}");
        hops.insert((sent.service.as_str(), event, process.service.as_str()));
    }
    for hop in [
        ("orders", "order.created", "payments"),
        ("orders", "order.created", "kitchen"),
        ("payments", "payment.authorized", "orders"),
        ("kitchen", "inventory.reserved", "orders"),
    ] {
        assert!(hops.contains(&hop), "{hop:?} is not among {hops:?}");
    }
    let services: BTreeSet<&str> = tree.steps.values().map(|step| step.service.as_str()).collect();
    for service in ["gateway", "orders", "payments", "kitchen", "notifications"] {
        assert!(services.contains(service), "{service} is not among {services:?}");
    }
}

fn the_provider(tree: &Tree) {
    let asking = tree.steps.values().filter(|step| step.name == "ask the provider");
    let called = asking.flat_map(|step| tree.inside(step)).find(|step| step.name == "POST /v1/authorizations");
    let called = called.expect("the money is asked for");
    assert_eq!((called.service.as_str(), called.kind), ("payments", CLIENT));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn steps_of(sent: ExportTraceServiceRequest) -> Vec<Step> {
    let mut steps = Vec::new();
    for of_service in sent.resource_spans {
        let resource = of_service.resource.unwrap();
        let name = resource.attributes.into_iter().find(|pair| pair.key == "service.name").unwrap();
        let Some(Plain::StringValue(service)) = name.value.unwrap().value else { panic!("a service's name is text") };
        for span in of_service.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let (trace, id, parent) = (hex(&span.trace_id), hex(&span.span_id), hex(&span.parent_span_id));
            let (kind, start) = (span.kind.into(), span.start_time_unix_nano);
            steps.push(Step { service: service.clone(), name: span.name, trace, id, parent, kind, start });
        }
    }
    steps
}

/// Runs an order through a city that sends its spans there; gives the order's trace and ends the city, spans and all.
async fn order_through(endpoint: &str) -> String {
    let city = City::up(&[format!("traces.endpoint={endpoint}"), "traces.every_ms=100".to_owned()]).await;
    let order = city.run(&["demo", "order"]).await.pop().unwrap();
    assert_eq!(order["status"], "DELIVERED");
    let why = city.run(&["why", order["order_id"].as_str().unwrap()]).await.pop().unwrap();
    assert_eq!(why["trace_id"], order["trace_id"], "`why` names the trace that a collector knows");
    city.stop().await;
    order["trace_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_order_is_one_trace_from_the_gateway_to_the_last_message() {
    async fn take(State(seen): State<mpsc::UnboundedSender<Step>>, body: Bytes) {
        let sent = ExportTraceServiceRequest::decode(body).expect("what is sent is a request for spans to be taken");
        steps_of(sent).into_iter().for_each(|step| seen.send(step).unwrap());
    }
    let (seen, mut steps) = mpsc::unbounded_channel();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/v1/traces", post(take)).with_state(seen);
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let trace = order_through(&endpoint).await;
    let mut all = Vec::new();
    while let Ok(step) = steps.try_recv() {
        all.push(step);
    }
    server.abort();
    let tree = Tree::of(all.into_iter().filter(|step| step.trace == trace).collect());
    assert!(tree.is_whole(), "a city that has stopped has sent everything");
    check(&tree);
}

/// The same from a real collector, which `FX_TEST_JAEGER` (OTLP over HTTP) and `FX_TEST_JAEGER_QUERY` name.
#[tokio::test]
async fn jaeger_gives_the_trace_of_an_order_back() {
    let (Some(endpoint), Some(query)) = (told("FX_TEST_JAEGER"), told("FX_TEST_JAEGER_QUERY")) else {
        return skip("no trace is read back from Jaeger: FX_TEST_JAEGER and FX_TEST_JAEGER_QUERY are not set");
    };
    let trace = order_through(&endpoint).await;
    let began = std::time::Instant::now();
    let tree = loop {
        let tree = Tree::of(read_back(&query, &trace).await);
        if tree.is_whole() {
            break tree;
        }
        let there: Vec<&str> = tree.steps.values().map(|step| step.name.as_str()).collect();
        assert!(began.elapsed() < Duration::from_secs(30), "Jaeger still has only {there:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    check(&tree);
}

async fn read_back(query: &str, trace: &str) -> Vec<Step> {
    let url = format!("{}/api/v3/traces/{trace}", query.trim_end_matches('/'));
    let answer = reqwest::get(&url).await.unwrap();
    if answer.status() == reqwest::StatusCode::NOT_FOUND {
        return Vec::new();
    }
    assert!(answer.status().is_success(), "{url}: {}", answer.status());
    let body: Value = answer.json().await.unwrap();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut steps = Vec::new();
    for of_service in list(&body["result"]["resourceSpans"]) {
        let attributes = list(&of_service["resource"]["attributes"]);
        let name = attributes.iter().find(|pair| pair["key"] == "service.name").expect("a span says whose it is");
        let service = name["value"]["stringValue"].as_str().unwrap().to_owned();
        for span in list(&of_service["scopeSpans"]).iter().flat_map(|scope| list(&scope["spans"])) {
            let text = |key: &str| span[key].as_str().unwrap_or_default().to_owned();
            steps.push(Step {
                service: service.clone(),
                name: text("name"),
                trace: text("traceId"),
                id: text("spanId"),
                parent: text("parentSpanId"),
                kind: span["kind"].as_i64().unwrap(),
                start: text("startTimeUnixNano").parse().unwrap(),
            });
        }
    }
    steps
}
