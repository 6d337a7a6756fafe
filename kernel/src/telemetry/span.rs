//! Steps of a trace with their times. Where nobody keeps spans, making one costs a look and no memory.

use std::pin::Pin;
use std::task::{self, Poll, ready};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

use super::context::{Context, current_trace, tracing_here};
use super::trace::Trace;
use super::tracer::Tracer;
use crate::clock::Timestamp;

/// Names of attributes, as OpenTelemetry's semantic conventions (1.43) have them.
pub mod key {
    /// The engine of a database.
    pub const DB_SYSTEM_NAME: &str = "db.system.name";
    /// What kind of failure it was; present exactly if there was one.
    pub const ERROR_TYPE: &str = "error.type";
    /// `GET`, `POST`, …
    pub const HTTP_REQUEST_METHOD: &str = "http.request.method";
    /// How often the request had been sent before.
    pub const HTTP_REQUEST_RESEND_COUNT: &str = "http.request.resend_count";
    /// The status that was answered.
    pub const HTTP_RESPONSE_STATUS_CODE: &str = "http.response.status_code";
    /// The template of the path.
    pub const HTTP_ROUTE: &str = "http.route";
    /// The topic that an event belongs to.
    pub const MESSAGING_DESTINATION_NAME: &str = "messaging.destination.name";
    /// The identity of an event.
    pub const MESSAGING_MESSAGE_ID: &str = "messaging.message.id";
    /// The kind of an event, which is also in the span's name.
    pub const MESSAGING_OPERATION_NAME: &str = "messaging.operation.name";
    /// `send` or `process`.
    pub const MESSAGING_OPERATION_TYPE: &str = "messaging.operation.type";
    /// What carries events.
    pub const MESSAGING_SYSTEM: &str = "messaging.system";
    /// Where a request was sent.
    pub const SERVER_ADDRESS: &str = "server.address";
    /// The port of it.
    pub const SERVER_PORT: &str = "server.port";
    /// The service that a request was sent to.
    pub const SERVICE_PEER_NAME: &str = "service.peer.name";
    /// The template of a foreign address' path.
    pub const URL_TEMPLATE: &str = "url.template";
}

/// A span's name in two fixed parts, such as `POST` and `/orders/{id}`; nothing that comes from outside may be in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name(pub &'static str, pub &'static str);

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)?;
        if self.1.is_empty() { Ok(()) } else { write!(f, " {}", self.1) }
    }
}

/// A span's part in an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A step inside a service.
    Internal,
    /// Answers a request.
    Server,
    /// Makes a request.
    Client,
    /// Publishes an event.
    Producer,
    /// Handles an event.
    Consumer,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// A fixed word.
    Word(&'static str),
    /// Any text.
    Text(String),
    /// A whole number.
    Number(i64),
}

impl From<&'static str> for Attribute {
    fn from(word: &'static str) -> Self {
        Self::Word(word)
    }
}

impl From<String> for Attribute {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Attribute {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<u16> for Attribute {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

impl From<u32> for Attribute {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

/// A span as it is handed in.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) name: Name,
    pub(super) role: Role,
    pub(super) trace: Trace,
    /// The step it is part of; none at the root.
    pub(super) parent: Trace,
    pub(super) start: Timestamp,
    pub(super) took: Duration,
    pub(super) attributes: Vec<(&'static str, Attribute)>,
    /// Steps of other traces that it has to do with.
    pub(super) links: Vec<Trace>,
    pub(super) failed: bool,
}

/// One step, from its making to its drop.
#[must_use = "a span lasts until it is dropped"]
#[derive(Default)]
pub struct Span {
    trace: Trace,
    open: Option<Box<Open>>,
}

struct Open {
    tracer: Tracer,
    since: Instant,
    record: Record,
}

impl Span {
    /// A step inside the trace at work; outside of any trace it is none.
    pub fn step(name: Name) -> Self {
        Self::part(Role::Internal, name)
    }

    /// A step of this role inside the trace at work; outside of any trace it is none.
    pub fn part(role: Role, name: Name) -> Self {
        let (tracer, parent) = tracing_here();
        match tracer {
            Some(tracer) if !parent.is_none() => Self::open(tracer, parent.child(), parent, role, name),
            _ => Self { trace: parent, open: None },
        }
    }

