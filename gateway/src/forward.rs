//! From here to an instance and back: tries, second tries, deadlines, streams and tunnels.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderName, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use kernel::clock::Clock;
use kernel::http::body::{BodyError, GuardedBody};
use kernel::http::problem::Problem;
use kernel::http::server::{Limits, read_body};
use kernel::manifest::Repeat;
use kernel::resilience::{RetryBudget, backoff};
use kernel::telemetry::{Name, Role, Span, current_trace, key};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::door::Refusal;
use crate::headers::{
    CORRELATION, FORWARDED_FOR, FORWARDED_PROTO, TRACEPARENT, strip_hop, traceparent, wants_websocket,
};
use crate::lease::Lease;
use crate::line::{self, Asked, Inbound, Line, LineError};
use crate::outbound::Content;
use crate::table::Route;
use crate::upstream::Instance;

const TRIES: u32 = 3;
/// A body up to this is kept for a second try.
const KEEP: u64 = 64 * 1024;
const PAUSE: Duration = Duration::from_millis(25);
const PAUSE_MOST: Duration = Duration::from_millis(250);
const IDEMPOTENCY_KEYS: [HeaderName; 2] =
    [HeaderName::from_static("idempotency-key"), HeaderName::from_static("x-idempotency-key")];

/// Carries requests to instances.
pub(crate) struct Forwarder {
    /// How long reaching an instance may take.
    pub(crate) connect: Duration,
    pub(crate) budget: RetryBudget,
    pub(crate) clock: Clock,
    pub(crate) deadline: Duration,
    pub(crate) limits: Limits,
    pub(crate) tunnels: TaskTracker,
    pub(crate) closing: CancellationToken,
}

/// What we say with a request beside its own headers, where no line of a caller's can be among it.
pub(crate) struct Ours {
    pub(crate) forwarded_for: HeaderValue,
    pub(crate) traceparent: HeaderValue,
    pub(crate) correlation: HeaderValue,
    /// Of the caller, as whole lines.
    pub(crate) said: Bytes,
}

impl Ours {
    fn headers(&self) -> [(HeaderName, &[u8]); 4] {
        [
            (FORWARDED_FOR, self.forwarded_for.as_bytes()),
            (FORWARDED_PROTO, b"http"),
            (TRACEPARENT, self.traceparent.as_bytes()),
            (CORRELATION, self.correlation.as_bytes()),
        ]
    }
}

/// A request that may be sent more than once.
struct Letter {
    method: Method,
    target: http::uri::PathAndQuery,
    headers: HeaderMap,
    ours: Ours,
    content: Content,
    tunnel: Option<Tunnel>,
}

/// What one try came to.
enum Try {
    Done(Response<Inbound>),
    Again(Failure),
    Over(Refusal),
}

enum Failure {
    Answer(Response<Inbound>),
    Unreachable,
}

impl Forwarder {
    /// Sends a request, off which is taken what does not pass, to an instance of the route's service.
    pub(crate) async fn forward(
        &self,
        route: &Route,
        request: Box<Request<Incoming>>,
        ours: Ours,
        tunnel: Option<Tunnel>,
    ) -> Result<Response<Body>, Refusal> {
        let mut letter = self.letter(route, request, ours, tunnel).await?;
        let mut at = Instant::now();
        let until = at + self.deadline;
        self.budget.earn();
        let mut avoid = None;
        for attempt in 1.. {
            let instance = route.upstream.pick(|| self.clock.now(), avoid).ok_or_else(no_instance)?;
            let failure = match self.attempt(route, &mut letter, &instance, (at, until), attempt).await {
                Try::Done(response) => return Ok(self.answer(response, letter.tunnel)),
                Try::Over(refusal) => return Err(refusal),
                Try::Again(failure) => failure,
            };
            let pause = backoff(attempt, PAUSE, PAUSE_MOST);
            let worth_it = attempt < TRIES && letter.content.repeatable() && Instant::now() + pause < until;
            if !worth_it || !self.budget.spend() {
                return match failure {
                    Failure::Answer(response) => Ok(self.answer(response, None)),
                    Failure::Unreachable => Err(unreachable_service()),
                };
            }
            avoid = Some(instance.address);
            tokio::time::sleep(pause).await;
            at = Instant::now();
        }
        Err(unreachable_service())
    }

