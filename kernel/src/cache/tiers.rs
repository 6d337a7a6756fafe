//! How readers of each tier are counted, and how long copies live.

use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use rand::RngExt as _;

use crate::telemetry::{Label, Metrics};

/// From a tenth of a microsecond, a look into a map, to a database that is busy.
const BOUNDS: &[f64] = &[0.000_000_2, 0.000_001, 0.000_01, 0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.01, 0.05, 0.25];

/// A life up to a tenth shorter or longer.
pub(super) fn jittered(life: Duration) -> Duration {
    life.mul_f64(rand::rng().random_range(0.9..=1.1))
}

/// Readers of one tier.
pub(super) struct Tier {
    reads: Counter,
    took: Histogram,
}

impl Tier {
    pub(super) fn count(&self, begun: Instant) {
        self.reads.inc();
        self.took.observe(begun.elapsed().as_secs_f64());
    }
}

/// The tiers of one cache.
pub(super) struct Tiers {
    pub(super) memory: Tier,
    pub(super) redis: Tier,
    pub(super) source: Tier,
    pub(super) drops: Counter,
}

impl Tiers {
    pub(super) fn new(cache: &'static str, metrics: &Metrics) -> Self {
        let labels = ["cache", "tier"];
        let reads = metrics.counter("cache_reads_total", "Readers by the tier that answered", labels);
        let help = "From the question to the answer, by the tier that gave it";
        let took = metrics.histogram_with("cache_read_duration_seconds", help, labels, BOUNDS);
        let drops = metrics.counter("cache_drops_total", "Copies that an event told to drop", [Label::from("cache")]);
        let tier = |word| Tier { reads: reads.at(&[cache, word]), took: took.at(&[cache, word]) };
        Self { memory: tier("memory"), redis: tier("redis"), source: tier("source"), drops: drops.at(&[cache]) }
    }
}
