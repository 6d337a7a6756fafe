//! What every service measures about itself: requests served, units of work, and how far its consumers lag.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use prometheus_client::metrics::counter::Counter as Count;
use prometheus_client::metrics::gauge::Gauge as Level;
use prometheus_client::metrics::histogram::Histogram as Distribution;

use super::metrics::{Counter, Gauge, Histogram, Label, Metrics};

/// Requests that a server answers.
#[derive(Clone)]
pub struct HttpMeasures {
    requests: Counter,
    duration: Histogram,
    in_flight: Gauge,
}

impl HttpMeasures {
    /// Declares the metrics; routes are templates such as `/orders/{id}`, never paths.
    pub fn new(metrics: &Metrics) -> Self {
        let route = Label::top_n("route", 256);
        Self {
            requests: metrics.counter(
                "http_server_requests_total",
                "Requests answered",
                ["method".into(), route, "status".into()],
            ),
            duration: metrics.histogram(
                "http_server_request_duration_seconds",
                "From the head of a request to the head of its answer",
                ["method".into(), route],
            ),
            in_flight: metrics.gauge("http_server_requests_in_flight", "Requests being worked on", [] as [Label; 0]),
        }
    }

    /// The measures of one row of a route table, looked up once and not with every request.
    pub fn route(&self, method: &str, route: &str) -> RouteMeasures {
        RouteMeasures(Arc::new(OfRoute {
            duration: self.duration.at(&[method, route]),
            in_flight: self.in_flight.at(&[]),
            requests: self.requests.clone(),
            method: method.to_owned(),
            route: route.to_owned(),
            seen: RwLock::default(),
        }))
    }
}

/// Requests of one route.
#[derive(Clone)]
pub struct RouteMeasures(Arc<OfRoute>);

struct OfRoute {
    duration: Distribution,
    in_flight: Level,
    requests: Counter,
    method: String,
    route: String,
    /// A route answers with few statuses: a short list is found through faster than a map of labels.
    seen: RwLock<Vec<(Option<u16>, Count)>>,
}

impl RouteMeasures {
    /// A request has begun. One that is dropped before it was answered counts as `gone`: its client went away, or its
    /// time was over.
    pub fn begun(&self) -> HttpRequest {
        self.0.in_flight.inc();
        HttpRequest { measures: self.clone(), since: Instant::now(), status: None }
    }

    fn count(&self, status: Option<u16>) {
        let known = self.0.seen.read().iter().find(|(seen, _)| *seen == status).map(|(_, count)| count.clone());
        let count = known.unwrap_or_else(|| {
            let word = status.map_or_else(|| "gone".to_owned(), |status| status.to_string());
            let count = self.0.requests.at(&[&self.0.method, &self.0.route, &word]);
            self.0.seen.write().push((status, count.clone()));
            count
        });
        count.inc();
    }
}

/// One request under way.
pub struct HttpRequest {
    measures: RouteMeasures,
    since: Instant,
    status: Option<u16>,
}

impl HttpRequest {
    /// The request was answered with this status.
    pub fn answered(mut self, status: u16) {
        self.status = Some(status);
    }
}

impl Drop for HttpRequest {
    fn drop(&mut self) {
        self.measures.0.in_flight.dec();
        self.measures.0.duration.observe(self.since.elapsed().as_secs_f64());
        self.measures.count(self.status);
    }
}

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

/// How far consumers are behind their publishers.
#[derive(Clone)]
pub struct BusMeasures {
    lag: Gauge,
}

impl BusMeasures {
    /// Declares the metric. Its name says Kafka on either bus, so that one dashboard serves both.
    pub fn new(metrics: &Metrics) -> Self {
        let labels = ["consumer", "publisher", "group", "topic", "partition"];
        Self { lag: metrics.gauge("kafka_consumer_lag", "Events not yet consumed", labels) }
    }

    /// Sets the number of events that a consumer has yet to see of a publisher's stream, which has no partitions.
    pub fn set(&self, consumer: &str, publisher: &str, events: i64) {
        self.lag.at(&[consumer, publisher, "", "", ""]).set(events.max(0));
    }

    /// Sets the number of events that a consumer has yet to see in a partition of a topic.
    pub fn set_partition(&self, consumer: &str, publisher: &str, (topic, partition): (&str, i32), events: i64) {
        self.lag.at(&[consumer, publisher, consumer, topic, &partition.to_string()]).set(events.max(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_route_and_status_even_when_the_client_goes_away() {
        let metrics = Metrics::new("orders");
        let route = HttpMeasures::new(&metrics).route("GET", "/orders/{id}");
        let open = route.begun();
        assert!(
            metrics
                .render()
                .replace("service=\"orders\",", "")
                .replace("{service=\"orders\"}", "")
                .contains("http_server_requests_in_flight 1\n")
        );
        open.answered(200);
        drop(route.begun());
        route.begun().answered(200);
        let text = metrics.render().replace("service=\"orders\",", "").replace("{service=\"orders\"}", "");
        for line in [
            "http_server_requests_total{method=\"GET\",route=\"/orders/{id}\",status=\"200\"} 2\n",
            "http_server_requests_total{method=\"GET\",route=\"/orders/{id}\",status=\"gone\"} 1\n",
            "http_server_request_duration_seconds_count{method=\"GET\",route=\"/orders/{id}\"} 3\n",
            "http_server_requests_in_flight 0\n",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }

    #[test]
    fn lag_and_units_come_out_under_their_names() {
        let metrics = Metrics::new("orders");
        BusMeasures::new(&metrics).set("orders", "payments", 7);
        StoreMeasures::new(&metrics).ended(UnitEnd::Committed, Duration::from_millis(2));
        let text = metrics.render().replace("service=\"orders\",", "");
        assert!(text.contains("kafka_consumer_lag{consumer=\"orders\",publisher=\"payments\",group=\"\",topic=\"\",partition=\"\"} 7\n"), "{text}");
        assert!(text.contains("store_units_total{outcome=\"committed\"} 1\n"), "{text}");
    }
}
