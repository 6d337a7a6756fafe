//! What a request leaves behind: one trace from gateway to notification, JSON log lines, metrics.

pub mod metrics;
mod trace;

pub use metrics::Metrics;
pub(crate) use trace::carried;
pub use trace::{Trace, current_service, current_trace, in_service, in_trace};
