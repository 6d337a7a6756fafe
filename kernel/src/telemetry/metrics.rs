//! Metrics: a registry per service, families by name, and label values that cannot grow without bound.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter as Count;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge as Level;
use prometheus_client::metrics::histogram::Histogram as Distribution;
use prometheus_client::registry::Registry;

/// Bounds of histogram buckets in seconds, from a cache hit to a request that is given up.
pub const SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// How many values a label has at most, unless it says otherwise.
const USUAL: usize = 64;
/// What stands for all values beyond that.
const OTHER: &str = "other";

type Labels = Vec<(&'static str, String)>;

/// A label and the number of values it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    name: &'static str,
    most: usize,
}

impl Label {
    /// A label that keeps the first `most` values it meets; later ones count as `other`.
    pub const fn top_n(name: &'static str, most: usize) -> Self {
        Self { name, most }
    }
}

impl From<&'static str> for Label {
    fn from(name: &'static str) -> Self {
        Self::top_n(name, USUAL)
    }
}

impl From<&&'static str> for Label {
    fn from(name: &&'static str) -> Self {
        Self::top_n(name, USUAL)
    }
}

/// The metrics of one service. Clones share one registry.
#[derive(Clone)]
pub struct Metrics {
    service: Arc<str>,
    shared: Arc<Mutex<Shared>>,
    pub(super) asks: Arc<Mutex<Vec<Ask>>>,
}

/// Looks something up when somebody reads the metrics.
pub(super) type Ask = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

struct Shared {
    registry: Registry,
    families: BTreeMap<String, AnyFamily>,
}

#[derive(Clone)]
enum AnyFamily {
    Counters(Counter),
    Gauges(Gauge),
    Histograms(Histogram),
}

/// A counter for each combination of label values.
pub type Counter = Labelled<Count, fn() -> Count>;
/// A gauge for each combination of label values.
pub type Gauge = Labelled<Level, fn() -> Level>;
/// A histogram for each combination of label values.
pub type Histogram = Labelled<Distribution, Buckets>;

impl Metrics {
    /// An empty registry; every series carries the service's name, because several services may share a process.
    pub fn new(service: &str) -> Self {
        let label = ("service".into(), service.to_owned().into());
        let registry = Registry::with_labels([label].into_iter());
        let shared = Arc::new(Mutex::new(Shared { registry, families: BTreeMap::new() }));
        Self { service: service.into(), shared, asks: Arc::default() }
    }

    /// The service they are about.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The counters of this name, which ends in `_total`.
    ///
    /// # Panics
    /// If the name is taken by another kind of metric, or the number of labels differs: one name means one thing.
    pub fn counter<L: Into<Label>>(&self, name: &str, help: &str, labels: impl IntoIterator<Item = L>) -> Counter {
        // The text format adds the ending by itself.
        let stem = name.strip_suffix("_total").unwrap_or(name);
        let make: fn() -> Count = Count::default;
        let new = Labelled::new(labels, make);
        match self.family(name, &new, AnyFamily::Counters, |registry| registry.register(stem, help, new.family.clone()))
        {
            AnyFamily::Counters(same) if same.labels == new.labels => same,
            _ => panic!("the metric {name} is there already, as something else"),
        }
    }

    /// The gauges of this name.
    ///
    /// # Panics
    /// As [`Metrics::counter`].
    pub fn gauge<L: Into<Label>>(&self, name: &'static str, help: &str, labels: impl IntoIterator<Item = L>) -> Gauge {
        let make: fn() -> Level = Level::default;
        let new = Labelled::new(labels, make);
        match self.family(name, &new, AnyFamily::Gauges, |registry| registry.register(name, help, new.family.clone())) {
            AnyFamily::Gauges(same) if same.labels == new.labels => same,
            _ => panic!("the metric {name} is there already, as something else"),
        }
    }

    /// The histograms of durations of this name, in seconds.
    ///
    /// # Panics
    /// As [`Metrics::counter`].
    pub fn histogram<L: Into<Label>>(&self, name: &str, help: &str, labels: impl IntoIterator<Item = L>) -> Histogram {
        self.histogram_with(name, help, labels, SECONDS)
    }

    /// The histograms of this name, with these upper bounds.
    ///
    /// # Panics
    /// As [`Metrics::counter`].
    pub fn histogram_with<L: Into<Label>>(
        &self,
        name: &str,
        help: &str,
        labels: impl IntoIterator<Item = L>,
        bounds: &'static [f64],
    ) -> Histogram {
        let new = Labelled::new(labels, Buckets(bounds));
        match self
            .family(name, &new, AnyFamily::Histograms, |registry| registry.register(name, help, new.family.clone()))
        {
            AnyFamily::Histograms(same) if same.labels == new.labels => same,
            _ => panic!("the metric {name} is there already, as something else"),
        }
    }

    /// The family of this name, which is made on the first call; later calls get the same one.
    fn family<M: Clone, C: MetricConstructor<M> + Clone>(
        &self,
        name: &str,
        new: &Labelled<M, C>,
        wrap: fn(Labelled<M, C>) -> AnyFamily,
        register: impl FnOnce(&mut Registry),
    ) -> AnyFamily {
        let mut shared = self.shared.lock();
        if let Some(there) = shared.families.get(name) {
            return there.clone();
        }
        register(&mut shared.registry);
        if new.labels.is_empty() {
            // Without labels there is only one value, and zero is one.
            new.at(&[]);
        }
        shared.families.insert(name.to_owned(), wrap(new.clone()));
        wrap(new.clone())
    }

