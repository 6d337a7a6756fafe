//! What a request leaves behind: one trace from gateway to notification, JSON log lines, metrics.

mod trace;

pub use trace::{Trace, current_trace, in_trace};
