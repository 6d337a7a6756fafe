//! The server: HTTP/1.1 and HTTP/2 without TLS on one port, with a limit on everything a peer could keep open.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::IntoResponse as _;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::{Service, ServiceExt as _};

pub use super::body::{BodyError, GuardedBody, read_body};
use super::connection::{Busy, Watch, WatchedStream};
use super::problem::Problem;
use crate::telemetry::{self, Trace};

/// How much a peer may ask for and how long it may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From accept to the first byte.
    pub first_byte: Duration,
    /// From the first byte of a request to the end of its head.
    pub header_read: Duration,
    /// Silence inside a body.
    pub body_idle: Duration,
    /// A whole body.
    pub body_total: Duration,
    /// From a request to the head of its answer; gRPC is exempt, its calls bring deadlines of their own.
    pub handler: Option<Duration>,
    /// Between two requests of a connection.
    pub keep_alive: Duration,
    /// A peer that does not read what it asked for.
    pub write_stall: Duration,
    /// After this a connection takes no further requests; streams under way go on.
    pub max_age: Duration,
    /// How long requests under way may go on after the stop.
    pub drain: Duration,
    /// Bytes of a body.
    pub max_body: u64,
    /// Bytes of path and query.
    pub max_uri: usize,
    /// Bytes of all names and values of headers.
    pub max_headers: usize,
    /// Open connections; further ones are closed at once.
    pub max_connections: usize,
    /// Open connections of one address; `None` where all come from the gateway.
    pub max_connections_per_ip: Option<usize>,
    /// Requests under way on one HTTP/2 connection.
    pub max_streams: u32,
    /// Refuse a head that names its length twice or two ways, instead of picking one; for the public door.
    pub strict_framing: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(5),
            header_read: Duration::from_secs(5),
            body_idle: Duration::from_secs(5),
            body_total: Duration::from_secs(15),
            handler: Some(Duration::from_secs(10)),
            keep_alive: Duration::from_secs(60),
            write_stall: Duration::from_secs(20),
            max_age: Duration::from_secs(15 * 60),
            drain: Duration::from_secs(20),
            max_body: 256 * 1024,
            max_uri: 8 * 1024,
            max_headers: 16 * 1024,
            max_connections: 4096,
            max_connections_per_ip: None,
            max_streams: 64,
            strict_framing: false,
        }
    }
}

/// What answers requests: an axum `Router`, or any tower service of the same shape.
pub trait Answers:
    Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

impl<S> Answers for S where
    S: Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

/// Connections that may wait to be accepted. The usual 128 are fewer than a burst: who comes after them is dropped
/// without a word and tries again after a second. The system's own limit, `net.core.somaxconn`, is above it.
const BACKLOG: u32 = 4096;

/// Listens here, in the runtime that calls.
///
/// # Errors
/// The address is taken or not this machine's.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Connections of who listened here before may still be ending.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `shutdown`, then drains; returns when the last request is answered or the drain time is over.
pub async fn serve<S: Answers>(listener: TcpListener, service: S, limits: Limits, shutdown: CancellationToken) {
    serve_peers(listener, move |_| service.clone(), limits, shutdown, &[]).await;
}

/// Like [`serve`], for a service that wants to know its peer: one is made for each connection. Connections are served by
/// these runtimes in turn; if none is named, by the one that calls.
pub async fn serve_peers<M, S>(
    listener: TcpListener,
    make: M,
    limits: Limits,
    shutdown: CancellationToken,
    runtimes: &[Handle],
) where
    M: Fn(SocketAddr) -> S,
    S: Answers,
{
    let limits = Arc::new(limits);
    let peers = Arc::new(Peers::default());
    let stop = shutdown.child_token();
    let mut connections = JoinSet::new();
    let here = [Handle::current()];
    let mut turns = if runtimes.is_empty() { &here } else { runtimes }.iter().cycle();
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let full = connections.len() >= limits.max_connections;
                    let Some(seat) = peers.seat(peer.ip(), &limits).filter(|_| !full) else { continue };
                    // It belongs to the runtime that accepted it until it is registered with the one that serves it.
                    let (Ok(stream), Some(runtime)) = (stream.into_std(), turns.next()) else { continue };
                    let served = connection(stream, make(peer), Arc::clone(&limits), stop.clone(), seat);
                    connections.spawn_on(telemetry::carried(served), runtime);
                }
                Err(error) => {
                    // Out of file handles or a peer that went away: the next accept may work, a tight loop would not help it.
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            },
        }
    }
    drop(listener);
    let drained = tokio::time::timeout(limits.drain, async { while connections.join_next().await.is_some() {} });
    if drained.await.is_err() {
        tracing::warn!(open = connections.len(), "closing connections that did not finish in time");
        connections.shutdown().await;
    }
}

/// Counts connections by address.
#[derive(Default)]
struct Peers(Mutex<HashMap<IpAddr, usize>>);

struct Seat(Option<(Arc<Peers>, IpAddr)>);

