//! What happens to a request, step by step.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use axum::body::Body;
use axum::response::IntoResponse as _;
use http::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use kernel::clock::Clock;
use kernel::http::assertion::{Carried, Signer};
use kernel::http::problem::Problem;
use kernel::http::server::Answers;
use kernel::manifest::{Access, PublicRoute};
use kernel::resilience::RetryBudget;
use kernel::telemetry::Trace;
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::compress::{Coding, accepted, compress};
use crate::forward::Forwarder;
use crate::headers::{self, CORRELATION, FORWARDED_FOR, FORWARDED_PROTO, TRACEPARENT};
use crate::keys::Keys;
use crate::limits::{Limiters, RATE_LIMIT, RATE_LIMIT_POLICY, Shown};
use crate::metrics::{Meter, Metrics};
use crate::outbound::pool;
use crate::paths;
use crate::table::{Route, Table};
use crate::tokens::{Principal, TokenError, Tokens};
use crate::upstream::Upstreams;
use crate::{Options, Settings};

/// A refusal on its way out; boxed, because it is rare and large.
pub(crate) type Refusal = Box<Problem>;

const KEYS_REFRESH: Duration = Duration::from_secs(10 * 60);
const KEYS_FIRST: Duration = Duration::from_millis(500);
const TIDY: Duration = Duration::from_secs(30);
/// Our own pages carry this instead of a template.
const UNROUTED: &str = "none";

/// The gateway itself.
pub(crate) struct Door {
    pub(crate) settings: Settings,
    table: ArcSwap<Table>,
    upstreams: Arc<Upstreams>,
    metrics: Metrics,
    unrouted: Meter,
    registry: Registry,
    limiters: Limiters,
    in_flight: Semaphore,
    keys: Arc<Keys>,
    tokens: Tokens,
    revocations: crate::Revocations,
    signer: Signer,
    clock: Clock,
    forwarder: Forwarder,
    draining: AtomicBool,
}

/// What one connection brings to each of its requests.
#[derive(Clone)]
struct Peer {
    ip: IpAddr,
    forwarded_for: HeaderValue,
}

/// What is known of a request by the time it is answered.
struct Passage {
    trace: Trace,
    traceparent: HeaderValue,
    correlation: HeaderValue,
    origin: Option<HeaderValue>,
    coding: Option<Coding>,
    shown: Option<Shown>,
    route: Option<Arc<Route>>,
}

impl Door {
    pub(crate) fn new(options: Options) -> Self {
        let Options { routes, directory, signer, revocations, mut registry, clock, settings } = options;
        let upstreams = Arc::new(Upstreams::new(directory, settings.breaker, clock.clone()));
        let metrics = Metrics::new(&mut registry, Arc::clone(&upstreams));
        let pool = pool(settings.connect);
        let auth = upstreams.of(&settings.auth_service);
        let keys = Arc::new(Keys::new(auth, pool.clone(), signer.clone(), clock.clone()));
        let (issuer, audience) = (settings.issuer.clone(), settings.audience.clone());
        Self {
            table: ArcSwap::from_pointee(Table::new(&routes, &upstreams, &metrics)),
            unrouted: metrics.meter(UNROUTED, UNROUTED),
            limiters: Limiters::new(&settings.per_address, &settings.tiers),
            in_flight: Semaphore::new(settings.max_in_flight.min(Semaphore::MAX_PERMITS)),
            tokens: Tokens::new(Arc::clone(&keys), revocations.clone(), issuer, audience),
            forwarder: Forwarder {
                pool,
                budget: RetryBudget::new(settings.retry_percent, 10),
                clock: clock.clone(),
                deadline: settings.deadline,
                limits: settings.limits.clone(),
                tunnels: TaskTracker::new(),
                closing: CancellationToken::new(),
            },
            draining: AtomicBool::new(false),
            settings,
            upstreams,
            metrics,
            registry,
            keys,
            revocations,
            signer,
            clock,
        }
    }

    pub(crate) fn set_routes(&self, routes: &[PublicRoute]) {
        self.table.store(Arc::new(Table::new(routes, &self.upstreams, &self.metrics)));
    }

    /// The service for one connection.
    pub(crate) fn service(door: Arc<Self>, peer: SocketAddr) -> impl Answers {
        let ip = peer.ip().to_canonical();
        let forwarded_for = HeaderValue::try_from(ip.to_string()).expect("an address is a header");
        let peer = Arc::new(Peer { ip, forwarded_for });
        tower::service_fn(move |request| {
            let (door, peer) = (Arc::clone(&door), Arc::clone(&peer));
            async move { Ok::<_, Infallible>(door.handle(&peer, request).await) }
        })
    }

