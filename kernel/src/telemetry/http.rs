//! Requests that a server answers, in the words of OpenTelemetry's semantic conventions: one family for gateway and services.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::RwLock;
use prometheus_client::metrics::gauge::Gauge as Level;
use prometheus_client::metrics::histogram::Histogram as Distribution;

use super::metrics::{Gauge, Histogram, Label, Metrics};

/// The metric of requests by route and status; its count is the number of requests.
const DURATION: &str = "http_server_request_duration_seconds";
/// What stands for an answer that nobody waited for.
const GONE: &str = "cancelled";

/// Requests that a server answers.
#[derive(Clone)]
pub struct HttpMeasures {
    duration: Histogram,
    active: Gauge,
}

impl HttpMeasures {
    /// Declares the metrics; routes are templates such as `/orders/{id}`, never paths.
    pub fn new(metrics: &Metrics) -> Self {
        let about = "From the head of a request to the head of its answer";
        let labels: [Label; 4] = [
            "http_request_method".into(),
            Label::top_n("http_route", 256),
            "http_response_status_code".into(),
            "error_type".into(),
        ];
        Self {
            duration: metrics.histogram(DURATION, about, labels),
            active: metrics.gauge("http_server_active_requests", "Requests being worked on", [] as [Label; 0]),
        }
    }

    /// The measures of one row of a route table, looked up once and not with every request.
    pub fn route(&self, method: &str, route: &str) -> RouteMeasures {
        RouteMeasures(Arc::new(OfRoute {
            duration: self.duration.clone(),
            active: self.active.at(&[]),
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
    duration: Histogram,
    active: Level,
    method: String,
    route: String,
    /// A route answers with few statuses: a short list is found through faster than a map of labels.
    seen: RwLock<Vec<(Option<u16>, Distribution)>>,
}

impl RouteMeasures {
    /// A request has begun. One that is dropped before it was answered counts as cancelled: its client went away, or
    /// its time was over.
    pub fn begun(&self) -> HttpRequest {
        self.0.active.inc();
        HttpRequest { measures: self.clone(), since: Instant::now(), status: None }
    }

    fn of(&self, status: Option<u16>) -> Distribution {
        if let Some((_, known)) = self.0.seen.read().iter().find(|(seen, _)| *seen == status) {
            return known.clone();
        }
        let word = status.map(|status| status.to_string()).unwrap_or_default();
        let error = match status {
            None => GONE,
            Some(500..) => &word,
            Some(_) => "",
        };
        let fresh = self.0.duration.at(&[&self.0.method, &self.0.route, &word, error]);
        self.0.seen.write().push((status, fresh.clone()));
        fresh
    }
}

/// One request under way.
pub struct HttpRequest {
    measures: RouteMeasures,
    since: Instant,
    status: Option<u16>,
}

impl HttpRequest {
    /// Its route turned out to be this one: until it is found, a request belongs to none.
    pub fn belongs_to(&mut self, route: &RouteMeasures) {
        self.measures = route.clone();
    }

    /// The request was answered with this status.
    pub fn answered(mut self, status: u16) {
        self.status = Some(status);
    }
}

impl Drop for HttpRequest {
    fn drop(&mut self) {
        self.measures.0.active.dec();
        self.measures.of(self.status).observe(self.since.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_route_and_status_even_when_the_client_goes_away() {
        let metrics = Metrics::new("orders");
        let measures = HttpMeasures::new(&metrics);
        let route = measures.route("GET", "/orders/{id}");
        let open = route.begun();
        let text = || metrics.render().replace("service=\"orders\",", "").replace("{service=\"orders\"}", "");
        assert!(text().contains("http_server_active_requests 1\n"));
        open.answered(200);
        drop(route.begun());
        route.begun().answered(200);
        route.begun().answered(503);
        let mut found = measures.route("none", "none").begun();
        found.belongs_to(&route);
        found.answered(404);
        let text = text();
        for (status, error, count) in [("200", "", 2), ("", "cancelled", 1), ("503", "503", 1), ("404", "", 1)] {
            let labels = format!(
                "http_request_method=\"GET\",http_route=\"/orders/{{id}}\",http_response_status_code=\"{status}\",error_type=\"{error}\""
            );
            let line = format!("http_server_request_duration_seconds_count{{{labels}}} {count}\n");
            assert!(text.contains(&line), "{line} in\n{text}");
        }
        assert!(text.contains("http_server_active_requests 0\n"), "{text}");
        assert!(!text.contains("none"), "{text}");
    }
}