impl Peers {
    fn seat(self: &Arc<Self>, ip: IpAddr, limits: &Limits) -> Option<Seat> {
        let Some(most) = limits.max_connections_per_ip else { return Some(Seat(None)) };
        let mut peers = self.0.lock();
        let open = peers.entry(ip).or_default();
        if *open >= most {
            return None;
        }
        *open += 1;
        Some(Seat(Some((Arc::clone(self), ip))))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some((peers, ip)) = &self.0 else { return };
        let mut peers = peers.0.lock();
        if let Some(open) = peers.get_mut(ip) {
            *open -= 1;
            if *open == 0 {
                peers.remove(ip);
            }
        }
    }
}

async fn connection<S: Answers>(
    stream: std::net::TcpStream,
    service: S,
    limits: Arc<Limits>,
    stop: CancellationToken,
    _seat: Seat,
) {
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    let first = tokio::time::timeout(limits.first_byte, speaks_http2(&stream));
    let multiplexed = tokio::select! {
        biased;
        first = first => match first { Ok(Ok(multiplexed)) => multiplexed, _ => return },
        () = stop.cancelled() => return,
    };
    // Answers are written whole; waiting to fill a packet would only delay them.
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let watch = Arc::new(Watch::new());
    let io = TokioIo::new(WatchedStream::new(stream, Arc::clone(&watch), multiplexed, &limits));
    let answers = {
        let limits = Arc::clone(&limits);
        service_fn(move |request| {
            // Counted here, not in the future: HTTP/2 polls that one on another task, later.
            let busy = watch.begin();
            telemetry::carried(answer(service.clone(), request, busy, watch.ambiguous(), Arc::clone(&limits)))
        })
    };
    if multiplexed {
        let connection = http2(&limits).serve_connection(io, answers);
        drive(connection, http2::Connection::graceful_shutdown, limits.max_age, &stop).await;
    } else {
        let connection = http1(&limits).serve_connection(io, answers).with_upgrades();
        drive(connection, http1::UpgradeableConnection::graceful_shutdown, limits.max_age, &stop).await;
    }
}

/// Looks at the first bytes without taking them.
async fn speaks_http2(stream: &TcpStream) -> io::Result<bool> {
    const PREFACE: &[u8] = b"PRI";
    let mut first = [0; PREFACE.len()];
    loop {
        match stream.peek(&mut first).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n if first[..n] != PREFACE[..n] => return Ok(false),
            n if n == PREFACE.len() => return Ok(true),
            // "P" may still become POST; a peek returns at once while something is there, so look again a little later.
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

fn http1(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // The watched stream keeps this deadline; hyper's would also end idle connections.
        .header_read_timeout(None)
        .max_header_size(limits.max_uri + limits.max_headers + 1024)
        .max_buf_size(64 * 1024);
    builder
}

fn http2(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(u32::try_from(limits.max_headers).unwrap_or(u32::MAX))
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

async fn drive<C: Future>(connection: C, wind_down: fn(Pin<&mut C>), max_age: Duration, stop: &CancellationToken) {
    let mut connection = pin!(connection);
    let over = async {
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(max_age) => {}
        }
    };
    tokio::select! {
        biased;
        _ = connection.as_mut() => return,
        () = over => {}
    }
    wind_down(connection.as_mut());
    // How it ends is the peer's affair: resets and timeouts are everyday here.
    drop(connection.await);
}

async fn answer<S: Answers>(
    service: S,
    request: Request<Incoming>,
    busy: Busy,
    ambiguous: bool,
    limits: Arc<Limits>,
) -> Result<Response<Body>, Infallible> {
    if let Some(problem) = refusal(&request, ambiguous, &limits) {
        let trace = request.headers().get("traceparent").and_then(|value| Trace::parse(value.to_str().ok()?));
        let mut response = problem.traced(trace.unwrap_or_else(Trace::start)).into_response();
        if request.version() < Version::HTTP_2 {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        return Ok(tracked(response, busy));
    }
    let Some(limit) = limits.handler.filter(|_| !is_grpc(&request)) else {
        return service.oneshot(request).await.map(|response| tracked(response, busy));
    };
    let parent = request.headers().get("traceparent").cloned();
    if let Ok(response) = tokio::time::timeout(limit, service.oneshot(request)).await {
        response.map(|response| tracked(response, busy))
    } else {
        let trace = parent.and_then(|value| Trace::parse(value.to_str().ok()?)).unwrap_or_else(Trace::start);
        let problem = Problem::new(504, "timeout", "the answer was not ready in time").traced(trace);
        Ok(tracked(problem.into_response(), busy))
    }
}

fn is_grpc(request: &Request<Incoming>) -> bool {
    request.headers().get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn refusal(request: &Request<Incoming>, ambiguous: bool, limits: &Limits) -> Option<Problem> {
    if ambiguous {
        return Some(Problem::new(400, "ambiguous_framing", "name the length of the body once"));
    }
    if request.uri().path_and_query().map_or(0, |target| target.as_str().len()) > limits.max_uri {
        return Some(Problem::new(414, "uri_too_long", "the path and query are too long"));
    }
    let headers: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    (headers > limits.max_headers).then(|| Problem::new(431, "headers_too_large", "the headers are too large"))
}

/// Keeps the connection busy until the answer is sent.
fn tracked(response: Response<Body>, busy: Busy) -> Response<Body> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        busy.forever();
        return response;
    }
    response.map(|body| Body::new(Tracked { body, _busy: busy }))
}

struct Tracked {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
