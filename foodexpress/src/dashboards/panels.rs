//! What each dashboard shows. A test compares every metric named here with what a city really exposes.

use super::{Dashboard, Panel};

const RATE: &str = "reqps";
const SECONDS: &str = "s";
const SHARE: &str = "percentunit";
const NUMBER: &str = "short";

pub(super) const ALL: &[Dashboard] = &[
    Dashboard {
        name: "city",
        title: "the city",
        about: "Is it well, and how busy is it: start here, then go to the dashboard of what stands out.",
        of_one_service: false,
        panels: &[
            Panel {
                title: "Members that answer",
                unit: NUMBER,
                lines: &[("{{service}}", "sum by (service) (up{job=\"foodexpress\"})")],
            },
            Panel {
                title: "Requests at the gateway",
                unit: RATE,
                lines: &[(
                    "{{http_response_status_code}}",
                    "sum by (http_response_status_code) (rate(http_server_request_duration_seconds_count{service=\"gateway\"}[1m]))",
                )],
            },
            Panel {
                title: "Requests that fail",
                unit: SHARE,
                lines: &[
                    ("5 minutes", "city:errors:ratio5m"),
                    ("1 hour", "city:errors:ratio1h"),
                    ("6 hours", "city:errors:ratio6h"),
                ],
            },
            Panel { title: "Orders placed", unit: RATE, lines: &[("orders", "sum(rate(order_created_total[1m]))")] },
            Panel {
                title: "Order intake at the gateway",
                unit: SECONDS,
                lines: &[
                    (
                        "p50",
                        "histogram_quantile(0.5, sum by (le) (rate(http_server_request_duration_seconds_bucket{service=\"gateway\", http_request_method=\"POST\", http_route=\"/api/v1/orders\"}[5m])))",
                    ),
                    (
                        "p95",
                        "histogram_quantile(0.95, sum by (le) (rate(http_server_request_duration_seconds_bucket{service=\"gateway\", http_request_method=\"POST\", http_route=\"/api/v1/orders\"}[5m])))",
                    ),
                ],
            },
            Panel {
                title: "Payments",
                unit: RATE,
                lines: &[("{{status}}", "sum by (status) (rate(payment_requests_total[1m]))")],
            },
            Panel {
                title: "Events behind, by consumer",
                unit: NUMBER,
                lines: &[("{{consumer}}", "sum by (consumer) (kafka_consumer_lag)")],
            },
            Panel {
                title: "Events parked",
                unit: NUMBER,
                lines: &[("{{service}} of {{publisher}}", "events_parked > 0")],
            },
            Panel {
                title: "Circuits that are open",
                unit: NUMBER,
                lines: &[("{{service}} to {{name}}", "circuit_breaker_state{state=\"open\"}")],
            },
        ],
    },
    Dashboard {
        name: "orders-and-payments",
        title: "orders and payments",
        about: "The way of money: what is placed, what is paid, and what nobody knows yet.",
        of_one_service: false,
        panels: &[
            Panel {
                title: "Orders by restaurant",
                unit: RATE,
                lines: &[("{{restaurant_id}}", "topk(10, sum by (restaurant_id) (rate(order_created_total[5m])))")],
            },
            Panel {
                title: "Payments by what became of them",
                unit: RATE,
                lines: &[("{{status}} {{method}}", "sum by (status, method) (rate(payment_requests_total[5m]))")],
            },
            Panel {
                title: "Share of payments that fail",
                unit: SHARE,
                lines: &[(
                    "failed",
                    "sum(rate(payment_requests_total{status=\"failed\"}[15m])) / sum(rate(payment_requests_total[15m]))",
                )],
            },
            Panel {
                title: "From asking the provider to the stored outcome",
                unit: SECONDS,
                lines: &[
                    (
                        "p50",
                        "histogram_quantile(0.5, sum by (le) (rate(payment_processing_duration_seconds_bucket[5m])))",
                    ),
                    (
                        "p95",
                        "histogram_quantile(0.95, sum by (le) (rate(payment_processing_duration_seconds_bucket[5m])))",
                    ),
                    (
                        "p99",
                        "histogram_quantile(0.99, sum by (le) (rate(payment_processing_duration_seconds_bucket[5m])))",
                    ),
                ],
            },
            Panel {
                title: "Intents without an outcome",
                unit: NUMBER,
                lines: &[("{{state}}", "sum by (state) (payments_unresolved)")],
            },
            Panel {
                title: "Age of the oldest of them",
                unit: SECONDS,
                lines: &[("{{state}}", "max by (state) (payments_oldest_unresolved_seconds)")],
            },
            Panel {
                title: "The provider's circuit",
                unit: NUMBER,
                lines: &[("{{state}}", "max by (state) (circuit_breaker_state{service=\"payments\"})")],
            },
            Panel {
                title: "Runs of the job that asks",
                unit: RATE,
                lines: &[(
                    "{{outcome}}",
                    "sum by (outcome) (rate(job_runs_total{service=\"payments\", job=\"provider\"}[5m]))",
                )],
            },
        ],
    },
    Dashboard {
        name: "bus",
        title: "the bus",
        about: "From an event's commit to its effect elsewhere.",
        of_one_service: false,
        panels: &[
            Panel {
                title: "Events behind",
                unit: NUMBER,
                lines: &[("{{consumer}} of {{publisher}}", "max by (consumer, publisher) (kafka_consumer_lag)")],
            },
            Panel {
                title: "Events that wait to be published",
                unit: NUMBER,
                lines: &[("{{service}}", "max by (service) (outbox_waiting_events)")],
            },
            Panel {
                title: "Age of the oldest of them",
                unit: SECONDS,
                lines: &[("{{service}}", "max by (service) (outbox_oldest_waiting_seconds)")],
            },
            Panel {
                title: "Events parked",
                unit: NUMBER,
                lines: &[("{{service}} of {{publisher}}", "max by (service, publisher) (events_parked)")],
            },
            Panel {
                title: "Publishers that refuse",
                unit: NUMBER,
                lines: &[("{{publisher}} refuses {{service}}", "max by (service, publisher) (bus_publisher_refuses)")],
            },
        ],
    },
    Dashboard {
        name: "gateway",
        title: "the gateway",
        about: "What comes in by the only door, and how the services behind it answer.",
        of_one_service: false,
        panels: &[
            Panel {
                title: "Requests by route",
                unit: RATE,
                lines: &[(
                    "{{http_request_method}} {{http_route}}",
                    "topk(15, sum by (http_request_method, http_route) (rate(http_server_request_duration_seconds_count{service=\"gateway\"}[1m])))",
                )],
            },
            Panel {
                title: "Answers by status",
                unit: RATE,
                lines: &[(
                    "{{http_response_status_code}}",
                    "sum by (http_response_status_code) (rate(http_server_request_duration_seconds_count{service=\"gateway\"}[1m]))",
                )],
            },
            Panel {
                title: "Failures by route",
                unit: RATE,
                lines: &[(
                    "{{http_route}} {{error_type}}",
                    "sum by (http_route, error_type) (rate(http_server_request_duration_seconds_count{service=\"gateway\", error_type!=\"\"}[1m]))",
                )],
            },
            Panel {
                title: "Time to answer",
                unit: SECONDS,
                lines: &[
                    (
                        "p50",
                        "histogram_quantile(0.5, sum by (le) (rate(http_server_request_duration_seconds_bucket{service=\"gateway\"}[5m])))",
                    ),
                    (
                        "p95",
                        "histogram_quantile(0.95, sum by (le) (rate(http_server_request_duration_seconds_bucket{service=\"gateway\"}[5m])))",
                    ),
                    (
                        "p99",
                        "histogram_quantile(0.99, sum by (le) (rate(http_server_request_duration_seconds_bucket{service=\"gateway\"}[5m])))",
                    ),
                ],
            },
            Panel {
                title: "p95 by route",
                unit: SECONDS,
                lines: &[(
                    "{{http_route}}",
                    "topk(10, histogram_quantile(0.95, sum by (le, http_route) (rate(http_server_request_duration_seconds_bucket{service=\"gateway\"}[5m]))))",
                )],
            },
            Panel {
                title: "Under way",
                unit: NUMBER,
                lines: &[("requests", "sum(http_server_active_requests{service=\"gateway\"})")],
            },
            Panel {
                title: "Turned away by a limit",
                unit: RATE,
                lines: &[(
                    "429",
                    "sum(rate(http_server_request_duration_seconds_count{service=\"gateway\", http_response_status_code=\"429\"}[1m]))",
                )],
            },
            Panel {
                title: "Circuits",
                unit: NUMBER,
                lines: &[("{{name}} {{state}}", "circuit_breaker_state{service=\"gateway\", state!=\"closed\"}")],
            },
        ],
    },
    Dashboard {
        name: "store",
        title: "the databases",
        about: "Units of work: how many, how long, and how they end.",
        of_one_service: false,
        panels: &[
            Panel {
                title: "Units committed",
                unit: RATE,
                lines: &[("{{service}}", "sum by (service) (rate(store_units_total{outcome=\"committed\"}[1m]))")],
            },
            Panel {
                title: "Units that did not commit",
                unit: RATE,
                lines: &[(
                    "{{service}} {{outcome}}",
                    "sum by (service, outcome) (rate(store_units_total{outcome!=\"committed\"}[1m]))",
                )],
            },
            Panel {
                title: "From handing in to durable, p50",
                unit: SECONDS,
                lines: &[(
                    "{{service}}",
                    "histogram_quantile(0.5, sum by (le, service) (rate(store_unit_duration_seconds_bucket[5m])))",
                )],
            },
            Panel {
                title: "From handing in to durable, p95",
                unit: SECONDS,
                lines: &[(
                    "{{service}}",
                    "histogram_quantile(0.95, sum by (le, service) (rate(store_unit_duration_seconds_bucket[5m])))",
                )],
            },
            Panel {
                title: "From handing in to durable, p99",
                unit: SECONDS,
                lines: &[(
                    "{{service}}",
                    "histogram_quantile(0.99, sum by (le, service) (rate(store_unit_duration_seconds_bucket[5m])))",
                )],
            },
        ],
    },
    Dashboard {
        name: "service",
        title: "one service",
        about: "Everything one service tells of itself; choose it above.",
        of_one_service: true,
        panels: &[
            Panel {
                title: "Requests",
                unit: RATE,
                lines: &[(
                    "{{http_request_method}} {{http_route}} {{http_response_status_code}}",
                    "sum by (http_request_method, http_route, http_response_status_code) (rate(http_server_request_duration_seconds_count{service=\"$service\"}[1m]))",
                )],
            },
            Panel {
                title: "Time to answer, p95",
                unit: SECONDS,
                lines: &[(
                    "{{http_request_method}} {{http_route}}",
                    "histogram_quantile(0.95, sum by (le, http_request_method, http_route) (rate(http_server_request_duration_seconds_bucket{service=\"$service\"}[5m])))",
                )],
            },
            Panel {
                title: "Under way",
                unit: NUMBER,
                lines: &[("requests", "sum(http_server_active_requests{service=\"$service\"})")],
            },
            Panel {
                title: "Units of work",
                unit: RATE,
                lines: &[("{{outcome}}", "sum by (outcome) (rate(store_units_total{service=\"$service\"}[1m]))")],
            },
            Panel {
                title: "Jobs and timers",
                unit: RATE,
                lines: &[(
                    "{{job}} {{outcome}}",
                    "sum by (job, outcome) (rate(job_runs_total{service=\"$service\"}[5m]))",
                )],
            },
            Panel {
                title: "How long jobs and timers take, p95",
                unit: SECONDS,
                lines: &[(
                    "{{job}}",
                    "histogram_quantile(0.95, sum by (le, job) (rate(job_duration_seconds_bucket{service=\"$service\"}[5m])))",
                )],
            },
            Panel {
                title: "Behind its publishers",
                unit: NUMBER,
                lines: &[("{{publisher}}", "max by (publisher) (kafka_consumer_lag{service=\"$service\"})")],
            },
            Panel {
                title: "Spans by what became of them",
                unit: RATE,
                lines: &[("{{outcome}}", "sum by (outcome) (rate(trace_spans_total{service=\"$service\"}[1m]))")],
            },
            Panel {
                title: "Spans that wait to be sent",
                unit: NUMBER,
                lines: &[("spans", "sum(trace_spans_queued{service=\"$service\"})")],
            },
        ],
    },
];
