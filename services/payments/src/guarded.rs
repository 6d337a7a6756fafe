//! A provider behind a breaker: when it keeps failing it is left alone for a while, and nothing is asked of it.

use std::sync::Arc;

use kernel::resilience::{Breaker, BreakerState};
use kernel::telemetry::metrics::Gauge;

use crate::provider::{Asking, BookPage, Call, Known, Provider, Reply, Unreadable};

/// A provider that is only asked while its breaker lets calls through. A decline is no failure.
pub(crate) struct Guarded {
    inner: Arc<dyn Provider>,
    breaker: Breaker,
    state: Gauge,
}

impl Guarded {
    pub(crate) fn new(inner: Arc<dyn Provider>, breaker: Breaker, state: Gauge) -> Self {
        let guarded = Self { inner, breaker, state };
        guarded.show();
        guarded
    }

    fn show(&self) {
        let now = self.breaker.state();
        for state in BreakerState::ALL {
            self.state.set(&[self.breaker.name(), state.word()], i64::from(state == now));
        }
    }
}

impl Provider for Guarded {
    fn call<'a>(&'a self, call: &'a Call) -> Asking<'a, Reply> {
        Box::pin(async move {
            let failed = |reply: &Reply| matches!(reply, Reply::Unknown(_) | Reply::NotSent(_));
            let reply = self.breaker.call(self.inner.call(call), failed).await;
            self.show();
            reply.unwrap_or_else(|open| Reply::NotSent(open.to_string()))
        })
    }

    fn lookup<'a>(&'a self, reference: &'a str) -> Asking<'a, Result<Vec<Known>, Unreadable>> {
        Box::pin(async move {
            let found = self.breaker.call(self.inner.lookup(reference), Result::is_err).await;
            self.show();
            found.unwrap_or_else(|open| Err(Unreadable(open.to_string())))
        })
    }

    /// Books are read for audits, one page after another; a breaker would only hide what is missing.
    fn books(&self, after: i64) -> Asking<'_, Result<BookPage, Unreadable>> {
        self.inner.books(after)
    }
}
