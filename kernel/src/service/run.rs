//! Starting and stopping one service: database, state, port, consumers, jobs; then ready; and back in reverse.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http::HeaderMap;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::housekeeping::housekeeping;
use super::{Declared, Kit, Parts, StartError, probes};
use crate::clock::Clock;
use crate::config::Configuration;
use crate::docs;
use crate::events::{self, BusHealth, Carrier, Consumer, Hands, relay};
use crate::health::Health;
use crate::http::{Limits, Problem, Signer, server};
use crate::idempotency::AnswersAtHand;
use crate::jobs::{self, JobMeasures};
use crate::redis::{self, Redis, RedisSettings};
use crate::registry::Directory;
use crate::secrets::Secrets;
use crate::store::{Engine, Options, Scope, Store};
use crate::task::{Failure, Tasks};
use crate::telemetry::{self, About, Exporting, Member, Metrics, StoreMeasures};

/// How long running requests and units may take to end when the service stops.
const DRAIN: Duration = Duration::from_secs(20);

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
    /// What is set.
    pub configuration: Configuration,
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
    /// Its metrics.
    pub metrics: Metrics,
    tasks: Tasks,
    exporting: Exporting,
}

impl Running {
    /// Stops taking requests, lets running ones end, then stops consumers and jobs and closes the database.
    pub async fn stop(self) {
        self.health.drain();
        telemetry::in_service(self.exporting.member(), self.tasks.drain(DRAIN)).await;
        self.store.close().await;
        // Last, because ending makes spans, too.
        self.exporting.finish().await;
    }

    /// Resolves when one of the service's tasks ended although nobody stopped it.
    pub async fn failure(&self) -> Failure {
        self.tasks.failure().await
    }
}

/// Starts a service and returns once it is ready.
///
/// # Errors
/// A database that cannot be opened or belongs to a newer version, settings that do not read, a state that cannot be made.
pub async fn start(declared: &Declared, around: Surroundings) -> Result<Running, StartError> {
    let name = declared.manifest().name;
    let metrics = Metrics::new(name);
    let address = around.listener.local_addr().map_err(|e| StartError(format!("{name}: its port: {e}")))?;
    let about = About { service: name, instance: instance(name, address), product: around.title };
    let exporting = Exporting::start(&about, &around.configuration, &around.clock, &metrics);
    let exporting = exporting.map_err(|e| StartError(format!("{name}: {e}")))?;
    // What is started here, threads included, knows from now on whose it is.
    telemetry::in_service(exporting.member(), launch(declared, around, metrics, address, exporting)).await
}

async fn launch(
    declared: &Declared,
    around: Surroundings,
    metrics: Metrics,
    address: SocketAddr,
    exporting: Exporting,
) -> Result<Running, StartError> {
    let manifest = declared.manifest();
    let name = manifest.name;
    let options = Options {
        claims: manifest.publishes.iter().map(|e| e.name).collect(),
        measures: Some(StoreMeasures::new(&metrics)),
        ..Options::new(around.engine.clone(), around.clock.clone())
    };
    let opened = Store::open(options, declared.migrations()).await;
    let store = opened.map_err(|e| StartError(format!("{name}: database: {e}")))?;
    let (tasks, health) = (Tasks::new(), Health::new());
    let (redis, answers) = helper(name, &around, &metrics, &health, &tasks).await?;
    let kit = Kit {
        service: name,
        // The service's own code runs where the kernel said for whom: a request's, an event's, a timer's, a job's.
        store: store.guarded(),
        clock: around.clock.clone(),
        metrics: metrics.clone(),
        directory: around.directory.clone(),
        signer: around.signer.clone(),
        secrets: around.secrets.clone(),
        configuration: around.configuration.clone(),
        redis,
        tasks: tasks.clone(),
        answers,
    };
    let parts = Scope::Everybody.around(async { declared.0.parts(kit) }).await?;
    let parts = parts.watched(&JobMeasures::new(&metrics));
    let bus = BusHealth::default();
    let unsettled = |why: String| StartError(format!("{name}: {why}"));
    let carrier = Carrier::load(name, &around.configuration, &around.secrets).map_err(unsettled)?;
    carrier.settle(&store, &bus, &parts.reactions).await.map_err(unsettled)?;
    let hands = Hands {
        service: name,
        store: store.clone(),
        reactions: parts.reactions.clone(),
        health: bus.clone(),
        carrier: carrier.clone(),
        signer: around.signer.clone(),
        clock: around.clock.clone(),
    };
    probes::add_checks(&health, &store, &bus);
    around.configuration.report(&metrics, &health);
    probes::add_figures(name, &metrics, &store, &bus);
    let page = probes::metrics_page(&metrics);
    let own = parts.router.clone().merge(events::admin_router(hands)).merge(page).merge(health.router());
    let router = whole_router(declared, &around, &store, &tasks.stopping(), own, exporting.member());
    let carried = (manifest.publishes.clone(), parts.reactions.clone());
    let carrying = carrier.run(store.clone(), bus.clone(), carried, instance(name, address), tasks.stopping());
    tasks.spawn("kafka", carrying);
    run_parts(name, address, parts, &around, &store, &bus, &tasks);
    let served = server::serve(around.listener, router, Limits::default(), tasks.stopping());
    tasks.spawn("server", served);
    health.started();
    Ok(Running { name, address, store, bus, health, metrics, tasks, exporting })
}

