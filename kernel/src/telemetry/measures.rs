//! What every service measures about itself: units of work, and how far its consumers and its outbox lag.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter as Count;
use prometheus_client::metrics::gauge::Gauge as Level;
use prometheus_client::metrics::histogram::Histogram as Distribution;

use super::metrics::{Gauge, Label, Metrics};

/// How a unit of work ended, as its store saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnitEnd {
    /// It is durable.
    Committed,
    /// Its own code said no.
    Refused,
    /// It took too long.
    Deadline,
    /// Its own code panicked.
    Panicked,
    /// The connection was lost while it committed.
    Unknown,
    /// The database refused it.
    Failed,
}

/// Units of work that a store runs.
#[derive(Clone, Debug)]
pub struct StoreMeasures {
    committed: Count,
    refused: Count,
    deadline: Count,
    panicked: Count,
    unknown: Count,
    failed: Count,
    duration: Distribution,
}

impl StoreMeasures {
    /// Declares the metrics.
    pub fn new(metrics: &Metrics) -> Self {
        let units = metrics.counter("store_units_total", "Units of work by how they ended", ["outcome"]);
        let about = "From handing a unit in to its durable end";
        Self {
            committed: units.at(&["committed"]),
            refused: units.at(&["refused"]),
            deadline: units.at(&["deadline"]),
            panicked: units.at(&["panicked"]),
            unknown: units.at(&["unknown"]),
            failed: units.at(&["failed"]),
            duration: metrics.histogram("store_unit_duration_seconds", about, [] as [Label; 0]).at(&[]),
        }
    }

    /// A unit ended.
    pub fn ended(&self, end: UnitEnd, took: Duration) {
        let count = match end {
            UnitEnd::Committed => &self.committed,
            UnitEnd::Refused => &self.refused,
            UnitEnd::Deadline => &self.deadline,
            UnitEnd::Panicked => &self.panicked,
            UnitEnd::Unknown => &self.unknown,
            UnitEnd::Failed => &self.failed,
        };
        count.inc();
        self.duration.observe(took.as_secs_f64());
    }
}

/// How far consumers are behind their publishers, and the outbox behind its own service.
#[derive(Clone)]
pub struct BusMeasures {
    lag: Gauge,
    refused: Gauge,
    parked: Gauge,
    waiting: Level,
    waited: Level,
}

impl BusMeasures {
    /// Declares the metrics. The lag's name says Kafka on either bus, so that one dashboard serves both.
    pub fn new(metrics: &Metrics) -> Self {
        let gauge = |name, about| metrics.gauge(name, about, [] as [Label; 0]).at(&[]);
        let by_publisher = |name, about| metrics.gauge(name, about, ["publisher"]);
        let of_lag = ["consumer", "publisher", "group", "topic", "partition"];
        Self {
            lag: metrics.gauge("kafka_consumer_lag", "Events not yet consumed", of_lag),
            refused: by_publisher("bus_publisher_refuses", "1 where a publisher refuses until somebody decides"),
            parked: by_publisher("events_parked", "Events that wait for a person"),
            waiting: gauge("outbox_waiting_events", "Durable events that consumers may not have yet"),
            waited: gauge("outbox_oldest_waiting_seconds", "Age of the oldest of them"),
        }
    }

    /// Sets the number of events that a consumer has yet to see of a publisher's stream, which has no partitions.
    pub fn lag(&self, consumer: &str, publisher: &str, events: i64) {
        self.lag.at(&[consumer, publisher, "", "", ""]).set(events.max(0));
    }

    /// Sets the number of events that a consumer has yet to see in a partition of a topic.
    pub fn lag_in(&self, consumer: &str, publisher: &str, (topic, partition): (&str, i32), events: i64) {
        self.lag.at(&[consumer, publisher, consumer, topic, &partition.to_string()]).set(events.max(0));
    }

    /// Sets whether a publisher refuses.
    pub(crate) fn refused(&self, publisher: &str, refuses: bool) {
        self.refused.at(&[publisher]).set(refuses.into());
    }

    /// Sets the number of events of a publisher that are parked.
    pub(crate) fn parked(&self, publisher: &str, events: i64) {
        self.parked.at(&[publisher]).set(events);
    }

    /// Sets how many events the relay has yet to give a position, and how long the oldest has waited.
    pub(crate) fn waiting(&self, events: i64, oldest: Option<Duration>) {
        self.waiting.set(events);
        self.waited.set(oldest.map_or(0, |age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_and_units_come_out_under_their_names() {
        let metrics = Metrics::new("orders");
        BusMeasures::new(&metrics).lag("orders", "payments", 7);
        StoreMeasures::new(&metrics).ended(UnitEnd::Committed, Duration::from_millis(2));
        let text = metrics.render().replace("service=\"orders\",", "");
        assert!(text.contains("kafka_consumer_lag{consumer=\"orders\",publisher=\"payments\",group=\"\",topic=\"\",partition=\"\"} 7\n"), "{text}");
        assert!(text.contains("store_units_total{outcome=\"committed\"} 1\n"), "{text}");
    }
}