    /// The registry itself, for what registers families of its own.
    pub fn with_registry(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.shared.lock().registry);
    }

    /// Everything, as text in the `OpenMetrics` format.
    pub fn render(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.shared.lock().registry).expect("writing to a string cannot fail");
        text
    }
}

/// The upper bounds of a histogram's buckets.
#[derive(Clone, Copy, Debug)]
pub struct Buckets(&'static [f64]);

impl MetricConstructor<Distribution> for Buckets {
    fn new_metric(&self) -> Distribution {
        Distribution::new(self.0.iter().copied())
    }
}

/// Metrics of one name, told apart by label values.
pub struct Labelled<M, C> {
    family: Family<Labels, M, C>,
    labels: Arc<[Label]>,
    seen: Arc<[RwLock<BTreeSet<String>>]>,
}

impl<M, C: Clone> Clone for Labelled<M, C> {
    fn clone(&self) -> Self {
        Self { family: self.family.clone(), labels: self.labels.clone(), seen: self.seen.clone() }
    }
}

impl<M: Clone, C: MetricConstructor<M>> Labelled<M, C> {
    fn new<L: Into<Label>>(labels: impl IntoIterator<Item = L>, make: C) -> Self {
        let labels: Arc<[Label]> = labels.into_iter().map(Into::into).collect();
        let seen = labels.iter().map(|_| RwLock::default()).collect();
        Self { family: Family::new_with_constructor(make), labels, seen }
    }

    /// The metric with these label values, in the order the labels were declared.
    ///
    /// # Panics
    /// If there are not as many values as labels.
    pub fn at(&self, values: &[&str]) -> M {
        assert_eq!(values.len(), self.labels.len(), "one value for each of {:?}", self.labels);
        let bounded = self.labels.iter().zip(&*self.seen).zip(values);
        let labels = bounded.map(|((label, seen), value)| (label.name, bound(label.most, seen, value).to_owned()));
        self.family.get_or_create_owned(&labels.collect())
    }
}

impl Counter {
    /// One more with these label values.
    pub fn count(&self, values: &[&str]) {
        self.at(values).inc();
    }
}

impl Gauge {
    /// Its level now.
    pub fn set(&self, values: &[&str], level: i64) {
        self.at(values).set(level);
    }
}

impl Histogram {
    /// One more of this length.
    pub fn observe(&self, values: &[&str], took: Duration) {
        self.at(values).observe(took.as_secs_f64());
    }
}

fn bound<'a>(most: usize, seen: &RwLock<BTreeSet<String>>, value: &'a str) -> &'a str {
    if seen.read().contains(value) {
        return value;
    }
    let mut seen = seen.write();
    if seen.len() < most || seen.contains(value) {
        seen.insert(value.to_owned());
        return value;
    }
    OTHER
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels_come_out_as_they_were_declared() {
        let metrics = Metrics::new("payments");
        let requests = metrics.counter("payment_requests_total", "Requests", &["status", "method"]);
        requests.at(&["ok", "card"]).inc_by(2);
        let took = metrics.histogram("payment_processing_duration_seconds", "Time", [] as [Label; 0]);
        took.observe(&[], Duration::from_millis(4));
        metrics.gauge("queue_length", "Waiting", [] as [Label; 0]);
        let text = metrics.render();
        for line in [
            "payment_requests_total{service=\"payments\",status=\"ok\",method=\"card\"} 2\n",
            "payment_processing_duration_seconds_bucket{service=\"payments\",le=\"0.005\"} 1\n",
            "payment_processing_duration_seconds_count{service=\"payments\"} 1\n",
            "queue_length{service=\"payments\"} 0\n",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }

    #[test]
    fn a_label_with_too_many_values_keeps_the_first_and_counts_the_rest_together() {
        let metrics = Metrics::new("orders");
        let created = metrics.counter("order_created_total", "Orders", [Label::top_n("shop_id", 2)]);
        for shop in ["a", "b", "c", "a", "d"] {
            created.count(&[shop]);
        }
        let text = metrics.render();
        for (value, count) in [("a", 2), ("b", 1), ("other", 2)] {
            assert!(text.contains(&format!("shop_id=\"{value}\"}} {count}\n")), "{text}");
        }
        assert!(!text.contains("\"c\""));
    }

    #[test]
    fn the_same_name_gives_the_same_metric_and_services_share_nothing() {
        let (one, two) = (Metrics::new("one"), Metrics::new("two"));
        one.counter("seen_total", "Seen", &["kind"]).count(&["x"]);
        one.counter("seen_total", "Seen", &["kind"]).count(&["x"]);
        assert!(one.render().contains("seen_total{service=\"one\",kind=\"x\"} 2\n"));
        assert!(!two.render().contains("seen"));
    }

    #[test]
    #[should_panic(expected = "the metric seen_total is there already")]
    fn one_name_cannot_mean_two_things() {
        let metrics = Metrics::new("one");
        metrics.counter("seen_total", "Seen", ["kind"]);
        metrics.gauge("seen_total", "Seen", ["kind"]);
    }
}
