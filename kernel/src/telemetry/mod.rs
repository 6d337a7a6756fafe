//! What a request leaves behind: one trace from gateway to notification, JSON log lines, metrics.

mod b3;
mod context;
mod exporting;
mod http;
pub mod log;
mod measures;
pub mod metrics;
#[cfg(feature = "otlp")]
mod otlp;
mod page;
mod redact;
mod settings;
mod span;
mod trace;
mod tracer;

pub use b3::CallersTrace;
pub(crate) use context::{Context, carried};
pub use context::{Member, current_service, current_trace, in_service, in_trace};
pub use exporting::{About, ExportError, Exporting};
pub use http::{HttpMeasures, HttpRequest, RouteMeasures};
pub use measures::{BusMeasures, StoreMeasures, UnitEnd};
pub use metrics::{Counter, Gauge, Histogram, Label, Metrics};
pub use settings::{TABLE as TRACE_TABLE, TraceSettings, TraceSettingsError};
pub use span::{Attribute, Name, Role, Span, key};
pub use trace::Trace;
