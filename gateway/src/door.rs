//! What happens to a request, step by step.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::Body;
use axum::response::IntoResponse as _;
use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use kernel::clock::{Clock, Timestamp};
use kernel::http::assertion::{Carried, Signer};
use kernel::http::problem::Problem;
use kernel::http::server::Answers;
use kernel::manifest::{Access, PublicRoute};
use kernel::resilience::RetryBudget;
use kernel::telemetry::{
    CallersTrace, HttpMeasures, Member, Metrics, Name, Role, RouteMeasures, Span, in_service, in_trace, key,
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::{self, authorise, bearer, check_form};
use crate::compress::{accepted, compress};
use crate::forward::{Forwarder, Ours, Tunnel};
use crate::headers::{self, CORRELATION, TRACEPARENT};
use crate::keys::Keys;
use crate::lease::Lease;
use crate::limits::{Limiters, Together};
use crate::metrics;
use crate::pages;
use crate::passage::{Passage, Peer};
use crate::said::Said;
use crate::shared_revocations::SharedRevocations;
use crate::table::{Route, Table};
use crate::tokens::{Principal, Tokens};
use crate::upstream::Upstreams;
use crate::{Figures, Options, Settings};

/// A refusal on its way out; boxed, because it is rare and large.
pub(crate) type Refusal = Box<Problem>;

/// Taking a place in a bucket, of the address or of the caller.
const LIMIT: Name = Name("limit", "");
const KEYS_REFRESH: Duration = Duration::from_secs(10 * 60);
const KEYS_FIRST: Duration = Duration::from_millis(500);
const TIDY: Duration = Duration::from_secs(30);
/// The method of a request whose route is not known: any word may stand there. Source: the conventions for HTTP.
const UNROUTED: &str = "_OTHER";

/// The gateway itself.
pub(crate) struct Door {
    pub(crate) settings: Settings,
    table: ArcSwap<Table>,
    upstreams: Arc<Upstreams>,
    metrics: Metrics,
    measures: HttpMeasures,
    unrouted: RouteMeasures,
    hot: ArcSwap<Hot>,
    together: Together,
    keys: Arc<Keys>,
    tokens: Tokens,
    revocations: crate::Revocations,
    shared: Option<SharedRevocations>,
    signer: Signer,
    /// What is said of callers who have not signed in.
    nobody: Said,
    clock: Clock,
    forwarder: Forwarder,
    draining: AtomicBool,
}

/// What may change while requests run.
struct Hot {
    figures: Figures,
    limiters: Arc<Limiters>,
    places: Arc<Semaphore>,
}

impl Hot {
    fn new(figures: Figures, together: &Together) -> Self {
        Self {
            limiters: Arc::new(Limiters::new(&figures.per_address, &figures.tiers, together)),
            places: places(&figures),
            figures,
        }
    }

    /// These figures with what they do not change: a caller's bucket is not full again because a page may now call.
    fn with(&self, figures: Figures, together: &Together) -> Self {
        let rates = |of: &Figures| (of.per_address.clone(), of.tiers.clone());
        let new = Self::new(figures, together);
        let limiters = if rates(&new.figures) == rates(&self.figures) { &self.limiters } else { &new.limiters };
        let same_room = new.figures.max_in_flight == self.figures.max_in_flight;
        let places = if same_room { &self.places } else { &new.places };
        Self { limiters: Arc::clone(limiters), places: Arc::clone(places), figures: new.figures }
    }
}

fn places(figures: &Figures) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(figures.max_in_flight.min(Semaphore::MAX_PERMITS)))
}

