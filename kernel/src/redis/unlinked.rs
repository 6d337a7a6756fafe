//! What stands in for the connections in a program that was built without Redis: there can be none.

use std::convert::Infallible;
use std::sync::Arc;

use prometheus_client::metrics::gauge::Gauge;

use super::provision::{Administrator, ProvisionError, Provisioned};
use super::{Away, Command, OpenError, RedisSettings, Reply};
use crate::secrets::{Secret, Secrets};
use crate::task::Tasks;

const NOT_BUILT_IN: &str = "redis.url is set, but this program was built without Redis: build it with --features redis, or take the setting out";

/// There is nobody to tell.
#[expect(clippy::unused_async, reason = "the same shape as with Redis")]
pub(super) async fn provision(
    _: &RedisSettings,
    _: &Administrator,
    _: &Secrets,
    _: &[&str],
) -> Result<Provisioned, ProvisionError> {
    Err(ProvisionError(NOT_BUILT_IN.to_owned()))
}

/// Never made.
pub(super) struct Link(Infallible);

impl Link {
    #[expect(clippy::unused_async, reason = "the same shape as with Redis")]
    pub(super) async fn open(_: &RedisSettings, _: &str, _: &Secret, _: Gauge, _: &Tasks) -> Result<Self, OpenError> {
        Err(OpenError(NOT_BUILT_IN.to_owned()))
    }

    pub(super) fn is_up(&self) -> bool {
        match self.0 {}
    }

    pub(super) fn life(&self) -> Option<Arc<str>> {
        match self.0 {}
    }

    pub(super) fn why_away(&self) -> Option<String> {
        match self.0 {}
    }

    pub(super) fn complain(&self, _: &str) {
        match self.0 {}
    }

    #[expect(clippy::unused_async, reason = "the same shape as with Redis")]
    pub(super) async fn ask(&self, _: &[Command]) -> Result<Vec<Reply>, Away> {
        match self.0 {}
    }
}
