//! Metrics in a registry of the service's own: nothing process-wide, labels bounded.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use parking_lot::Mutex;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter as Count;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge as Level;
use prometheus_client::metrics::histogram::Histogram as Buckets;
use prometheus_client::registry::Registry;

type Labels = Vec<(&'static str, String)>;

/// Seconds from a millisecond to ten seconds.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// Label values of one metric beyond this many become `other` (ruling R23).
const MOST_SERIES: usize = 100;

struct Inner {
    registry: Mutex<Registry>,
}

/// The metrics of one service. Clones share them.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

/// Keeps the number of series bounded: the first come keep their labels, later ones become `other`.
#[derive(Clone, Default)]
struct Bound(Arc<Mutex<BTreeMap<Vec<String>, ()>>>);

impl Bound {
    fn labels(&self, names: &'static [&'static str], values: &[&str]) -> Labels {
        let wanted: Vec<String> = values.iter().map(|v| (*v).to_owned()).collect();
        let mut known = self.0.lock();
        let fits = known.contains_key(&wanted) || known.len() < MOST_SERIES;
        if fits {
            known.insert(wanted.clone(), ());
        }
        let value = |text: String| if fits { text } else { "other".to_owned() };
        names.iter().copied().zip(wanted.into_iter().map(value)).collect()
    }
}

/// Something that is counted.
#[derive(Clone)]
pub struct Counter {
    family: Family<Labels, Count>,
    names: &'static [&'static str],
    bound: Bound,
}

impl Counter {
    /// One more with these label values.
    pub fn count(&self, values: &[&str]) {
        self.family.get_or_create(&self.bound.labels(self.names, values)).inc();
    }
}

/// Something that goes up and down.
#[derive(Clone)]
pub struct Gauge {
    family: Family<Labels, Level<i64, AtomicI64>>,
    names: &'static [&'static str],
    bound: Bound,
}

impl Gauge {
    /// Its level now.
    pub fn set(&self, values: &[&str], level: i64) {
        self.family.get_or_create(&self.bound.labels(self.names, values)).set(level);
    }
}

/// Durations in seconds.
#[derive(Clone)]
pub struct Histogram {
    family: Family<Labels, Buckets, fn() -> Buckets>,
    names: &'static [&'static str],
    bound: Bound,
}

impl Histogram {
    /// One more of this length.
    pub fn observe(&self, values: &[&str], took: std::time::Duration) {
        self.family.get_or_create(&self.bound.labels(self.names, values)).observe(took.as_secs_f64());
    }
}

impl Metrics {
    /// An empty registry; every series carries the service's name.
    pub fn new(service: &'static str) -> Self {
        let labels = [("service".into(), service.into())].into_iter();
        let registry = Registry::with_labels(labels);
        Self(Arc::new(Inner { registry: Mutex::new(registry) }))
    }

    /// A counter; `_total` is added to its name.
    pub fn counter(&self, name: &str, help: &str, names: &'static [&'static str]) -> Counter {
        let family = Family::<Labels, Count>::default();
        self.0.registry.lock().register(name.trim_end_matches("_total"), help, family.clone());
        Counter { family, names, bound: Bound::default() }
    }

    /// A gauge.
    pub fn gauge(&self, name: &str, help: &str, names: &'static [&'static str]) -> Gauge {
        let family = Family::<Labels, Level<i64, AtomicI64>>::default();
        self.0.registry.lock().register(name, help, family.clone());
        Gauge { family, names, bound: Bound::default() }
    }

    /// A histogram of seconds.
    pub fn histogram(&self, name: &str, help: &str, names: &'static [&'static str]) -> Histogram {
        let make: fn() -> Buckets = || Buckets::new(SECONDS);
        let family = Family::<Labels, Buckets, fn() -> Buckets>::new_with_constructor(make);
        self.0.registry.lock().register(name, help, family.clone());
        Histogram { family, names, bound: Bound::default() }
    }

    /// The registry itself, for what registers families of its own.
    pub fn with_registry(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.0.registry.lock());
    }

    /// The text that Prometheus scrapes.
    pub fn render(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.0.registry.lock()).expect("writing to a string cannot fail");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_come_out_as_asked_and_series_stay_bounded() {
        let metrics = Metrics::new("bar");
        let cups = metrics.counter("cups_total", "Cups filled", &["kind"]);
        cups.count(&["tea"]);
        for n in 0..300 {
            cups.count(&[&format!("cup {n}")]);
        }
        let text = metrics.render();
        assert!(text.contains("cups_total{service=\"bar\",kind=\"tea\"} 1"), "{text}");
        assert!(text.contains("kind=\"other\""));
        assert!(text.lines().count() < 120);
    }
}