    /// From now on we say that we are not ready.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Ends WebSockets that are still open.
    pub(crate) async fn close_tunnels(&self) {
        self.forwarder.closing.cancel();
        self.forwarder.tunnels.close();
        self.forwarder.tunnels.wait().await;
    }

    /// Fetches keys and forgets what is over, for ever.
    pub(crate) async fn upkeep(&self) {
        let keys = async {
            loop {
                self.keys.refresh().await;
                let empty = self.keys.current().is_empty();
                tokio::time::sleep(if empty { KEYS_FIRST } else { KEYS_REFRESH }).await;
            }
        };
        let tidy = async {
            loop {
                tokio::time::sleep(TIDY).await;
                self.limiters.forget();
                self.revocations.forget(self.clock.now());
            }
        };
        let ((), ()) = tokio::join!(keys, tidy);
    }

    async fn handle(&self, peer: &Peer, request: Request<Incoming>) -> Response<Body> {
        if let Some(page) = self.own_page(&request) {
            return page;
        }
        let begun = Instant::now();
        let trace = headers::trace_of(request.headers());
        let mut passage = Passage {
            trace,
            traceparent: headers::traceparent(trace),
            correlation: headers::correlation(request.headers(), trace),
            origin: request.headers().get(ORIGIN).cloned(),
            coding: accepted(request.headers()),
            shown: None,
            route: None,
        };
        let response = match self.pass(peer, request, &mut passage).await {
            Ok(response) => compress(response, passage.coding),
            Err(problem) => problem.traced(trace).into_response(),
        };
        self.finish(response, passage, begun)
    }

    fn finish(&self, mut response: Response<Body>, passage: Passage, begun: Instant) -> Response<Body> {
        let meter = passage.route.as_ref().map_or(&self.unrouted, |route| &route.meter);
        meter.observe(response.status(), begun.elapsed());
        let headers = response.headers_mut();
        headers.insert(TRACEPARENT, passage.traceparent);
        headers.insert(CORRELATION, passage.correlation);
        if let Some(shown) = passage.shown
            && !headers.contains_key(RATE_LIMIT)
        {
            headers.insert(RATE_LIMIT, shown.left);
            headers.insert(RATE_LIMIT_POLICY, shown.policy);
        }
        self.settings.cors.apply(passage.origin.as_ref(), headers);
        response
    }

    async fn pass(
        &self,
        peer: &Peer,
        mut request: Request<Incoming>,
        passage: &mut Passage,
    ) -> Result<Response<Body>, Refusal> {
        passage.shown = Some(self.limiters.take_for_address(peer.ip).await?);
        check_form(&request)?;
        let route = match self.find(&request, passage)? {
            Found::Route(route) => route,
            Found::Answer(response) => return Ok(response),
        };
        let principal = self.authenticate(&route, request.headers()).await?;
        if let Some(principal) = &principal {
            passage.shown = Some(self.limiters.take_for(principal.user, principal.tier).await?);
        }
        authorise(&route, principal.as_deref())?;
        let _place = self.in_flight.try_acquire().map_err(|_| shed())?;
        self.dress(request.headers_mut(), peer, &route, principal.as_deref(), passage);
        self.forwarder.forward(&route, request).await
    }

    fn find(&self, request: &Request<Incoming>, passage: &mut Passage) -> Result<Found, Refusal> {
        let table = self.table.load();
        let Some(place) = table.find(request.uri().path()) else {
            return Err(Box::new(Problem::new(404, "not_found", "there is nothing at this path")));
        };
        if let Some(route) = place.row(request.method()) {
            passage.route = Some(Arc::clone(route));
            return Ok(Found::Route(Arc::clone(route)));
        }
        if request.method() == Method::OPTIONS {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            let allow = place.allow();
            self.settings.cors.preflight(request.headers(), passage.origin.as_ref(), &allow, response.headers_mut());
            response.headers_mut().insert(ALLOW, allow);
            return Ok(Found::Answer(response));
        }
        let problem = Problem::new(405, "method_not_allowed", "this path does not take this method");
        Err(Box::new(problem.header(ALLOW, place.allow())))
    }

