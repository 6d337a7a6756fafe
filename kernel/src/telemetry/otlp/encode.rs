//! Spans in the words of the protocol.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, SpanFlags, Status};
use prost::Message as _;

use crate::telemetry::exporting::About;
use crate::telemetry::span::{Attribute, Record, Role};
use crate::telemetry::trace::Trace;

/// What every request says of the service whose spans it brings.
pub(super) struct Source {
    resource: Resource,
    scope: InstrumentationScope,
}

impl Source {
    pub(super) fn of(about: &About) -> Self {
        let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        let attributes = [
            ("service.name", about.service),
            ("service.namespace", about.product),
            ("service.instance.id", &about.instance),
            ("service.version", version),
            ("telemetry.sdk.language", "rust"),
            ("telemetry.sdk.name", name),
            ("telemetry.sdk.version", version),
        ];
        let attributes = attributes.map(|(key, text)| pair(key, Value::StringValue(text.to_owned()))).to_vec();
        Self {
            resource: Resource { attributes, ..Resource::default() },
            scope: InstrumentationScope {
                name: name.to_owned(),
                version: version.to_owned(),
                ..InstrumentationScope::default()
            },
        }
    }

    /// A request with these spans.
    pub(super) fn request(&self, spans: &[Box<Record>]) -> Vec<u8> {
        let spans = spans.iter().map(|record| span(record)).collect();
        let scope_spans = vec![ScopeSpans { scope: Some(self.scope.clone()), spans, ..ScopeSpans::default() }];
        let of_service =
            ResourceSpans { resource: Some(self.resource.clone()), scope_spans, ..ResourceSpans::default() };
        ExportTraceServiceRequest { resource_spans: vec![of_service] }.encode_to_vec()
    }
}

fn span(record: &Record) -> Span {
    let start = Duration::from_micros(u64::try_from(record.start.micros()).unwrap_or(0));
    let status = if record.failed { StatusCode::Error } else { StatusCode::Unset };
    let parent = record.parent;
    Span {
        trace_id: record.trace.trace_id.to_vec(),
        span_id: record.trace.span_id.to_vec(),
        parent_span_id: if parent.is_none() { Vec::new() } else { parent.span_id.to_vec() },
        flags: flags(record.trace),
        name: record.name.to_string(),
        kind: kind(record.role).into(),
        start_time_unix_nano: nanos(start),
        end_time_unix_nano: nanos(start + record.took),
        attributes: record.attributes.iter().map(|(key, value)| pair(key, text_or_number(value))).collect(),
        links: record.links.iter().map(link).collect(),
        status: record.failed.then(|| Status { code: status.into(), ..Status::default() }),
        ..Span::default()
    }
}

fn link(to: &Trace) -> Link {
    Link { trace_id: to.trace_id.to_vec(), span_id: to.span_id.to_vec(), flags: flags(*to), ..Link::default() }
}

/// The low byte is that of `traceparent`.
fn flags(trace: Trace) -> u32 {
    u32::from(trace.sampled) & SpanFlags::TraceFlagsMask as u32
}

fn kind(role: Role) -> SpanKind {
    match role {
        Role::Internal => SpanKind::Internal,
        Role::Server => SpanKind::Server,
        Role::Client => SpanKind::Client,
        Role::Producer => SpanKind::Producer,
        Role::Consumer => SpanKind::Consumer,
    }
}

fn text_or_number(value: &Attribute) -> Value {
    match value {
        Attribute::Word(word) => Value::StringValue((*word).to_owned()),
        Attribute::Text(text) => Value::StringValue(text.clone()),
        Attribute::Number(number) => Value::IntValue(*number),
    }
}

fn pair(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn nanos(since_1970: Duration) -> u64 {
    u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
}
