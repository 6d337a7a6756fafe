//! Being on the list, and reading it: heartbeats while the instance is ready, and a directory that survives its backend.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter as Count;
use prometheus_client::metrics::gauge::Gauge as Level;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Backend, Directory, Instance, Mark, PATIENCE, Seen, Trouble, WATCH};
use crate::health::Health;
use crate::task::Tasks;
use crate::telemetry::Metrics;

/// Waits after trouble: the first, doubled up to the most.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const MOST_WAIT: Duration = Duration::from_secs(3);
/// How often an instance that is not ready is looked at.
const NOT_READY: Duration = Duration::from_millis(250);
/// What a backend may take for a long watch beyond its own wait.
const SLACK: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Measures {
    reachable: Level,
    troubles: Count,
}

impl Measures {
    fn new(metrics: &Metrics, kind: &str) -> Self {
        let (reachable, troubles) = ("registry_reachable", "registry_troubles_total");
        Self {
            reachable: metrics
                .gauge(reachable, "1 while the registry answers, 0 while it is away", ["kind"])
                .at(&[kind]),
            troubles: metrics.counter(troubles, "Questions to the registry that failed", ["kind"]).at(&[kind]),
        }
    }
}

/// One process's part in the registry. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Rotation(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    backend: Arc<dyn Backend>,
    directory: Directory,
    ttl: Duration,
    measures: OnceLock<Measures>,
    /// What is wrong, by what was asked; nothing while all is well.
    away: Mutex<BTreeMap<String, (Instant, Trouble)>>,
}

/// An instance that is kept on the list until it leaves.
#[derive(Debug)]
pub struct Announcement {
    leave: CancellationToken,
    left: CancellationToken,
}

impl Announcement {
    /// Takes the instance off the list and waits until that is done or cannot be. Call it before the port is closed, and
    /// give callers a moment to see it.
    pub async fn leave(self) {
        self.leave.cancel();
        self.left.cancelled().await;
    }
}

impl Rotation {
    /// A part in this registry; what is read goes into `directory`.
    pub fn new(backend: Arc<dyn Backend>, directory: Directory, ttl: Duration) -> Self {
        Self(Arc::new(Inner { backend, directory, ttl, measures: OnceLock::new(), away: Mutex::default() }))
    }

    /// Keeps the directory's lists of these services right.
    pub fn follow<S: Into<String>>(&self, tasks: &Tasks, services: impl IntoIterator<Item = S>) {
        for service in services {
            let (follower, stop) = (Follower::new(self.0.clone(), service.into()), tasks.stopping());
            tasks.spawn("registry", async move {
                tokio::select! {
                    () = follower.run() => {}
                    () = stop.cancelled() => {}
                }
            });
        }
    }

