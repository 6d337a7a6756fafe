//! One declaration per service: the calls below fill the manifest and the running parts alike, so they cannot disagree.

mod housekeeping;
mod probes;
mod run;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::config::{ConfigError, Configuration, Live, Settings, Table};
use crate::events::{Event, EventDef, Fault, Reaction, Received};
use crate::http::{Routes, Signer};
use crate::idempotency::{self, AnswersAtHand};
use crate::jobs::{DueTimer, Job, JobError, JobMeasures, Timer, Trigger};
use crate::manifest::{CallDoc, JobDoc, Manifest, RefusalDoc};
use crate::redis::Redis;
use crate::registry::Directory;
use crate::secrets::Secrets;
use crate::store::{Migration, Store, Tx};
use crate::task::Tasks;
use crate::telemetry::{HttpMeasures, Metrics};

pub use run::{Running, Surroundings, start};

/// What a service is handed when it starts.
#[derive(Clone)]
pub struct Kit {
    /// Its own name.
    pub service: &'static str,
    /// Its own database.
    pub store: Store,
    /// Its time.
    pub clock: Clock,
    /// Its metrics.
    pub metrics: Metrics,
    /// Where others listen.
    pub directory: Directory,
    /// Signs calls to other services.
    pub signer: Signer,
    /// The city's secrets.
    pub secrets: Secrets,
    /// What is set.
    pub configuration: Configuration,
    /// Redis, where one is set. It may be away at any moment.
    pub redis: Option<Redis>,
    /// What tasks of its own are started with; they end with the service.
    pub tasks: Tasks,
    pub(crate) answers: Option<AnswersAtHand>,
}

impl Kit {
    /// The service's settings as they are when it starts; each field of them belongs under `x-restart`.
    pub fn settings<T: Settings>(&self) -> Result<T, ConfigError> {
        self.configuration.settings(self.service)
    }

    /// The service's settings, which follow the configuration while it runs.
    pub fn live<T: Settings>(&self) -> Result<Live<T>, ConfigError> {
        self.configuration.live(self.service)
    }
}

/// Why a service did not start; says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub String);

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self(error.to_string())
    }
}

type Make<S, T> = Box<dyn Fn(Arc<S>) -> T + Send + Sync>;

/// A service whose state is `S`, while it is being declared.
pub struct Service<S> {
    manifest: Manifest,
    migrations: Vec<Migration>,
    routes: Box<dyn Fn() -> Routes<S> + Send + Sync>,
    reactions: Vec<Make<S, Reaction>>,
    jobs: Vec<Make<S, Job>>,
    timers: Vec<Make<S, Timer>>,
    keep_answers: Duration,
}

