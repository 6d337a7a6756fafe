//! A small city for these tests: a gateway, an auth service that publishes keys, and a service that tells what it got.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt as _;
use gateway::{Cors, Gateway, Options, Rate, Revocations, Settings};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use kernel::clock::{Clock, Timestamp};
use kernel::http::assertion::Signer;
use kernel::http::server::{Limits, read_body, serve};
use kernel::manifest::{Access, Permission, PublicRoute, Repeat};
use kernel::redis::Redis;
use kernel::registry::Directory;
use kernel::telemetry::Metrics;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) use crate::mint::{Mint, claims};

pub(crate) const SECRET: &[u8] = b"a secret of the city";
pub(crate) const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);
const ADMIN: Permission = Permission { name: "city.run", roles: &["ADMIN"], for_orgs: &[] };

/// One instance of the service.
pub(crate) struct Instance {
    pub(crate) address: SocketAddr,
    pub(crate) hits: Arc<AtomicUsize>,
    pub(crate) status: Arc<AtomicU16>,
    pub(crate) feed: mpsc::Sender<&'static str>,
    stop: CancellationToken,
    server: JoinHandle<()>,
}

impl Instance {
    pub(crate) async fn kill(self) {
        self.stop.cancel();
        self.server.abort();
        drop(self.server.await);
    }

    pub(crate) fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }
}

#[expect(clippy::disallowed_methods, reason = "tests own their tasks through the handles")]
pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    tokio::spawn(work)
}

pub(crate) async fn instance() -> Instance {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (hits, status) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU16::new(200)));
    let (feed, events) = mpsc::channel::<&'static str>(8);
    let events = Arc::new(Mutex::new(Some(events)));
    let (count, answer) = (Arc::clone(&hits), Arc::clone(&status));
    let service = tower::service_fn(move |request: Request<Incoming>| {
        count.fetch_add(1, Ordering::SeqCst);
        let status = StatusCode::from_u16(answer.load(Ordering::SeqCst)).unwrap();
        let events = Arc::clone(&events);
        async move {
            let mut response = match request.uri().path() {
                "/api/v1/events" => {
                    let events = events.lock().take().expect("one listener");
                    let stream = stream_of(events);
                    let mut response = Response::new(Body::from_stream(stream));
                    response.headers_mut().insert("content-type", HeaderValue::from_static("text/event-stream"));
                    response
                }
                "/api/v1/socket" => socket(request),
                "/api/v1/slow" => {
                    tokio::time::sleep(Duration::from_secs(5)).await;
                    Response::new(Body::empty())
                }
                "/api/v1/big" => {
                    let mut response = Response::new(Body::from("{\"a\":1}".repeat(500)));
                    response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
                    response
                }
                _ => echo(request, address).await,
            };
            if response.status() == StatusCode::OK {
                *response.status_mut() = status;
            }
            Ok::<_, Infallible>(response)
        }
    });
    let stop = CancellationToken::new();
    let server =
        spawn(serve(listener, service, Limits { drain: Duration::from_millis(10), ..Limits::default() }, stop.clone()));
    Instance { address, hits, status, feed, stop, server }
}

fn stream_of(
    events: mpsc::Receiver<&'static str>,
) -> impl futures::Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
    futures::stream::unfold(events, |mut events| async {
        events.recv().await.map(|event| (Ok(Bytes::from_static(event.as_bytes())), events))
    })
}

async fn echo(request: Request<Incoming>, address: SocketAddr) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = read_body(body, &Limits::default()).await.unwrap_or_default();
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers: BTreeMap<String, Vec<String>> = parts
        .headers
        .keys()
        .map(|name| (name.as_str().to_owned(), parts.headers.get_all(name).iter().map(text).collect()))
        .collect();
    let seen = json!({
        "method": parts.method.as_str(), "target": parts.uri.to_string(), "headers": headers,
        "body": String::from_utf8_lossy(&body), "instance": address.to_string(),
    });
    Response::new(Body::from(seen.to_string()))
}

