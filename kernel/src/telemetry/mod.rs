//! What a request leaves behind: one trace from gateway to notification, JSON log lines, metrics.

mod trace;

pub(crate) use trace::carried;
pub use trace::{Trace, current_service, current_trace, in_service, in_trace};
