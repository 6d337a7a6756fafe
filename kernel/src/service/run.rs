//! Starting and stopping one service: database, state, port, consumers, jobs; then ready; and back in reverse.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http::HeaderMap;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Declared, Kit, Parts, StartError};
use crate::clock::Clock;
use crate::config::Sources;
use crate::docs;
use crate::events::{self, BusHealth, Consumer};
use crate::health::Health;
use crate::http::{Limits, Problem, Signer, server};
use crate::jobs;
use crate::registry::Directory;
use crate::secrets::Secrets;
use crate::store::{Engine, Options, Store};
use crate::task::Tasks;
use crate::telemetry::{self, Metrics};

/// How long events and their traces in the inbox are kept beyond the newest of each aggregate.
const KEEP_EVENTS: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a service finds around itself.
pub struct Surroundings {
    /// The bound port.
    pub listener: TcpListener,
    /// Where its data is kept.
    pub engine: Engine,
    /// Where others listen.
    pub directory: Directory,
    /// Signs and checks calls inside the city.
    pub signer: Signer,
    /// The city's secrets.
    pub secrets: Secrets,
    /// Where settings come from.
    pub sources: Sources,
    /// Its time.
    pub clock: Clock,
    /// The product's name, for its OpenAPI document.
    pub title: &'static str,
}

/// A service that runs.
pub struct Running {
    /// Its name.
    pub name: &'static str,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its database, for tests and commands in the same process.
    pub store: Store,
    /// How its consumers fare.
    pub bus: BusHealth,
    /// Its checks.
    pub health: Health,
    stop: CancellationToken,
    tasks: Tasks,
}

impl Running {
    /// Stops taking requests, lets running ones end, then stops consumers and jobs and closes the database.
    pub async fn stop(self) {
        self.health.drain();
        self.stop.cancel();
        self.tasks.drain(Duration::from_secs(20)).await;
        self.store.close().await;
    }

    /// Resolves when one of the service's tasks ended although nobody stopped it.
    pub async fn broken(&self) -> String {
        self.tasks.broken().await
    }
}

/// Starts a service and returns once it is ready.
///
/// # Errors
/// A database that cannot be opened or belongs to a newer version, settings that do not read, a state that cannot be made.
pub async fn start(declared: &Declared, around: Surroundings) -> Result<Running, StartError> {
    let manifest = declared.manifest();
    let name = manifest.name;
    let options = Options {
        claims: manifest.publishes.iter().map(|e| e.name).collect(),
        ..Options::new(around.engine.clone(), around.clock.clone())
    };
    let opened = Store::open(options, declared.migrations()).await;
    let store = opened.map_err(|e| StartError(format!("{name}: database: {e}")))?;
    let metrics = Metrics::new(name);
    let kit = Kit {
        service: name,
        store: store.clone(),
        clock: around.clock.clone(),
        metrics: metrics.clone(),
        directory: around.directory.clone(),
        signer: around.signer.clone(),
        secrets: around.secrets.clone(),
        sources: around.sources.clone(),
    };
    let parts = declared.0.parts(kit)?;
    let address = around.listener.local_addr().map_err(|e| StartError(format!("{name}: its port: {e}")))?;
    let (stop, tasks, health, bus) = (CancellationToken::new(), Tasks::new(name), Health::new(), BusHealth::default());
    let router = whole_router(declared, &around, &store, &health, &metrics, &stop, parts.router.clone());
    run_parts(name, parts, &around, &store, &bus, &stop, &tasks);
    tasks.spawn("server", server::serve(around.listener, router, Limits::service(), stop.clone()));
    health.started();
    Ok(Running { name, address, store, bus, health, stop, tasks })
}

/// Consumers, jobs and, where insert order is not commit order, the relay.
fn run_parts(name: &'static str, parts: Parts, around: &Surroundings, store: &Store, bus: &BusHealth, stop: &CancellationToken, tasks: &Tasks) {
    let (signer, clock) = (around.signer.clone(), around.clock.clone());
    let authorize = move |publisher: &str| -> HeaderMap { signer.sign(name, publisher, None, clock.now()) };
    if !parts.reactions.is_empty() {
        let consumer = Consumer {
            name,
            store: store.clone(),
            directory: around.directory.clone(),
            reactions: parts.reactions,
            authorize: Arc::new(authorize),
            health: bus.clone(),
        };
        tasks.spawn("consumer", telemetry::in_service(name, consumer.run(stop.clone())));
    }
    let owner = format!("{name}-{}-{}", std::process::id(), crate::ids::fresh().simple());
    let mut jobs = parts.jobs;
    jobs.push(events::purge_job(store.clone(), KEEP_EVENTS));
    tasks.spawn_checked("jobs", telemetry::in_service(name, jobs::run(store.clone(), owner.clone(), jobs, parts.timers, stop.clone())));
    if !store.orders_by_insert() {
        tasks.spawn("relay", telemetry::in_service(name, events::relay(store.clone(), owner, stop.clone())));
    }
}

/// The service's own routes beside the outbox stream, the probes, its metrics and its document.
fn whole_router(
    declared: &Declared,
    around: &Surroundings,
    store: &Store,
    health: &Health,
    metrics: &Metrics,
    stop: &CancellationToken,
    own: Router,
) -> Router {
    let name = declared.manifest().name;
    let (signer, clock) = (around.signer.clone(), around.clock.clone());
    let verify = move |headers: &HeaderMap| {
        signer.verify(headers, name, clock.now()).map(|(caller, _)| caller).map_err(|e| e.to_string())
    };
    let outbox = events::outbox_service(store.clone(), Arc::new(verify), stop.clone());
    let document = docs::openapi(around.title, declared.manifest()).to_string();
    let metrics = metrics.clone();
    own.merge(health.router())
        .route("/metrics", get(move || async move { metrics.render() }))
        .route("/openapi.json", get(move || async move { ([("content-type", "application/json")], document) }))
        .merge(events::admin_router(store.clone(), around.signer.clone(), around.clock.clone(), name))
        .merge(outbox.into_axum_router())
        .fallback(|| async { Problem::new(404, "not_found", "There is nothing at this address.") })
        .layer(axum::middleware::from_fn(move |request, next: axum::middleware::Next| {
            telemetry::in_service(name, next.run(request))
        }))
}
