//! Where the network reads the time, so that tests can move it by hand.
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};

/// A source of the current time in milliseconds since 1970.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Clock {
    /// The machine's own clock.
    #[expect(clippy::disallowed_methods, reason = "the one place where the network meets the real time")]
    pub fn system() -> Self {
        Self(Arc::new(|| Utc::now().timestamp_millis()))
    }

    /// A clock that shows what `read` returns.
    pub fn from_fn(read: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    pub(crate) fn now_ms(&self) -> i64 {
        (self.0)()
    }
}

/// An instant as the API writes it, RFC 3339 in UTC.
pub(crate) fn rfc3339(at_ms: i64) -> String {
    DateTime::from_timestamp_millis(at_ms).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
}
