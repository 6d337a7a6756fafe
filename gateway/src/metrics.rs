//! What the gateway counts, with handles per route so that no request looks up a label.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use kernel::resilience::BreakerState;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::upstream::Upstreams;

type Labels = Vec<(&'static str, String)>;

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The families of the gateway.
pub(crate) struct Metrics {
    requests: Family<Labels, Counter>,
    durations: Family<Labels, Histogram, fn() -> Histogram>,
}

fn histogram() -> Histogram {
    Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry, upstreams: Arc<Upstreams>) -> Self {
        let metrics = Self { requests: Family::default(), durations: Family::new_with_constructor(histogram) };
        registry.register("http_requests", "Requests by route and class of status", metrics.requests.clone());
        let durations = metrics.durations.clone();
        registry.register("http_request_duration_seconds", "From the request to the head of its answer", durations);
        registry.register_collector(Box::new(Circuits(upstreams)));
        metrics
    }

    /// The handles of one route, by its template.
    pub(crate) fn meter(&self, method: &str, template: &str) -> Meter {
        let labels = |class: Option<&str>| {
            let mut labels = vec![("method", method.to_owned()), ("route", template.to_owned())];
            labels.extend(class.map(|class| ("status", class.to_owned())));
            labels
        };
        Meter {
            classes: CLASSES.map(|class| self.requests.get_or_create_owned(&labels(Some(class)))),
            duration: self.durations.get_or_create_owned(&labels(None)),
        }
    }
}

/// Counts for one route.
pub(crate) struct Meter {
    classes: [Counter; CLASSES.len()],
    duration: Histogram,
}

impl Meter {
    pub(crate) fn observe(&self, status: StatusCode, took: Duration) {
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len());
        self.classes[class - 1].inc();
        self.duration.observe(took.as_secs_f64());
    }
}

/// Asks the breakers when somebody asks us.
#[derive(Debug)]
struct Circuits(Arc<Upstreams>);

impl Collector for Circuits {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut family = encoder.encode_descriptor(
            "circuit_breaker_state",
            "1 for the state a breaker is in",
            None,
            MetricType::Gauge,
        )?;
        for upstream in self.0.all() {
            let now = upstream.breaker.state();
            for state in BreakerState::ALL {
                let labels = [("name", upstream.breaker.name()), ("state", state.word())];
                ConstGauge::new(i64::from(state == now)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
