//! Who is there: instances enter themselves under their service's name for a time to live, and everybody reads one list.
//!
//! Four backends keep that list: the city's own registrar, Consul, etcd, and DNS, where the platform enters instances.
//! What they have to promise is a list of named cases in [`crate::testing::registry`].

mod consul;
mod directory;
mod dns;
mod etcd;
mod own;
mod rotation;
mod settings;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use futures::future::BoxFuture;

pub use consul::Consul;
pub use directory::Directory;
pub use dns::Dns;
pub use etcd::Etcd;
pub use own::{Own, Registrar};
pub use rotation::{Announcement, Rotation};
pub use settings::{Kind, RegistrySettings, TOKEN_SECRET};

/// How long a watch of a list that does not change is left open.
pub(crate) const WATCH: Duration = Duration::from_secs(30);
/// A backend that has not answered a short question by then is away.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// One process of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instance {
    /// The service.
    pub service: String,
    /// Where it listens. It is also the instance's name: one that comes back after a crash is the same one.
    pub address: SocketAddr,
}

impl Instance {
    /// The instance of `service` at `address`.
    pub fn new(service: impl Into<String>, address: SocketAddr) -> Self {
        Self { service: service.into(), address }
    }
}

/// A place in a backend's story of one list. Places only grow; a smaller one, or another origin, tells that the backend
/// has forgotten what it knew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Which story: another one after the backend lost everything, where it can tell.
    pub origin: u64,
    /// The place in it; 0 is before everything, which every list differs from.
    pub index: u64,
}

/// What a watch saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The instances that may be called, in order of address.
    pub instances: Vec<SocketAddr>,
    /// Where to go on.
    pub mark: Mark,
}

/// A backend that cannot be asked, or refuses; says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at {at}: {why}; check registry.url")]
pub struct Trouble {
    /// The backend's kind.
    pub kind: &'static str,
    /// Its address.
    pub at: String,
    /// What it or the way to it said.
    pub why: String,
}

/// What keeps the list of instances.
pub trait Backend: fmt::Debug + Send + Sync {
    /// Its name in logs, metrics and the setting `registry.kind`.
    fn kind(&self) -> &'static str;

    /// Whether instances enter themselves. Where the platform enters them, announcing does nothing.
    fn takes_entries(&self) -> bool {
        true
    }

    /// Enters an instance, or keeps it in, for `ttl` from now. Safe to repeat, and right also after the backend forgot it.
    fn announce<'a>(&'a self, who: &'a Instance, ttl: Duration) -> BoxFuture<'a, Result<(), Trouble>>;

    /// Takes an instance out at once.
    fn withdraw<'a>(&'a self, who: &'a Instance) -> BoxFuture<'a, Result<(), Trouble>>;

    /// The instances of a service as soon as they are not those at `since` any more, or after a while even if they are.
    fn watch<'a>(&'a self, service: &'a str, since: Mark) -> BoxFuture<'a, Result<Seen, Trouble>>;
}

/// A client for the backends: no proxy stands between, and a dead connection is noticed.
pub(crate) fn http_client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .connect_timeout(Duration::from_secs(2))
        .tcp_keepalive(Duration::from_secs(10))
        .build()
        .expect("a client without TLS needs nothing from the machine")
}

/// An error with its causes, because reqwest's own sentence does not say that nobody listens.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {}", with_causes(cause)))
}
