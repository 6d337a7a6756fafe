//! What the gateway shows of its circuits; requests are measured as every service measures them.

use std::sync::Arc;

use kernel::resilience::BreakerState;
use kernel::telemetry::Metrics;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::upstream::Upstreams;

/// Shows the breakers' states from now on.
pub(crate) fn show_circuits(metrics: &Metrics, upstreams: Arc<Upstreams>) {
    metrics.with_registry(|registry| registry.register_collector(Box::new(Circuits(upstreams))));
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
