//! Dashboards for Grafana, made from the tables in `panels`: the files under deploy/grafana are their output.

mod panels;

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// One dashboard.
struct Dashboard {
    /// The file's name without its ending; also its identity in Grafana.
    name: &'static str,
    title: &'static str,
    about: &'static str,
    /// Whether it is about the service that is chosen in `$service`.
    of_one_service: bool,
    panels: &'static [Panel],
}

/// One graph.
struct Panel {
    title: &'static str,
    /// Grafana's word for the unit of its axis.
    unit: &'static str,
    /// What each line is called, and the expression that gives it.
    lines: &'static [(&'static str, &'static str)],
}

/// Panels in a row.
const COLUMNS: usize = 3;
const WIDTH: usize = 24 / COLUMNS;
const HEIGHT: usize = 8;

/// Every dashboard's file and its text.
pub(crate) fn files() -> BTreeMap<String, String> {
    let text = |dashboard: &Dashboard| {
        serde_json::to_string_pretty(&json_of(dashboard)).expect("a JSON value becomes text") + "\n"
    };
    panels::ALL.iter().map(|dashboard| (format!("{}.json", dashboard.name), text(dashboard))).collect()
}

fn json_of(dashboard: &Dashboard) -> Value {
    let panels: Vec<Value> = dashboard.panels.iter().enumerate().map(|(at, panel)| panel_json(at, panel)).collect();
    json!({
        "uid": format!("foodexpress-{}", dashboard.name),
        "title": format!("FoodExpress: {}", dashboard.title),
        "description": dashboard.about,
        "tags": ["foodexpress"],
        "schemaVersion": 39,
        "editable": true,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": variables(dashboard)},
        "panels": panels,
    })
}

fn variables(dashboard: &Dashboard) -> Vec<Value> {
    let source = json!({"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"});
    let service = json!({
        "name": "service", "label": "Service", "type": "query", "refresh": 2, "sort": 1,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": "label_values(http_server_active_requests, service)",
    });
    if dashboard.of_one_service { vec![source, service] } else { vec![source] }
}

fn panel_json(at: usize, panel: &Panel) -> Value {
    let source = json!({"type": "prometheus", "uid": "${datasource}"});
    let target = |(number, (legend, expression)): (usize, &(&str, &str))| {
        let letter = char::from(b'A' + u8::try_from(number).expect("a panel has a few lines"));
        json!({"refId": letter.to_string(), "datasource": source, "expr": expression, "legendFormat": legend})
    };
    let targets: Vec<Value> = panel.lines.iter().enumerate().map(target).collect();
    json!({
        "id": at + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": source,
        "gridPos": {"x": at % COLUMNS * WIDTH, "y": at / COLUMNS * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": targets,
    })
}