/// Starts a declaration with the crate's own name and description: `kernel::describe!(Orders)`.
#[macro_export]
macro_rules! describe {
    ($state:ty) => {
        $crate::service::Service::<$state>::new(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_DESCRIPTION"))
    };
}

impl<S: Send + Sync + 'static> Service<S> {
    /// A service with this name and purpose.
    pub fn new(name: &'static str, purpose: &'static str) -> Self {
        Self {
            manifest: Manifest { name, purpose, ..Manifest::default() },
            migrations: Vec::new(),
            routes: Box::new(Routes::new),
            reactions: Vec::new(),
            jobs: Vec::new(),
            timers: Vec::new(),
            keep_answers: idempotency::KEEP,
        }
    }

    /// The port it usually listens on.
    pub fn port(mut self, port: u16) -> Self {
        self.manifest.port = port;
        self
    }

    /// Its schema steps, in order.
    pub fn migrations(mut self, steps: &[Migration]) -> Self {
        self.manifest.migrations = steps.iter().map(|s| (s.name, s.sql)).collect();
        self.migrations = steps.to_vec();
        self
    }

    /// Event types that it alone publishes.
    pub fn publishes(mut self, events: &[EventDef]) -> Self {
        self.manifest.publishes.extend_from_slice(events);
        self
    }

    /// Its route table.
    pub fn routes(mut self, routes: fn() -> Routes<S>) -> Self {
        self.manifest.routes = routes().rows.into_iter().map(|r| r.doc).collect();
        self.routes = Box::new(routes);
        self
    }

    /// Reacts to an event inside the consumer's unit of work; the event type is read off the argument.
    pub fn on<E, F, Fut>(mut self, react: F) -> Self
    where
        E: Event,
        F: Fn(Tx, Arc<S>, Received<E>) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Fault>> + Send + 'static,
    {
        self.hear(E::DEF);
        self.reactions
            .push(Box::new(move |state: Arc<S>| Reaction::new(move |tx, event| react(tx, state.clone(), event))));
        self
    }

    /// Keeps the newest full state of each thing that this event tells of, to read in [`crate::events::projected`].
    pub fn keeps<E: Event>(mut self) -> Self {
        self.hear(E::DEF);
        self.manifest.keeps.push(E::DEF);
        self.reactions.push(Box::new(|_| crate::events::keep::<E>()));
        self
    }

    fn hear(&mut self, event: EventDef) {
        if !self.manifest.hears.iter().any(|known| known.name == event.name) {
            self.manifest.hears.push(event);
        }
    }

    /// Runs `work` at this interval.
    pub fn every<F, Fut>(self, interval: Duration, name: &'static str, work: F) -> Self
    where
        F: Fn(Arc<S>) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output = Result<(), JobError>> + Send + 'static,
    {
        self.job(name, format!("every {interval:?}"), Trigger::Every(interval), work)
    }

    /// Runs `work` when a committed unit woke it, at start, and after `sweep` in case a wake-up was lost.
    pub fn woken<F, Fut>(self, name: &'static str, sweep: Duration, work: F) -> Self
    where
        F: Fn(Arc<S>) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output = Result<(), JobError>> + Send + 'static,
    {
        self.job(name, format!("woken, sweep {sweep:?}"), Trigger::Woken { sweep }, work)
    }

    fn job<F, Fut>(mut self, name: &'static str, says: String, trigger: Trigger, work: F) -> Self
    where
        F: Fn(Arc<S>) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output = Result<(), JobError>> + Send + 'static,
    {
        self.manifest.jobs.push(JobDoc { name, trigger: says });
        self.jobs.push(Box::new(move |state: Arc<S>| Job::new(name, trigger, move || work(state.clone()))));
        self
    }

    /// Handles timers of this step, set by [`Tx::set_timer`], in the unit that removes them.
    pub fn timer<F, Fut>(mut self, step: &'static str, fire: F) -> Self
    where
        F: Fn(Tx, Arc<S>, DueTimer) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Fault>> + Send + 'static,
    {
        self.manifest.jobs.push(JobDoc { name: step, trigger: "timer".into() });
        self.timers.push(Box::new(move |state: Arc<S>| Timer::new(step, move |tx, due| fire(tx, state.clone(), due))));
        self
    }

    /// Lists synchronous calls to other services, each with its reason.
    pub fn calls(mut self, calls: &[CallDoc]) -> Self {
        self.manifest.calls.extend_from_slice(calls);
        self
    }

    /// Lists the refusals of its own.
    pub fn refuses(mut self, refusals: &[RefusalDoc]) -> Self {
        self.manifest.refusals.extend_from_slice(refusals);
        self
    }

    /// The type of its settings; defaults and doc comments go into the documents.
    pub fn settings<T: Settings>(mut self) -> Self {
        self.manifest.settings = Some(Table::of::<T>());
        self
    }

    /// How long answers are kept for repeated requests, where a day is too short.
    pub fn keep_answers_for(mut self, keep: Duration) -> Self {
        self.keep_answers = keep;
        self
    }

    /// Ends the declaration with what makes the state from the kit.
    pub fn start_with<E>(self, make: impl Fn(Kit) -> Result<S, E> + Send + Sync + 'static) -> Declared
    where
        StartError: From<E>,
    {
        Declared(Arc::new(Whole { service: self, make: Box::new(move |kit| make(kit).map_err(StartError::from)) }))
    }
}

/// A whole declaration with its state's type erased.
#[derive(Clone)]
pub struct Declared(Arc<dyn Launch>);

impl Declared {
    /// What the service says about itself.
    pub fn manifest(&self) -> &Manifest {
        self.0.manifest()
    }

    /// Its schema steps.
    pub fn migrations(&self) -> &[Migration] {
        self.0.migrations()
    }
}

impl fmt::Debug for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Declared({})", self.manifest().name)
    }
}

struct Whole<S> {
    service: Service<S>,
    make: Box<dyn Fn(Kit) -> Result<S, StartError> + Send + Sync>,
}

/// The running parts of a service, made from one state.
struct Parts {
    router: axum::Router,
    reactions: Vec<Reaction>,
    jobs: Vec<Job>,
    timers: Vec<Timer>,
}

impl Parts {
    /// The same parts with every run of a job counted.
    fn watched(mut self, measures: &JobMeasures) -> Self {
        self.jobs = self.jobs.into_iter().map(|job| measures.watch_job(job)).collect();
        self.timers = self.timers.into_iter().map(|timer| measures.watch_timer(timer)).collect();
        self
    }
}

trait Launch: Send + Sync {
    fn manifest(&self) -> &Manifest;
    fn migrations(&self) -> &[Migration];
    fn parts(&self, kit: Kit) -> Result<Parts, StartError>;
}

impl<S: Send + Sync + 'static> Launch for Whole<S> {
    fn manifest(&self) -> &Manifest {
        &self.service.manifest
    }

    fn migrations(&self) -> &[Migration] {
        &self.service.migrations
    }

    fn parts(&self, kit: Kit) -> Result<Parts, StartError> {
        let front = crate::http::Front {
            service: kit.service,
            store: kit.store.clone(),
            signer: kit.signer.clone(),
            clock: kit.clock.clone(),
            limits: crate::http::Limits::default(),
            keep_answers: self.service.keep_answers,
            at_hand: kit.answers.clone(),
            measures: HttpMeasures::new(&kit.metrics),
            for_orgs: self.service.manifest.for_orgs(),
            state: Arc::new((self.make)(kit)?),
        };
        let front = Arc::new(front);
        let state = || front.state.clone();
        Ok(Parts {
            router: crate::http::router((self.service.routes)(), &front),
            reactions: self.service.reactions.iter().map(|make| make(state())).collect(),
            jobs: self.service.jobs.iter().map(|make| make(state())).collect(),
            timers: self.service.timers.iter().map(|make| make(state())).collect(),
        })
    }
}
