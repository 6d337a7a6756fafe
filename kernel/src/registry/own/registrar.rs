//! The list itself: entries with a time to live, a place that grows with every change, and the routes to it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use futures::future::BoxFuture;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use rand::RngExt as _;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::{Backend, Instance, Mark, Seen, Trouble, WATCH};
use super::{AUDIENCE, KIND, Page};
use crate::clock::Clock;
use crate::http::{Problem, Signer};

/// The longest time to live and the longest wait that anybody may ask for.
const MOST: Duration = Duration::from_secs(300);

/// Keeps the list of a city. Clones keep the same one.
#[derive(Clone, Debug)]
pub struct Registrar(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Tells this list from one that a registrar before us kept.
    origin: u64,
    services: Mutex<BTreeMap<String, Entries>>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Entries {
    /// Grows with every change of this service's list.
    index: u64,
    /// Until when each instance is listed.
    until: BTreeMap<SocketAddr, Instant>,
}

impl Entries {
    fn drop_dead(&mut self, now: Instant) -> bool {
        let before = self.until.len();
        self.until.retain(|_, until| *until > now);
        let died = self.until.len() != before;
        self.index += u64::from(died);
        died
    }
}

impl Default for Registrar {
    fn default() -> Self {
        Self::new()
    }
}

impl Registrar {
    /// An empty list.
    pub fn new() -> Self {
        // Room for JSON numbers of all languages, and never 0, which is before every list.
        let origin = rand::rng().random_range(1..1_u64 << 53);
        Self(Arc::new(Inner { origin, services: Mutex::default(), changed: watch::Sender::new(0) }))
    }

    /// Enters an instance, or keeps it in.
    pub fn enter(&self, who: &Instance, ttl: Duration) {
        let mut services = self.0.services.lock();
        let entries = services.entry(who.service.clone()).or_default();
        let now = Instant::now();
        let died = entries.drop_dead(now);
        let new = entries.until.insert(who.address, now + ttl.min(MOST)).is_none();
        entries.index += u64::from(new);
        drop(services);
        if new || died {
            self.0.changed.send_modify(|times| *times += 1);
        }
    }

    /// Takes an instance out.
    pub fn remove(&self, who: &Instance) {
        let mut services = self.0.services.lock();
        let Some(entries) = services.get_mut(&who.service) else { return };
        if entries.until.remove(&who.address).is_some() {
            entries.index += 1;
            drop(services);
            self.0.changed.send_modify(|times| *times += 1);
        }
    }

    /// The list of a service now, and when the next of its entries dies.
    fn now(&self, service: &str) -> (Seen, Option<Instant>) {
        let mut services = self.0.services.lock();
        let entries = services.entry(service.to_owned()).or_default();
        entries.drop_dead(Instant::now());
        // An index of 0 would ask to be answered at once for ever.
        let mark = Mark { origin: self.0.origin, index: entries.index + 1 };
        let seen = Seen { instances: entries.until.keys().copied().collect(), mark };
        (seen, entries.until.values().min().copied())
    }

    async fn after(&self, service: &str, since: Mark, wait: Duration) -> Seen {
        let mut changes = self.0.changed.subscribe();
        let end = Instant::now() + wait.min(MOST);
        loop {
            changes.borrow_and_update();
            let (seen, next_death) = self.now(service);
            if seen.mark != since || Instant::now() >= end {
                return seen;
            }
            let look = next_death.map_or(end, |death| death.min(end));
            tokio::select! {
                _ = changes.changed() => {}
                () = tokio::time::sleep_until(look) => {}
            }
        }
    }

    /// The routes; only holders of the city's secret are answered.
    pub fn router(&self, signer: Signer, clock: Clock) -> Router {
        let guard = move |headers: HeaderMap, request: axum::extract::Request, next: axum::middleware::Next| {
            let proven = signer.verify(&headers, AUDIENCE, clock.now());
            async move {
                match proven {
                    Ok(_) => next.run(request).await,
                    Err(error) => Problem::new(401, "unauthenticated", error.to_string()).into_response(),
                }
            }
        };
        Router::new()
            .route("/registry/v1/{service}", get(list))
            .route("/registry/v1/{service}/{address}", put(enter).delete(remove))
            .layer(axum::middleware::from_fn(guard))
            .with_state(self.clone())
    }
}

impl Backend for Registrar {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn announce<'a>(&'a self, who: &'a Instance, ttl: Duration) -> BoxFuture<'a, Result<(), Trouble>> {
        self.enter(who, ttl);
        Box::pin(std::future::ready(Ok(())))
    }

    fn withdraw<'a>(&'a self, who: &'a Instance) -> BoxFuture<'a, Result<(), Trouble>> {
        self.remove(who);
        Box::pin(std::future::ready(Ok(())))
    }

    fn watch<'a>(&'a self, service: &'a str, since: Mark) -> BoxFuture<'a, Result<Seen, Trouble>> {
        Box::pin(async move { Ok(self.after(service, since, WATCH).await) })
    }
}

#[derive(Deserialize)]
struct Life {
    ttl_ms: u64,
}

#[derive(Deserialize)]
struct Since {
    origin: u64,
    index: u64,
    wait_ms: u64,
}

async fn enter(
    State(registrar): State<Registrar>,
    Path((service, address)): Path<(String, SocketAddr)>,
    Query(life): Query<Life>,
) -> StatusCode {
    registrar.enter(&Instance { service, address }, Duration::from_millis(life.ttl_ms));
    StatusCode::NO_CONTENT
}

async fn remove(
    State(registrar): State<Registrar>,
    Path((service, address)): Path<(String, SocketAddr)>,
) -> StatusCode {
    registrar.remove(&Instance { service, address });
    StatusCode::NO_CONTENT
}

async fn list(State(registrar): State<Registrar>, Path(service): Path<String>, Query(since): Query<Since>) -> Response {
    let mark = Mark { origin: since.origin, index: since.index };
    let seen = registrar.after(&service, mark, Duration::from_millis(since.wait_ms)).await;
    Json(Page { origin: seen.mark.origin, index: seen.mark.index, instances: seen.instances }).into_response()
}
