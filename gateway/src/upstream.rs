//! The instances of a service: which one gets the next request, and which one is left alone for a while.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use kernel::clock::{Clock, Timestamp};
use kernel::registry::Directory;
use kernel::resilience::{Breaker, BreakerSettings};
use parking_lot::Mutex;
use rand::RngExt as _;

use crate::idle::Idle;

/// Failures in a row after which an instance is left alone.
const OUTLIER: u32 = 5;
/// How long at first; doubled each time, up to the most.
const EJECT_FIRST: Duration = Duration::from_secs(1);
const EJECT_MOST_DOUBLINGS: u32 = 5;

/// One process of a service.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) address: SocketAddr,
    /// Connections that wait for their next request.
    pub(crate) idle: Idle,
    host: Box<str>,
    in_flight: AtomicU32,
    failures: AtomicU32,
    ejections: AtomicU32,
    ejected_until: AtomicI64,
}

impl Instance {
    fn new(address: SocketAddr) -> Self {
        Self {
            address,
            idle: Idle::default(),
            host: address.to_string().into(),
            in_flight: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            ejections: AtomicU32::new(0),
            ejected_until: AtomicI64::new(0),
        }
    }

    /// Its address as a host's name, for a request that brings none.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Counts a request as under way until the guard goes.
    pub(crate) fn begin(self: &Arc<Self>) -> Flight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Flight(Arc::clone(self))
    }

    /// It answered.
    pub(crate) fn succeeded(&self) {
        // Reads are shared, writes are not: most answers change nothing.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
        if self.ejections.load(Ordering::Relaxed) != 0 {
            self.ejections.store(0, Ordering::Relaxed);
        }
    }

    /// It failed; `dead` says that nobody listens there, which needs no second sign.
    pub(crate) fn failed(&self, dead: bool, now: Timestamp) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        if dead || failures >= OUTLIER {
            let times = self.ejections.fetch_add(1, Ordering::Relaxed).min(EJECT_MOST_DOUBLINGS);
            self.ejected_until.store(now.plus(EJECT_FIRST * 2_u32.pow(times)).micros(), Ordering::Relaxed);
            self.failures.store(0, Ordering::Relaxed);
            tracing::warn!(instance = %self.address, dead, "instance is left alone for a while");
        }
    }

    fn load(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn available(&self, now: Timestamp) -> bool {
        self.ejected_until.load(Ordering::Relaxed) <= now.micros()
    }
}

/// A request under way.
pub(crate) struct Flight(Arc<Instance>);

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

type Listed = Arc<BTreeMap<String, Vec<SocketAddr>>>;

struct Known {
    listed: Listed,
    instances: Vec<Arc<Instance>>,
}

/// One service behind the gateway.
pub(crate) struct Upstream {
    pub(crate) service: String,
    pub(crate) breaker: Breaker,
    directory: Directory,
    known: ArcSwap<Known>,
}

impl Upstream {
    fn new(service: &str, directory: &Directory, breaker: BreakerSettings, clock: &Clock) -> Self {
        let known = Known { listed: Listed::default(), instances: Vec::new() };
        Self {
            service: service.to_owned(),
            breaker: Breaker::new(service, breaker, clock.clone()),
            directory: directory.clone(),
            known: ArcSwap::from_pointee(known),
        }
    }

    /// The instance for the next request: the less loaded of two at random, among those not left alone.
    pub(crate) fn pick(&self, now: impl FnOnce() -> Timestamp, avoid: Option<SocketAddr>) -> Option<Arc<Instance>> {
        let known = self.refreshed();
        match known.instances.as_slice() {
            [] => None,
            [only] => Some(Arc::clone(only)),
            all => {
                let now = now();
                // Two neighbours from a random start: one pass, and no list of the usable ones.
                let start = rand::rng().random_range(0..all.len());
                let mut from_start = all.iter().cycle().skip(start).take(all.len());
                let usable = |instance: &&Arc<Instance>| instance.available(now) && Some(instance.address) != avoid;
                let (one, two) = (from_start.find(usable), from_start.find(usable));
                // If all are in disgrace, any is better than none; the one just tried comes last.
                let any = || {
                    all.iter().filter(|instance| Some(instance.address) != avoid).min_by_key(|instance| instance.load())
                };
                match (one, two) {
                    (Some(one), Some(two)) if two.load() < one.load() => Some(Arc::clone(two)),
                    (Some(one), _) => Some(Arc::clone(one)),
                    (None, _) => any().cloned(),
                }
            }
        }
    }

    /// Addresses of all instances.
    pub(crate) fn instances(&self) -> Vec<Arc<Instance>> {
        self.refreshed().instances.clone()
    }

    fn refreshed(&self) -> Arc<Known> {
        let listed = self.directory.all();
        let known = self.known.load();
        if Arc::ptr_eq(&known.listed, &listed) {
            return Arc::clone(&known);
        }
        let addresses = listed.get(&self.service).map(Vec::as_slice).unwrap_or_default();
        let keep = |address: &SocketAddr| known.instances.iter().find(|instance| instance.address == *address).cloned();
        let instances = addresses
            .iter()
            .map(|address| keep(address).unwrap_or_else(|| Arc::new(Instance::new(*address))))
            .collect();
        let known = Arc::new(Known { listed, instances });
        self.known.store(Arc::clone(&known));
        known
    }
}

/// All services behind the gateway; kept when the table changes, so that breakers remember.
pub(crate) struct Upstreams {
    directory: Directory,
    breaker: BreakerSettings,
    clock: Clock,
    by_service: Mutex<HashMap<String, Arc<Upstream>>>,
}

impl std::fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstreams").finish_non_exhaustive()
    }
}

impl Upstreams {
    pub(crate) fn new(directory: Directory, breaker: BreakerSettings, clock: Clock) -> Self {
        Self { directory, breaker, clock, by_service: Mutex::default() }
    }

    pub(crate) fn of(&self, service: &str) -> Arc<Upstream> {
        let mut by_service = self.by_service.lock();
        let upstream = by_service
            .entry(service.to_owned())
            .or_insert_with(|| Arc::new(Upstream::new(service, &self.directory, self.breaker, &self.clock)));
        Arc::clone(upstream)
    }

    pub(crate) fn all(&self) -> Vec<Arc<Upstream>> {
        self.by_service.lock().values().cloned().collect()
    }

    /// Closes connections that nobody has needed for a while.
    pub(crate) fn forget(&self) {
        for instance in self.all().iter().flat_map(|upstream| upstream.instances()) {
            instance.idle.forget();
        }
    }
}