    async fn letter(
        &self,
        route: &Route,
        request: Box<Request<Incoming>>,
        ours: Ours,
        tunnel: Option<Tunnel>,
    ) -> Result<Letter, Refusal> {
        let (mut parts, body) = request.into_parts();
        if let Some(tunnel) = &tunnel {
            tunnel.announce(&mut parts.headers);
        }
        if !parts.headers.contains_key(HOST)
            && let Some(host) = parts.uri.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok())
        {
            parts.headers.insert(HOST, host);
        }
        let keyed = route.repeat == Repeat::Keyed && IDEMPOTENCY_KEYS.iter().any(|key| parts.headers.contains_key(key));
        let short = body.size_hint().upper().is_some_and(|upper| upper <= KEEP);
        let content = if body.is_end_stream() && (keyed || is_safe(&parts.method)) {
            Content::Kept(Bytes::new())
        } else if keyed && short {
            Content::Kept(Box::pin(read_body(body, &self.limits)).await.map_err(refused_body)?)
        } else {
            let guarded = GuardedBody::new(body, &self.limits).map_err(refused_body)?;
            Content::Once(Some(guarded))
        };
        let target = parts.uri.path_and_query().cloned().unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
        Ok(Letter { method: parts.method, target, headers: parts.headers, ours, content, tunnel })
    }

    async fn attempt(
        &self,
        route: &Route,
        letter: &mut Letter,
        instance: &Arc<Instance>,
        (at, until): (Instant, Instant),
        attempt: u32,
    ) -> Try {
        let permit = match route.upstream.breaker.permit() {
            Ok(permit) => permit,
            Err(open) => {
                let problem =
                    Problem::new(503, "circuit_open", "the service behind this route is not well; it gets a rest");
                return Try::Over(Box::new(problem.retry_after(open.retry_after)));
            }
        };
        let span = calling(route, instance, attempt, &mut letter.ours);
        let _flight = instance.begin();
        let Letter { method, target, headers, ours, content, .. } = letter;
        let asked = Asked { method, target: target.as_str(), headers, own: &ours.headers(), ours: &ours.said };
        // On the heap: the deadline and the span around it would each copy it, twice.
        let asking = timeout_at(until, Box::pin(line::ask(instance, &asked, content, at, self.connect)));
        match span.watch(asking, told).await {
            Err(_) => {
                permit.failure();
                instance.failed(false, self.clock.now());
                Try::Over(Box::new(Problem::new(504, "timeout", "the service did not answer in time")))
            }
            Ok(Ok(response)) if is_unwell(response.status()) => {
                permit.failure();
                instance.failed(false, self.clock.now());
                match response.status() {
                    StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                        Try::Again(Failure::Answer(response))
                    }
                    _ => Try::Done(response),
                }
            }
            Ok(Ok(response)) => {
                permit.success();
                instance.succeeded();
                Try::Done(response)
            }
            // A body that failed on the client's side says nothing about the service.
            Ok(Err(LineError::Client(fault))) => Try::Over(refused_body(fault)),
            Ok(Err(error)) => {
                tracing::debug!(%error, instance = %instance.address, "try failed");
                let dead = matches!(error, LineError::Connect(_));
                instance.failed(dead, self.clock.now());
                // Nobody listening is found out at once and costs nobody anything: resting the service for half a minute
                // would only make a restart of a tenth of a second last that long.
                if dead {
                    drop(permit);
                } else {
                    permit.failure();
                }
                Try::Again(Failure::Unreachable)
            }
        }
    }

    fn answer(&self, response: Response<Inbound>, tunnel: Option<Tunnel>) -> Response<Body> {
        let (mut parts, body) = response.into_parts();
        strip_hop(&mut parts.headers);
        if parts.status != StatusCode::SWITCHING_PROTOCOLS {
            return Response::from_parts(parts, Body::new(body));
        }
        let (Some(tunnel), Some(inner)) = (tunnel, body.into_switched()) else {
            // Nobody asked for another protocol: this answer cannot be passed on.
            let mut refused = Response::new(Body::empty());
            *refused.status_mut() = StatusCode::BAD_GATEWAY;
            return refused;
        };
        tunnel.announce(&mut parts.headers);
        self.tunnels.spawn(tunnel.join(inner, self.closing.clone()));
        Response::from_parts(parts, Body::empty())
    }
}