impl Door {
    pub(crate) fn new(options: Options) -> Self {
        let Options { routes, directory, signer, revocations, redis, metrics, clock, settings } = options;
        if let Some(redis) = &redis {
            metrics.with_registry(|registry| redis.register(registry));
        }
        let shared = redis.as_ref().map(|redis| SharedRevocations::new(redis, revocations.clone()));
        let together = Together { redis, directory: directory.clone() };
        let upstreams = Arc::new(Upstreams::new(directory, settings.breaker, clock.clone()));
        metrics::show_circuits(&metrics, Arc::clone(&upstreams));
        let measures = HttpMeasures::new(&metrics);
        let auth = upstreams.of(&settings.auth_service);
        let keys = Arc::new(Keys::new(auth, settings.connect, signer.clone(), clock.clone()));
        let (issuer, audience) = (settings.issuer.clone(), settings.audience.clone());
        Self {
            table: ArcSwap::from_pointee(Table::new(&routes, &upstreams, &measures)),
            unrouted: measures.route(UNROUTED, ""),
            hot: ArcSwap::from_pointee(Hot::new(settings.figures(), &together)),
            together,
            shared,
            tokens: Tokens::new(Arc::clone(&keys), revocations.clone(), issuer, audience),
            forwarder: Forwarder {
                connect: settings.connect,
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
            measures,
            keys,
            revocations,
            signer,
            nobody: Said::default(),
            clock,
        }
    }

    /// Takes other figures; buckets and places are new only where theirs changed.
    pub(crate) fn set_figures(&self, figures: Figures) {
        let before = self.hot.load_full();
        self.hot.store(Arc::new(before.with(figures, &self.together)));
    }

    pub(crate) fn set_routes(&self, routes: &[PublicRoute]) {
        self.table.store(Arc::new(Table::new(routes, &self.upstreams, &self.measures)));
    }

    /// The service for one connection.
    pub(crate) fn service(door: Arc<Self>, peer: SocketAddr) -> impl Answers {
        let ip = peer.ip().to_canonical();
        let forwarded_for = HeaderValue::try_from(ip.to_string()).expect("an address is a header");
        let peer = Arc::new(Peer { ip, forwarded_for });
        // Requests of one HTTP/2 connection are tasks of the library's, which know nothing of ours.
        let member = Member::here();
        tower::service_fn(move |request| {
            let (door, peer, member) = (Arc::clone(&door), Arc::clone(&peer), member.clone());
            async move {
                // On the heap, here and at two places below: what is put around a future copies it, and the ones around
                // those copy the copies. The request as well, which is handed on from one to the next.
                let answer = Box::pin(door.handle(&peer, Box::new(request)));
                Ok::<_, Infallible>(match member {
                    Some(member) => in_service(member, answer).await,
                    None => answer.await,
                })
            }
        })
    }

    /// From now on we say that we are not ready.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Ends `WebSockets` that are still open.
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
                self.hot.load_full().limiters.forget();
                self.revocations.forget(self.clock.now());
                self.upstreams.forget();
            }
        };
        let share = async {
            match &self.shared {
                Some(shared) => shared.keep_in_step().await,
                None => std::future::pending().await,
            }
        };
        let ((), (), ()) = tokio::join!(keys, tidy, share);
    }

    async fn handle(&self, peer: &Peer, request: Box<Request<Incoming>>) -> Response<Body> {
        if let Some(page) = pages::own(&request, || self.why_not_ready(), &self.metrics).await {
            return page;
        }
        let mut measured = self.unrouted.begun();
        let caller = CallersTrace::of(request.headers());
        let trace = caller.answer();
        let mut span = Span::at(trace, caller.step(), Role::Server, Name(UNROUTED, ""));
        let mut passage = Passage {
            traceparent: headers::traceparent(trace),
            correlation: headers::correlation(request.headers(), trace),
            origin: request.headers().get(ORIGIN).cloned(),
            coding: accepted(request.headers()),
            shown: None,
            route: None,
        };
        let passing = async {
            match self.pass(peer, request, &mut passage).await {
                Ok(response) => compress(response, passage.coding),
                Err(problem) => {
                    // Refusals are counted; what broke behind us is also told.
                    if matches!(problem.status, 502 | 504) {
                        tracing::warn!(code = %problem.code, status = problem.status, "request failed behind the gateway");
                    }
                    problem.traced(trace).into_response()
                }
            }
        };
        let response = in_trace(trace, Box::pin(passing)).await;
        if let Some(route) = &passage.route {
            measured.belongs_to(&route.measures);
            span.rename(route.name);
            span.set(key::HTTP_REQUEST_METHOD, route.name.0);
            span.set(key::HTTP_ROUTE, route.name.1);
        }
        span.answered(response.status().as_u16());
        measured.answered(response.status().as_u16());
        self.finish(response, passage)
    }

    fn finish(&self, mut response: Response<Body>, passage: Passage) -> Response<Body> {
        let headers = response.headers_mut();
        headers.insert(TRACEPARENT, passage.traceparent);
        headers.insert(CORRELATION, passage.correlation);
        if let Some(shown) = passage.shown {
            shown.on(headers);
        }
        self.hot.load().figures.cors.apply(passage.origin.as_ref(), headers);
        response
    }

    async fn pass(
        &self,
        peer: &Peer,
        mut request: Box<Request<Incoming>>,
        passage: &mut Passage,
    ) -> Result<Response<Body>, Refusal> {
        // One state of the figures for the whole request; its place is one of that state's.
        let hot = self.hot.load_full();
        passage.shown = Some(Span::step(LIMIT).around(hot.limiters.take_for_address(peer.ip)).await?);
        check_form(&request)?;
        let route = match self.find(&request, passage)? {
            Found::Route(route) => route,
            Found::Answer(response) => return Ok(response),
        };
        // One look at the clock: what is said of a caller is as of the moment the token was found good.
        let now = self.clock.now();
        let authenticating = Span::step(Name("authenticate", ""));
        let principal = authenticating.around(self.authenticate(&route, request.headers(), now)).await?;
        if let Some(principal) = &principal {
            let limiting = hot.limiters.take_for(principal.user, principal.tier);
            passage.shown = Some(Span::step(LIMIT).around(limiting).await?);
        }
        {
            let _span = Span::step(Name("authorise", ""));
            authorise(&route, principal.as_deref())?;
        }
        let _place = hot.places.try_acquire().map_err(|_| admission::shed())?;
        let lease = principal.clone().map(|principal| self.lease(principal));
        let tunnel = Tunnel::wanted(&mut request, lease.as_ref());
        self.undress(request.headers_mut(), &route);
        let ours = Ours {
            forwarded_for: peer.forwarded_for.clone(),
            traceparent: passage.traceparent.clone(),
            correlation: passage.correlation.clone(),
            said: self.said_of(principal.as_deref(), route.service, now),
        };
        let routing = Span::step(Name("route", route.service));
        let response = routing.around(Box::pin(self.forwarder.forward(&route, request, ours, tunnel))).await?;
        Ok(match lease {
            Some(lease) => lease.cover(response),
            None => response,
        })
    }

    fn lease(&self, principal: Arc<Principal>) -> Lease {
        let (revocations, clock) = (self.revocations.clone(), self.clock.clone());
        Lease { principal, revocations, clock, every: self.settings.lease_check }
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
            self.hot.load().figures.cors.preflight(
                request.headers(),
                passage.origin.as_ref(),
                &allow,
                response.headers_mut(),
            );
            response.headers_mut().insert(ALLOW, allow);
            return Ok(Found::Answer(response));
        }
        let problem = Problem::new(405, "method_not_allowed", "this path does not take this method");
        Err(Box::new(problem.header(ALLOW, place.allow())))
    }

    /// Who calls. Where anybody may, a token that does not count is as good as none.
    async fn authenticate(
        &self,
        route: &Route,
        headers: &HeaderMap,
        now: Timestamp,
    ) -> Result<Option<Arc<Principal>>, Refusal> {
        let open = matches!(route.access, Access::Anyone(_));
        let Some(token) = bearer(headers) else {
            return if open { Ok(None) } else { Err(admission::sign_in_required()) };
        };
        match self.tokens.check(token, now).await {
            Ok(principal) => Ok(Some(principal)),
            Err(_) if open => Ok(None),
            Err(why) => Err(admission::token_refused(why)),
        }
    }

    /// Takes off what does not pass; what we say ourselves is written beside it.
    fn undress(&self, headers: &mut HeaderMap, route: &Route) {
        headers::strip_request(headers);
        // Only the auth service ever reads a token; the others get what it says, and our word for it.
        if route.service != self.settings.auth_service && bearer(headers).is_some() {
            headers.remove(AUTHORIZATION);
        }
    }

    /// Who calls, in lines that no header of the caller's can be among: those were taken off.
    fn said_of(&self, principal: Option<&Principal>, service: &'static str, now: Timestamp) -> Bytes {
        match principal {
            Some(who) => who.said.to(service, &who.carried, &self.signer, now),
            None => self.nobody.to(service, &Carried::default(), &self.signer, now),
        }
    }

    fn why_not_ready(&self) -> Option<&'static str> {
        if self.draining.load(Ordering::Acquire) {
            return Some("draining\n");
        }
        if self.shared.as_ref().is_some_and(|shared| !shared.has_asked()) {
            return Some("revocations not asked for yet\n");
        }
        self.keys.current().is_empty().then_some("no signing keys yet\n")
    }
}

enum Found {
    Route(Arc<Route>),
    Answer(Response<Body>),
}