/// Speaks another protocol: repeats what it gets, in capitals.
fn socket(mut request: Request<Incoming>) -> Response<Body> {
    let upgrade = hyper::upgrade::on(&mut request);
    drop(spawn(async move {
        let mut io = hyper_util::rt::TokioIo::new(upgrade.await.unwrap());
        let mut buffer = [0; 64];
        while let Ok(n @ 1..) = io.read(&mut buffer).await {
            let loud = buffer[..n].to_ascii_uppercase();
            io.write_all(&loud).await.unwrap();
        }
    }));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
    response.headers_mut().insert("upgrade", HeaderValue::from_static("websocket"));
    response
}

/// The auth service: publishes whatever keys stand in the list, and counts who asks.
pub(crate) struct Auth {
    pub(crate) keys: Arc<Mutex<Vec<Value>>>,
    pub(crate) asked: Arc<AtomicUsize>,
    address: SocketAddr,
    _server: JoinHandle<()>,
}

async fn auth(keys: Vec<Value>) -> Auth {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (keys, asked) = (Arc::new(Mutex::new(keys)), Arc::new(AtomicUsize::new(0)));
    let (published, count) = (Arc::clone(&keys), Arc::clone(&asked));
    let service = tower::service_fn(move |request: Request<Incoming>| {
        assert_eq!(request.uri().path(), "/.well-known/jwks.json");
        count.fetch_add(1, Ordering::SeqCst);
        let set = json!({ "keys": published.lock().clone() });
        async move { Ok::<_, Infallible>(Response::new(Body::from(set.to_string()))) }
    });
    let server = spawn(serve(listener, service, Limits::default(), CancellationToken::new()));
    Auth { keys, asked, address, _server: server }
}

/// Everything together.
pub(crate) struct City {
    pub(crate) address: SocketAddr,
    pub(crate) clock: Clock,
    pub(crate) directory: Directory,
    pub(crate) revocations: Revocations,
    pub(crate) mint: Mint,
    pub(crate) auth: Auth,
    pub(crate) first: Instance,
    pub(crate) http: reqwest::Client,
    pub(crate) shutdown: CancellationToken,
    pub(crate) server: JoinHandle<()>,
}

pub(crate) fn settings() -> Settings {
    Settings {
        issuer: "https://city.test".to_owned(),
        audience: "foodexpress".to_owned(),
        per_address: Rate::per_second("address", 10_000),
        deadline: Duration::from_millis(800),
        lease_check: Duration::from_millis(50),
        unready: Duration::from_millis(50),
        cors: Cors { origins: vec!["https://console.test".to_owned()], ..Cors::default() },
        limits: Limits {
            first_byte: Duration::from_millis(400),
            header_read: Duration::from_millis(400),
            body_idle: Duration::from_millis(400),
            body_total: Duration::from_millis(1000),
            keep_alive: Duration::from_millis(400),
            drain: Duration::from_secs(2),
            ..Settings::default().limits
        },
        ..Settings::default()
    }
}

fn routes() -> Vec<PublicRoute> {
    let row = |method, path, access, repeat| PublicRoute { method, path, service: "orders", access, repeat };
    vec![
        row("GET", "/api/v1/menu", Access::Anyone("menus are public"), Repeat::Reads),
        row("GET", "/api/v1/orders/{id}", Access::SignedIn, Repeat::Reads),
        row("POST", "/api/v1/orders", Access::SignedIn, Repeat::Keyed),
        row("POST", "/api/v1/upload", Access::Anyone("for tests"), Repeat::Protocol("none")),
        row("GET", "/api/v1/city", Access::May(ADMIN), Repeat::Reads),
        row("GET", "/api/v1/events", Access::Anyone("for tests"), Repeat::Reads),
        row("GET", "/api/v1/socket", Access::Anyone("for tests"), Repeat::Reads),
        row("GET", "/api/v1/slow", Access::Anyone("for tests"), Repeat::Reads),
        row("GET", "/api/v1/big", Access::Anyone("for tests"), Repeat::Reads),
        row("GET", "/api/v1/inner", Access::Workload, Repeat::Reads),
    ]
}

/// A gateway that was opened.
struct Opened {
    address: SocketAddr,
    revocations: Revocations,
    server: JoinHandle<()>,
}

