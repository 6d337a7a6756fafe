//! What is counted about Redis: whether it is up, how calls of each use went, and how long they took.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

type Labels = Vec<(&'static str, &'static str)>;

/// Bounds in seconds: a round trip on one machine takes a tenth of a millisecond.
const ROUND_TRIPS: [f64; 9] = [0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05];

fn histogram() -> Histogram {
    Histogram::new(ROUND_TRIPS)
}

/// The families of one member.
pub(super) struct Measures {
    pub(super) up: Gauge,
    calls: Family<Labels, Counter>,
    took: Family<Labels, Histogram, fn() -> Histogram>,
}

impl Default for Measures {
    fn default() -> Self {
        Self { up: Gauge::default(), calls: Family::default(), took: Family::new_with_constructor(histogram) }
    }
}

impl Measures {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("redis_up", "1 while Redis answers, 0 while everything goes on without it", self.up.clone());
        registry.register(
            "redis_calls",
            "Calls by use and outcome: answered, refused, lost on the way or too late, or away and not tried",
            self.calls.clone(),
        );
        registry.register("redis_call_duration_seconds", "Calls that were tried", self.took.clone());
    }

    /// The handles of one use, looked up once.
    pub(super) fn of(&self, word: &'static str) -> OfUse {
        let count = |outcome| self.calls.get_or_create_owned(&vec![("use", word), ("outcome", outcome)]);
        OfUse {
            answered: count("answered"),
            refused: count("refused"),
            lost: count("lost"),
            away: count("away"),
            took: self.took.get_or_create_owned(&vec![("use", word)]),
        }
    }
}

/// One use.
pub(super) struct OfUse {
    pub(super) answered: Counter,
    pub(super) refused: Counter,
    pub(super) lost: Counter,
    pub(super) away: Counter,
    pub(super) took: Histogram,
}
