//! What is known of a peer and of one of its requests on the way through the gateway.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderValue;

use crate::compress::Coding;
use crate::limits::Shown;
use crate::table::Route;

/// What one connection brings to each of its requests.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) ip: IpAddr,
    pub(crate) forwarded_for: HeaderValue,
}

/// What is known of a request by the time it is answered.
pub(crate) struct Passage {
    pub(crate) traceparent: HeaderValue,
    pub(crate) correlation: HeaderValue,
    pub(crate) origin: Option<HeaderValue>,
    pub(crate) coding: Option<Coding>,
    pub(crate) shown: Option<Shown>,
    pub(crate) route: Option<Arc<Route>>,
}
