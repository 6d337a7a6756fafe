//! What a request leaves behind: one trace from gateway to notification, JSON log lines, metrics.

pub mod log;
mod measures;
pub mod metrics;
mod redact;
mod trace;

pub use measures::{BusMeasures, HttpMeasures, HttpRequest, RouteMeasures, StoreMeasures, UnitEnd};
pub use metrics::{Counter, Gauge, Histogram, Label, Metrics};
pub(crate) use trace::{Context, carried};
pub use trace::{Trace, current_service, current_trace, in_service, in_trace};