    /// Keeps an instance on the list while `ready` says so, and takes it off when told to stop.
    pub fn announce(
        &self,
        tasks: &Tasks,
        who: Instance,
        ready: impl Fn() -> BoxFuture<'static, bool> + Send + Sync + 'static,
    ) -> Announcement {
        let announcement = Announcement { leave: CancellationToken::new(), left: CancellationToken::new() };
        let (inner, stop) = (self.0.clone(), tasks.stopping());
        let (leave, left) = (announcement.leave.clone(), announcement.left.clone().drop_guard());
        tasks.spawn("heartbeat", async move {
            if inner.backend.takes_entries() {
                let ended = async {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = leave.cancelled() => {}
                    }
                };
                inner.beat(&who, &ready, ended).await;
            }
            drop(left);
            stop.cancelled().await;
        });
        announcement
    }

    /// Waits until each of these services has an instance on the list.
    pub async fn until_listed(&self, services: &[&str]) {
        while services.iter().any(|service| self.0.directory.instances(service).is_empty()) {
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// What is wrong with the registry, in words; none while it answers.
    pub fn trouble(&self) -> Option<String> {
        let away = self.0.away.lock();
        let (since, trouble) = away.values().min_by_key(|(since, _)| *since)?;
        let seconds = since.elapsed().as_secs();
        Some(format!("away for {seconds} s, the last list is kept: {trouble}"))
    }

    /// Counts among a member's metrics.
    pub fn measure(&self, metrics: &Metrics) {
        let measures = self.0.measures.get_or_init(|| Measures::new(metrics, self.0.backend.kind()));
        measures.reachable.set(i64::from(self.0.away.lock().is_empty()));
    }

    /// Counts among a service's metrics, and tells of the registry among its checks. A registry that is away makes nobody unready: the list is kept.
    pub fn report(&self, metrics: &Metrics, health: &Health) {
        self.measure(metrics);
        let rotation = self.clone();
        health.check_by_asking("registry", move || {
            let said = rotation.trouble().unwrap_or_else(|| format!("{} answers", rotation.0.backend.kind()));
            std::future::ready(Ok(said))
        });
    }
}

impl Inner {
    /// Notes that an answer came, or did not, and says it once.
    fn note<T>(&self, what: &str, result: Result<T, Trouble>) -> Option<T> {
        let mut away = self.away.lock();
        let answer = match result {
            Ok(answer) => {
                if away.remove(what).is_some() && away.is_empty() {
                    tracing::info!(kind = self.backend.kind(), "the registry answers again");
                }
                Some(answer)
            }
            Err(trouble) => {
                if away.is_empty() {
                    tracing::warn!(error = %trouble, "the registry is away; the last list is kept");
                }
                if let Some(measures) = self.measures.get() {
                    measures.troubles.inc();
                }
                away.entry(what.to_owned())
                    .and_modify(|known| known.1 = trouble.clone())
                    .or_insert((Instant::now(), trouble));
                None
            }
        };
        if let Some(measures) = self.measures.get() {
            measures.reachable.set(i64::from(away.is_empty()));
        }
        answer
    }

    fn silent(&self) -> Trouble {
        Trouble { kind: self.backend.kind(), at: "its address".to_owned(), why: "no answer in time".to_owned() }
    }

    async fn beat(
        &self,
        who: &Instance,
        ready: &(impl Fn() -> BoxFuture<'static, bool> + Send + Sync),
        ended: impl Future<Output = ()>,
    ) {
        tokio::pin!(ended);
        let (mut entered, mut wait) = (false, FIRST_WAIT);
        loop {
            let pause = match (ready().await, entered) {
                (true, _) => match self.ask("heartbeat", self.backend.announce(who, self.ttl)).await {
                    Some(()) => {
                        (entered, wait) = (true, FIRST_WAIT);
                        self.ttl / 3
                    }
                    None => {
                        wait = (wait * 2).min(self.ttl / 3);
                        wait
                    }
                },
                (false, true) => {
                    // Still entered if this fails: then the next round tries again, and the time to live ends it anyway.
                    entered = self.ask("heartbeat", self.backend.withdraw(who)).await.is_none();
                    NOT_READY
                }
                (false, false) => NOT_READY,
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = &mut ended => break,
            }
        }
        // Also when the last answer was lost: it may have been entered all the same.
        self.ask("heartbeat", self.backend.withdraw(who)).await;
    }

    async fn ask<T>(&self, what: &str, question: impl Future<Output = Result<T, Trouble>>) -> Option<T> {
        let answer = timeout(PATIENCE, question).await.unwrap_or_else(|_| Err(self.silent()));
        self.note(what, answer)
    }
}

/// Reads the list of one service for ever.
struct Follower {
    inner: Arc<Inner>,
    service: String,
    /// From where the next watch goes on; its index is 0 after trouble, to be answered at once.
    mark: Mark,
    last: Mark,
    latest: Vec<SocketAddr>,
    /// Until when instances that were listed before the trouble stay listed beside those that are there now.
    held: Option<(Instant, Vec<SocketAddr>)>,
}

impl Follower {
    fn new(inner: Arc<Inner>, service: String) -> Self {
        Self { inner, service, mark: Mark::default(), last: Mark::default(), latest: Vec::new(), held: None }
    }

    async fn run(mut self) {
        let (mut wait, mut trouble_since) = (FIRST_WAIT, None);
        loop {
            let Some(seen) = self.look().await else {
                self.publish();
                continue;
            };
            if let Some(seen) = self.inner.note(&self.service, seen) {
                // Whoever could not send heartbeats while the backend was away has not lost its place yet.
                let away = trouble_since.take().is_some_and(|since: Instant| since.elapsed() > self.inner.ttl / 3);
                self.take(seen, away);
                wait = FIRST_WAIT;
            } else {
                trouble_since.get_or_insert_with(Instant::now);
                // Asked for outright: a backend that lost its story would wait for a place that it reaches in a year.
                self.mark = Mark { index: 0, ..self.mark };
                sleep(wait).await;
                wait = (wait * 2).min(MOST_WAIT);
            }
        }
    }

    /// One watch; none if a hold ended meanwhile.
    async fn look(&self) -> Option<Result<Seen, Trouble>> {
        let watch = timeout(WATCH + SLACK, self.inner.backend.watch(&self.service, self.mark));
        let watch = async { watch.await.unwrap_or_else(|_| Err(self.inner.silent())) };
        match &self.held {
            Some((until, _)) => tokio::time::timeout_at(*until, watch).await.ok(),
            None => Some(watch.await),
        }
    }

    fn take(&mut self, seen: Seen, away: bool) {
        let forgot = seen.mark.origin != self.last.origin || seen.mark.index < self.last.index;
        if away || (forgot && self.last != Mark::default()) {
            let before = self.inner.directory.instances(&self.service);
            tracing::info!(
                listed = before.len(),
                "the registry may have forgotten instances; they keep a time to live"
            );
            self.held = Some((Instant::now() + self.inner.ttl, before));
        }
        (self.mark, self.last, self.latest) = (seen.mark, seen.mark, seen.instances);
        self.publish();
    }

    fn publish(&mut self) {
        if self.held.as_ref().is_some_and(|(until, _)| *until <= Instant::now()) {
            self.held = None;
        }
        let mut listed = self.latest.clone();
        listed.extend(self.held.iter().flat_map(|(_, before)| before).copied());
        listed.sort_unstable();
        listed.dedup();
        self.inner.directory.set(&self.service, listed);
    }
}