async fn open(
    settings: Settings,
    redis: Option<Redis>,
    directory: &Directory,
    clock: &Clock,
    shutdown: &CancellationToken,
) -> Opened {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let revocations = Revocations::default();
    let gateway = Gateway::new(Options {
        routes: routes(),
        directory: directory.clone(),
        signer: Signer::new(SECRET),
        revocations: revocations.clone(),
        redis,
        metrics: Metrics::new("gateway"),
        clock: clock.clone(),
        settings,
    });
    let stop = shutdown.clone();
    let server = spawn(async move { gateway.serve(listener, stop).await });
    Opened { address, revocations, server }
}

impl City {
    pub(crate) async fn start() -> Self {
        Self::with(settings()).await
    }

    pub(crate) async fn with(settings: Settings) -> Self {
        Self::sharing(settings, None).await
    }

    /// A city whose gateway shares what gateways share.
    pub(crate) async fn sharing(settings: Settings, redis: Option<Redis>) -> Self {
        let mint = Mint::new("one");
        let auth = auth(vec![mint.jwk()]).await;
        let first = instance().await;
        let services = [("auth".to_owned(), vec![auth.address]), ("orders".to_owned(), vec![first.address])];
        let directory = Directory::new(services.into());
        let (clock, shutdown) = (Clock::manual(NOW), CancellationToken::new());
        let Opened { address, revocations, server } = open(settings, redis, &directory, &clock, &shutdown).await;
        // Shorter than the gateway's patience: making keys holds this thread up, and the gateway has threads of its own.
        let keeping = Duration::from_millis(200);
        let http = reqwest::Client::builder().no_proxy().pool_idle_timeout(keeping).build().unwrap();
        let city = Self { address, clock, directory, revocations, mint, auth, first, http, shutdown, server };
        city.ready(address).await;
        city
    }

    /// Another gateway of the same city: its address, and what it is told of revocations.
    pub(crate) async fn another(&self, settings: Settings, redis: Option<Redis>) -> (SocketAddr, Revocations) {
        let Opened { address, revocations, .. } =
            open(settings, redis, &self.directory, &self.clock, &self.shutdown).await;
        self.ready(address).await;
        (address, revocations)
    }

    /// The same city by way of another gateway.
    pub(crate) fn order_at(&self, gateway: SocketAddr, token: &str) -> reqwest::RequestBuilder {
        self.http.get(format!("http://{gateway}/api/v1/orders/7")).bearer_auth(token)
    }

    async fn ready(&self, gateway: SocketAddr) {
        let asked = || self.http.get(format!("http://{gateway}/readyz")).send();
        while !asked().await.is_ok_and(|answer| answer.status().is_success()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn second(&self) -> Instance {
        let second = instance().await;
        self.directory.set("orders", vec![self.first.address, second.address]);
        second
    }

    pub(crate) fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.http.get(format!("http://{}{path}", self.address))
    }

    pub(crate) fn post(&self, path: &str) -> reqwest::RequestBuilder {
        self.http.post(format!("http://{}{path}", self.address))
    }

    pub(crate) fn token(&self) -> String {
        self.mint.token(|_| {})
    }

    /// Status and code of an order asked for with this token.
    pub(crate) async fn order(&self, token: &str) -> (u16, Value) {
        let answer = self.get("/api/v1/orders/7").bearer_auth(token).send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap())
    }

    /// Sends bytes as they are and reads until the gateway closes.
    pub(crate) async fn raw(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes.as_ref()).await.unwrap();
        read_to_close(&mut stream).await
    }
}

pub(crate) async fn read_to_close(stream: &mut TcpStream) -> String {
    let mut out = Vec::new();
    let read = async {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut buffer).await {
            out.extend_from_slice(&buffer[..n]);
        }
    };
    tokio::time::timeout(Duration::from_secs(5), read).await.expect("the gateway closes the connection");
    String::from_utf8_lossy(&out).into_owned()
}

pub(crate) async fn next_chunk(answer: &mut reqwest::Response) -> Bytes {
    tokio::time::timeout(Duration::from_secs(2), answer.chunk()).await.expect("in time").unwrap().unwrap_or_default()
}

pub(crate) fn body_in_pieces(pieces: Vec<&'static str>) -> reqwest::Body {
    let pieces = pieces.into_iter().map(|piece| Ok::<_, std::io::Error>(Bytes::from_static(piece.as_bytes())));
    reqwest::Body::wrap_stream(futures::stream::iter(pieces).boxed())
}