/// The client's side of a connection that will speak another protocol.
pub(crate) struct Tunnel {
    upgrade: OnUpgrade,
    protocol: HeaderValue,
    /// The caller's right to it; without a caller it lasts as long as its ends.
    lease: Option<Lease>,
}

impl Tunnel {
    /// Takes note of the wish before the headers that carry it are taken off.
    pub(crate) fn wanted(request: &mut Request<Incoming>, lease: Option<&Lease>) -> Option<Self> {
        if request.version() != Version::HTTP_11 || !wants_websocket(request.headers()) {
            return None;
        }
        let protocol = request.headers().get(UPGRADE)?.clone();
        Some(Self { upgrade: hyper::upgrade::on(request), protocol, lease: lease.cloned() })
    }

    fn announce(&self, headers: &mut HeaderMap) {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, self.protocol.clone());
    }

    async fn join(self, inner: Box<Line>, closing: CancellationToken) {
        let Ok(outer) = self.upgrade.await else { return };
        let (mut outer, (mut inner, first)) = (TokioIo::new(outer), inner.into_parts());
        // What came in one packet with the answer is the other protocol's.
        if outer.write_all(&first).await.is_err() {
            return;
        }
        let over = async {
            match self.lease {
                Some(lease) => lease.over().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // How it ends is the affair of its two ends.
            _ = tokio::io::copy_bidirectional(&mut outer, &mut inner) => {}
            () = closing.cancelled() => {}
            () = over => {}
        }
    }
}

/// The span of one try; the service continues the trace from it.
fn calling(route: &Route, instance: &Instance, attempt: u32, ours: &mut Ours) -> Span {
    let mut span = Span::part(Role::Client, Name(route.name.0, ""));
    if span.is_kept() {
        span.set(key::HTTP_REQUEST_METHOD, route.name.0);
        span.set(key::SERVER_ADDRESS, instance.address.ip().to_string());
        span.set(key::SERVER_PORT, instance.address.port());
        span.set(key::SERVICE_PEER_NAME, route.service);
        if attempt > 1 {
            span.set(key::HTTP_REQUEST_RESEND_COUNT, attempt - 1);
        }
    }
    // Where nobody keeps spans it is no step of its own, and the line says so already.
    if span.trace() != current_trace() {
        ours.traceparent = traceparent(span.trace());
    }
    span
}

type Tried = Result<Result<Response<Inbound>, LineError>, tokio::time::error::Elapsed>;

fn told(span: &mut Span, tried: &Tried) {
    match tried {
        Ok(Ok(response)) => span.answered(response.status().as_u16()),
        Ok(Err(LineError::Connect(_))) => span.fail("connect"),
        Ok(Err(_)) => span.fail("broken"),
        Err(_) => span.fail("timeout"),
    }
}

/// Whether it says that the service is not well. One without room to keep things is, and still answers what needs none.
fn is_unwell(status: StatusCode) -> bool {
    status.is_server_error() && status != StatusCode::INSUFFICIENT_STORAGE
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

fn refused_body(error: BodyError) -> Refusal {
    Box::new(Problem::from(error).header(CONNECTION, HeaderValue::from_static("close")))
}

fn no_instance() -> Refusal {
    let problem = Problem::new(503, "no_instance", "nobody serves this route at the moment");
    Box::new(problem.retry_after(Duration::from_secs(1)))
}

fn unreachable_service() -> Refusal {
    Box::new(Problem::new(502, "bad_gateway", "the service could not be reached or broke off"))
}