    /// Who calls. Where anybody may, a token that does not count is as good as none.
    async fn authenticate(&self, route: &Route, headers: &HeaderMap) -> Result<Option<Arc<Principal>>, Refusal> {
        let open = matches!(route.access, Access::Anyone(_));
        let Some(token) = bearer(headers) else {
            return if open {
                Ok(None)
            } else {
                Err(unauthenticated("Bearer", "sign_in_required", "this route needs a token"))
            };
        };
        match self.tokens.check(token, self.clock.now()).await {
            Ok(principal) => Ok(Some(principal)),
            Err(_) if open => Ok(None),
            Err(TokenError::NoKeys) => {
                let problem = Problem::new(503, "keys_unavailable", "tokens cannot be checked at the moment");
                Err(Box::new(problem.retry_after(Duration::from_secs(1))))
            }
            Err(why) => {
                let (code, detail) = match why {
                    TokenError::Expired => ("token_expired", "the token has expired"),
                    TokenError::Revoked => ("token_revoked", "the token was revoked"),
                    TokenError::Invalid | TokenError::NoKeys => ("token_invalid", "the token is not valid here"),
                };
                Err(unauthenticated("Bearer error=\"invalid_token\"", code, detail))
            }
        }
    }

    /// Takes off what only we may say and says it.
    fn dress(
        &self,
        headers: &mut HeaderMap,
        peer: &Peer,
        route: &Route,
        principal: Option<&Principal>,
        passage: &Passage,
    ) {
        headers::strip_ours(headers);
        let service = &route.upstream.service;
        // Only the auth service ever reads a token; the others get what it says, and our word for it.
        if *service != self.settings.auth_service && bearer(headers).is_some() {
            headers.remove(AUTHORIZATION);
        }
        let nobody = Carried::default();
        let who = principal.map_or(&nobody, |principal| &principal.carried);
        self.signer.sign_into(headers, "gateway", service, who, self.clock.now());
        headers.insert(FORWARDED_FOR, peer.forwarded_for.clone());
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static("http"));
        headers.insert(TRACEPARENT, passage.traceparent.clone());
        headers.insert(CORRELATION, passage.correlation.clone());
    }

    fn own_page(&self, request: &Request<Incoming>) -> Option<Response<Body>> {
        let path = request.uri().path();
        if !matches!(path, "/livez" | "/readyz" | "/metrics") || request.method() != Method::GET {
            return None;
        }
        let mut response = match path {
            "/livez" => Response::new(Body::from("ok\n")),
            "/readyz" => self.readiness(),
            _ => self.metrics_page(),
        };
        let text = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().entry(CONTENT_TYPE).or_insert(text);
        Some(response)
    }

    fn readiness(&self) -> Response<Body> {
        let why_not = if self.draining.load(Ordering::Acquire) {
            Some("draining\n")
        } else if self.keys.current().is_empty() {
            Some("no signing keys yet\n")
        } else {
            None
        };
        let mut response = Response::new(Body::from(why_not.unwrap_or("ok\n")));
        if why_not.is_some() {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        response
    }

    fn metrics_page(&self) -> Response<Body> {
        let mut text = String::new();
        if prometheus_client::encoding::text::encode(&mut text, &self.registry).is_err() {
            return Problem::internal().into_response();
        }
        let mut response = Response::new(Body::from(text));
        let media = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, media);
        response
    }
}

enum Found {
    Route(Arc<Route>),
    Answer(Response<Body>),
}

/// Refuses requests that two readers could understand differently.
fn check_form(request: &Request<Incoming>) -> Result<(), Refusal> {
    let bad = |detail: &'static str| Err(Box::new(Problem::new(400, "malformed_request", detail)));
    if matches!(*request.method(), Method::TRACE | Method::CONNECT) {
        return Err(Box::new(Problem::new(405, "method_not_allowed", "this method is not offered here")));
    }
    if let Some(why) = paths::objection(request.uri().path()) {
        return bad(why);
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return bad("name the host once");
    }
    if request.version() == Version::HTTP_11 && host.is_none() {
        return bad("name the host");
    }
    Ok(())
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn authorise(route: &Route, principal: Option<&Principal>) -> Result<(), Refusal> {
    let Access::May(permission) = route.access else { return Ok(()) };
    let granted = principal.is_some_and(|who| who.roles.iter().any(|role| permission.roles.contains(&role.as_str())));
    if granted {
        return Ok(());
    }
    let problem = Problem::new(403, "forbidden", "your roles do not grant this")
        .with("permission", permission.name)
        .header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"insufficient_scope\""));
    Err(Box::new(problem))
}

fn unauthenticated(challenge: &'static str, code: &'static str, detail: &'static str) -> Refusal {
    Box::new(Problem::new(401, code, detail).header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge)))
}

fn shed() -> Refusal {
    Box::new(
        Problem::new(503, "overloaded", "too much is under way; come back a little later")
            .retry_after(Duration::from_secs(1)),
    )
}
