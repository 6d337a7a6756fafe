//! The one list of services: a new one is one line here.

use kernel::manifest::{Manifest, PublicRoute};
use kernel::service::Declared;

/// Every service of the city, in the order of the story an order tells.
pub(crate) fn all() -> Vec<Declared> {
    vec![
        auth::service(),
        restaurants::service(),
        orders::service(),
        payments::service(),
        kitchen::service(),
        delivery::service(),
        notifications::service(),
    ]
}

/// What they all say about themselves.
pub(crate) fn manifests() -> Vec<Manifest> {
    all().iter().map(|s| s.manifest().clone()).collect()
}

/// What the gateway offers.
pub(crate) fn public_routes() -> Vec<PublicRoute> {
    manifests().iter().flat_map(|m| m.public_routes().collect::<Vec<_>>()).collect()
}
