//! What every service measures about itself: requests served, units of work, and how far its consumers lag.

use std::time::{Duration, Instant};

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

    /// A request has begun. If what this gives is dropped without [`HttpRequest::answered`], its client went away.
    pub fn begun(&self, method: &str, route: &str) -> HttpRequest {
        self.in_flight.at(&[]).inc();
        let (method, route) = (method.to_owned(), route.to_owned());
        HttpRequest { measures: self.clone(), method, route, since: Instant::now(), status: None }
    }
}

/// One request under way.
pub struct HttpRequest {
    measures: HttpMeasures,
    method: String,
    route: String,
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
        let status = self.status.map_or_else(|| "gone".to_owned(), |status| status.to_string());
        self.measures.in_flight.at(&[]).dec();
        self.measures.requests.at(&[&self.method, &self.route, &status]).inc();
        self.measures.duration.at(&[&self.method, &self.route]).observe(self.since.elapsed().as_secs_f64());
    }
}

/// Units of work that a store runs.
#[derive(Clone)]
pub struct StoreMeasures {
    units: Counter,
    duration: Histogram,
}

impl StoreMeasures {
    /// Declares the metrics.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            units: metrics.counter("store_units_total", "Units of work by how they ended", ["outcome"]),
            duration: metrics.histogram(
                "store_unit_duration_seconds",
                "From handing a unit in to its durable end",
                [] as [Label; 0],
            ),
        }
    }

    /// A unit ended: `committed`, `refused`, `deadline`, `unknown` or `failed`.
    pub fn ended(&self, outcome: &str, took: Duration) {
        self.units.at(&[outcome]).inc();
        self.duration.at(&[]).observe(took.as_secs_f64());
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
        Self { lag: metrics.gauge("kafka_consumer_lag", "Events not yet consumed", ["consumer", "publisher"]) }
    }

    /// Sets the number of events that a consumer has yet to see.
    pub fn set(&self, consumer: &str, publisher: &str, events: i64) {
        self.lag.at(&[consumer, publisher]).set(events.max(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_route_and_status_even_when_the_client_goes_away() {
        let metrics = Metrics::new("orders");
        let http = HttpMeasures::new(&metrics);
        let open = http.begun("GET", "/orders/{id}");
        assert!(
            metrics
                .render()
                .replace("service=\"orders\",", "")
                .replace("{service=\"orders\"}", "")
                .contains("http_server_requests_in_flight 1\n")
        );
        open.answered(200);
        drop(http.begun("GET", "/orders/{id}"));
        let text = metrics.render().replace("service=\"orders\",", "").replace("{service=\"orders\"}", "");
        for line in [
            "http_server_requests_total{method=\"GET\",route=\"/orders/{id}\",status=\"200\"} 1\n",
            "http_server_requests_total{method=\"GET\",route=\"/orders/{id}\",status=\"gone\"} 1\n",
            "http_server_request_duration_seconds_count{method=\"GET\",route=\"/orders/{id}\"} 2\n",
            "http_server_requests_in_flight 0\n",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }

    #[test]
    fn lag_and_units_come_out_under_their_names() {
        let metrics = Metrics::new("orders");
        BusMeasures::new(&metrics).set("orders", "payments", 7);
        StoreMeasures::new(&metrics).ended("committed", Duration::from_millis(2));
        let text = metrics.render().replace("service=\"orders\",", "");
        assert!(text.contains("kafka_consumer_lag{consumer=\"orders\",publisher=\"payments\"} 7\n"), "{text}");
        assert!(text.contains("store_units_total{outcome=\"committed\"} 1\n"), "{text}");
    }
}
