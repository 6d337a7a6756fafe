//! A collector that takes OTLP over HTTP as real ones do, keeps what it is sent, and misbehaves when it is told to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::net::TcpListener;

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// It takes everything.
    Well,
    /// It asks to come again, with this status.
    Busy(u16),
    /// It takes the connection and never answers.
    Silent,
    /// It refuses so many spans of each request.
    Picky(i64),
    /// It does not understand what it is sent.
    Foreign,
}

/// A span with what its request says of the service.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) service: String,
    pub(crate) span: Span,
}

impl Seen {
    pub(crate) fn name(&self) -> &str {
        &self.span.name
    }

    pub(crate) fn attribute(&self, key: &str) -> Option<String> {
        attribute(&self.span.attributes, key)
    }
}

fn attribute(all: &[KeyValue], key: &str) -> Option<String> {
    let value = all.iter().find(|pair| pair.key == key)?.value.clone()?.value?;
    match value {
        Value::StringValue(text) => Some(text),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{key} is {other:?}"),
    }
}

struct Inner {
    mood: Mutex<Mood>,
    seen: Mutex<Vec<Seen>>,
    requests: AtomicUsize,
}

/// A running collector.
#[derive(Clone)]
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    inner: Arc<Inner>,
}

impl Collector {
    pub(crate) async fn start(mood: Mood) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Inner { mood: Mutex::new(mood), seen: Mutex::default(), requests: AtomicUsize::new(0) };
        let inner = Arc::new(inner);
        let router = Router::new().route("/v1/traces", post(take)).with_state(inner.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, inner }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn becomes(&self, mood: Mood) {
        *self.inner.mood.lock() = mood;
    }

    /// Requests so far, whatever became of them.
    pub(crate) fn requests(&self) -> usize {
        self.inner.requests.load(Ordering::SeqCst)
    }

    /// What it has taken so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.inner.seen.lock().clone()
    }

    /// The only span of this name.
    pub(crate) fn only(&self, name: &str) -> Seen {
        let all = self.seen();
        let mut named = all.iter().filter(|seen| seen.name() == name);
        let (first, second) = (named.next(), named.next());
        match (first, second) {
            (Some(only), None) => only.clone(),
            _ => panic!("not one {name} in {:?}", all.iter().map(Seen::name).collect::<Vec<_>>()),
        }
    }
}

async fn take(State(inner): State<Arc<Inner>>, headers: HeaderMap, body: Bytes) -> (StatusCode, Vec<u8>) {
    inner.requests.fetch_add(1, Ordering::SeqCst);
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let mood = *inner.mood.lock();
    let rejected_spans = match mood {
        Mood::Busy(status) => return (StatusCode::from_u16(status).unwrap(), Vec::new()),
        Mood::Foreign => return (StatusCode::BAD_REQUEST, Vec::new()),
        Mood::Silent => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            0
        }
        Mood::Well => 0,
        Mood::Picky(spans) => spans,
    };
    let sent = ExportTraceServiceRequest::decode(body).expect("what is sent is a request for spans to be taken");
    for of_service in sent.resource_spans {
        let resource = of_service.resource.unwrap().attributes;
        let service = attribute(&resource, "service.name").expect("spans say whose they are");
        assert!(attribute(&resource, "service.instance.id").is_some_and(|id| id.starts_with(&service)));
        let spans = of_service.scope_spans.into_iter().flat_map(|scope| scope.spans);
        inner.seen.lock().extend(spans.map(|span| Seen { service: service.clone(), span }));
    }
    let partial = ExportTracePartialSuccess { rejected_spans, error_message: "too many".to_owned() };
    let partial_success = (rejected_spans > 0).then_some(partial);
    (StatusCode::OK, ExportTraceServiceResponse { partial_success }.encode_to_vec())
}