    /// A step whose identity is known: it answers a request, handles an event or begins a trace. An empty `parent` is none.
    pub fn at(trace: Trace, parent: Trace, role: Role, name: Name) -> Self {
        match tracing_here().0 {
            Some(tracer) => Self::open(tracer, trace, parent, role, name),
            None => Self { trace, open: None },
        }
    }

    /// The step after one that was written down, such as in an event or a row; linked to what is at work here.
    pub fn after(traceparent: &str, role: Role, name: Name) -> Self {
        let (here, parent) = (current_trace(), Trace::parse(traceparent).unwrap_or_default());
        let mut span = Self::at(parent.child(), parent, role, name);
        if here.trace_id != parent.trace_id {
            span.link(here);
        }
        span
    }

    fn open(tracer: Tracer, trace: Trace, parent: Trace, role: Role, name: Name) -> Self {
        let start = tracer.clock().now();
        let (attributes, links) = (Vec::new(), Vec::new());
        let record =
            Record { name, role, trace, parent, start, took: Duration::ZERO, attributes, links, failed: false };
        Self { trace, open: Some(Box::new(Open { tracer, since: Instant::now(), record })) }
    }

    /// What steps inside this one belong to.
    pub fn trace(&self) -> Trace {
        self.trace
    }

    /// Whether what is said about it will be kept; ask before making a value that costs something.
    pub fn is_kept(&self) -> bool {
        self.open.is_some() && self.trace.sampled
    }

    /// Gives it another name, once more is known.
    pub fn rename(&mut self, name: Name) {
        if let Some(open) = &mut self.open {
            open.record.name = name;
        }
    }

    /// Says something about it.
    pub fn set(&mut self, key: &'static str, value: impl Into<Attribute>) {
        if let Some(open) = self.open.as_mut().filter(|open| open.record.trace.sampled) {
            open.record.attributes.push((key, value.into()));
        }
    }

    /// Names a step of another trace that it has to do with; an empty one is none.
    pub fn link(&mut self, other: Trace) {
        if let Some(open) = self.open.as_mut().filter(|_| !other.is_none()) {
            open.record.links.push(other);
        }
    }

    /// It failed, in this way. A failed span is kept even if its trace is not.
    pub fn fail(&mut self, kind: impl Into<Attribute>) {
        if let Some(open) = &mut self.open {
            open.record.failed = true;
            open.record.attributes.push((key::ERROR_TYPE, kind.into()));
        }
    }

    /// A request was answered with this status. Refusals are answers; only the server's own trouble is a failure.
    pub fn answered(&mut self, status: u16) {
        self.set(key::HTTP_RESPONSE_STATUS_CODE, status);
        if status >= 500 && self.open.is_some() {
            self.fail(status.to_string());
        }
    }

    /// It never was: what it stood for was rolled back.
    pub(crate) fn discard(mut self) {
        self.open = None;
    }

    /// Runs `work` inside it.
    pub fn around<F: Future>(self, work: F) -> Around<F, impl FnOnce(&mut Self, &F::Output)> {
        self.watch(work, |_, _| ())
    }

    /// Runs `work` inside it and lets `look` say about it what came of that.
    pub fn watch<F: Future, L: FnOnce(&mut Self, &F::Output)>(self, work: F, look: L) -> Around<F, L> {
        // Where nobody keeps spans it is no step of its own, and the context at hand says all there is to say.
        let context = (self.trace != current_trace()).then(|| Context::here().in_trace(self.trace));
        Around { work, look: Some(look), context, span: self }
    }
}

pin_project! {
    /// Work inside a span. Not an `async fn`: that would have room for the work twice, and copy it once more.
    #[must_use = "nothing happens unless it is awaited"]
    pub struct Around<F, L> {
        // Dropped first, so that steps inside end before the one around them.
        #[pin]
        work: F,
        look: Option<L>,
        context: Option<Context>,
        span: Span,
    }
}

impl<F: Future, L: FnOnce(&mut Span, &F::Output)> Future for Around<F, L> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, task: &mut task::Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let done = ready!(match this.context {
            Some(context) => context.clone().run(|| this.work.poll(task)),
            None => this.work.poll(task),
        });
        if let Some(look) = this.look.take() {
            look(this.span, &done);
        }
        // It ends with its work, however long the future itself is kept.
        *this.span = Span::default();
        Poll::Ready(done)
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let Some(open) = self.open.take() else { return };
        let Open { tracer, since, mut record } = *open;
        if record.trace.sampled || record.failed {
            record.took = since.elapsed();
            tracer.take(Box::new(record));
        }
    }
}