/// Redis, where one is set, and the answers that are kept there. A Redis that is away makes nobody unready.
async fn helper(
    name: &'static str,
    around: &Surroundings,
    metrics: &Metrics,
    health: &Health,
    tasks: &Tasks,
) -> Result<(Option<Redis>, Option<AnswersAtHand>), StartError> {
    let settings: RedisSettings = around.configuration.settings(redis::SECTION)?;
    let opened = Redis::open(&settings, name, &around.secrets, tasks).await;
    let Some(redis) = opened.map_err(|e| StartError(format!("{name}: {e}")))? else { return Ok((None, None)) };
    metrics.with_registry(|registry| redis.register(registry));
    let asked = redis.clone();
    health.check_by_asking("redis", move || std::future::ready(Ok(asked.stand())));
    let life = Duration::from_secs(settings.answers_s);
    let answers = (!life.is_zero()).then(|| AnswersAtHand::new(name, &redis, life, tasks));
    Ok((Some(redis), answers))
}

/// Consumers, jobs and, where insert order is not commit order, the relay.
fn run_parts(
    name: &'static str,
    address: SocketAddr,
    parts: Parts,
    around: &Surroundings,
    store: &Store,
    bus: &BusHealth,
    tasks: &Tasks,
) {
    let (signer, clock) = (around.signer.clone(), around.clock.clone());
    let authorize = move |publisher: &str| -> HeaderMap { signer.sign(name, publisher, None, clock.now()) };
    let hears = !parts.reactions.is_empty();
    let consumer = Consumer {
        name,
        store: store.clone(),
        directory: around.directory.clone(),
        reactions: parts.reactions,
        authorize: Arc::new(authorize),
        health: bus.clone(),
    };
    if hears {
        tasks.spawn("consumer", consumer.run(tasks.stopping()));
    }
    let owner = instance(name, address);
    tasks.spawn("relay", relay::run(store.clone(), owner.clone(), tasks.stopping()));
    let (mut jobs, timers, stop) = (parts.jobs, parts.timers, tasks.stopping());
    jobs.push(housekeeping(store.in_background()));
    let running = jobs::run(store.clone(), owner, jobs, timers, stop);
    tasks.spawn("jobs", async {
        if let Err(failure) = running.await {
            tracing::error!(%failure, "the jobs of this service cannot go on");
        }
    });
}

/// The same after a crash, so that the leases and partitions this instance held are its own again at once.
fn instance(name: &str, address: SocketAddr) -> String {
    format!("{name}@{address}")
}

/// The service's own routes and pages beside the outbox stream and its document.
fn whole_router(
    declared: &Declared,
    around: &Surroundings,
    store: &Store,
    stop: &CancellationToken,
    own: Router,
    member: Member,
) -> Router {
    let name = declared.manifest().name;
    let (signer, clock) = (around.signer.clone(), around.clock.clone());
    let verify = move |headers: &HeaderMap| {
        signer.verify(headers, name, clock.now()).map(|(caller, _)| caller).map_err(|e| e.to_string())
    };
    let outbox = events::outbox_service(store.clone(), Arc::new(verify), stop.clone());
    let document = docs::openapi(around.title, declared.manifest()).to_string();
    own.route("/openapi.json", get(move || async move { ([("content-type", "application/json")], document) }))
        .merge(outbox.into_axum_router())
        .fallback(|| async { Problem::new(404, "not_found", "There is nothing at this address.") })
        .layer(axum::middleware::from_fn(move |request, next: axum::middleware::Next| {
            // Requests of one HTTP/2 connection are tasks of the library's, which know nothing of ours.
            telemetry::in_service(member.clone(), next.run(request))
        }))
}
