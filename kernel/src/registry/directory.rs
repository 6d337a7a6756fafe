//! Where the services of this city listen, as everybody reads it; a backend of the registry keeps it right.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;

/// Service name → addresses of its instances. Clones share one list.
#[derive(Clone, Debug, Default)]
pub struct Directory(Arc<ArcSwap<BTreeMap<String, Vec<SocketAddr>>>>);

impl Directory {
    /// A directory with this content.
    pub fn new(services: BTreeMap<String, Vec<SocketAddr>>) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(services)))
    }

    /// The instances of a service; none if nobody knows it.
    pub fn instances(&self, service: &str) -> Vec<SocketAddr> {
        self.0.load().get(service).cloned().unwrap_or_default()
    }

    /// Everything that is listed.
    pub fn all(&self) -> Arc<BTreeMap<String, Vec<SocketAddr>>> {
        self.0.load_full()
    }

    /// Replaces the whole list; requests under way keep what they have.
    pub fn replace(&self, services: BTreeMap<String, Vec<SocketAddr>>) {
        self.0.store(Arc::new(services));
    }

    /// Sets the instances of one service. Setting what is there already changes nothing, so that readers keep their own
    /// tables, which they make anew with every list.
    pub fn set(&self, service: &str, instances: Vec<SocketAddr>) {
        if self.0.load().get(service) == Some(&instances) {
            return;
        }
        self.0.rcu(|old| {
            let mut next = BTreeMap::clone(old);
            next.insert(service.to_owned(), instances.clone());
            next
        });
    }
}
