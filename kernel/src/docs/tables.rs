//! The tables people read: catalogue, events and their flow, routes, permissions, refusals, settings.

use std::fmt::Write as _;

use super::City;
use crate::events::literal_name;
use crate::manifest::{Access, Manifest, Repeat};

const NOTE: &str = "<!-- Made by the `docs` command from the declarations; edit those. -->\n";

fn page(title: &str) -> String {
    format!("{NOTE}\n# {title}\n\n")
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).and_then(|()| out.write_char('\n')).expect("writing to a string cannot fail");
}

fn joined<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    if names.is_empty() { "–".into() } else { names.join(", ") }
}

pub(super) fn catalogue(city: &City<'_>) -> String {
    let mut out = page("Services");
    line(
        &mut out,
        format_args!(
            "| service | port | purpose | owns (tables) | publishes | hears | jobs |\n|---|---|---|---|---|---|---|"
        ),
    );
    for m in city.manifests {
        let tables = tables_of(m);
        let jobs = joined(m.jobs.iter().map(|j| j.name));
        let (says, hears) = (joined(m.publishes.iter().map(|e| e.name)), joined(m.hears.iter().map(|e| e.name)));
        line(
            &mut out,
            format_args!(
                "| {} | {} | {} | {} | {says} | {hears} | {jobs} |",
                m.name,
                m.port,
                m.purpose,
                joined(tables.iter().map(String::as_str))
            ),
        );
    }
    line(&mut out, format_args!("\n## Synchronous calls\n"));
    let calls: Vec<_> = city.manifests.iter().flat_map(|m| m.calls.iter().map(move |c| (m.name, c))).collect();
    if calls.is_empty() {
        line(&mut out, format_args!("None: services talk by events only."));
    }
    for (from, call) in calls {
        line(&mut out, format_args!("- {from} calls {} `{}`: {}", call.service, call.operation, call.reason));
    }
    out
}

/// The tables that a service's schema steps make.
fn tables_of(manifest: &Manifest) -> Vec<String> {
    let words = manifest.migrations.iter().flat_map(|(_, sql)| sql.split("CREATE TABLE ").skip(1));
    words
        .filter_map(|rest| rest.split_ascii_whitespace().next())
        .map(|name| name.trim_end_matches('(').to_owned())
        .collect()
}

pub(super) fn events(city: &City<'_>) -> String {
    let mut out = page("Events");
    line(
        &mut out,
        format_args!(
            "`stream` is the topic on Kafka, where there is one; `literal` the further topic with `kafka.routing = \"literal\"`.\n\n| event | says | by | stream, key | literal | heard by | also known as |\n|---|---|---|---|---|---|---|"
        ),
    );
    for event in city.manifests.iter().flat_map(|m| &m.publishes) {
        let hearers = city.manifests.iter().filter(|m| m.hears.iter().any(|h| h.name == event.name));
        let (hearers, also) = (joined(hearers.map(|m| m.name)), joined(event.aliases.iter().copied()));
        line(
            &mut out,
            format_args!(
                "| `{}` v{} | {} | {} | {}, {} | {} | {hearers} | {also} |",
                event.name,
                event.version,
                event.summary.trim(),
                event.publisher,
                event.topic,
                event.aggregate,
                literal_name(event.name)
            ),
        );
    }
    line(&mut out, format_args!("\n## Flow\n\n```mermaid\nflowchart LR"));
    for event in city.manifests.iter().flat_map(|m| &m.publishes) {
        for hearer in city.manifests.iter().filter(|m| m.hears.iter().any(|h| h.name == event.name)) {
            line(&mut out, format_args!("  {} -- {} --> {}", event.publisher, event.name, hearer.name));
        }
    }
    line(&mut out, format_args!("```"));
    out
}

pub(super) fn gateway_routes(city: &City<'_>) -> String {
    let mut out = page("Routes of the gateway");
    line(&mut out, format_args!("| method | path | service | who | repeats | what |\n|---|---|---|---|---|---|"));
    for m in city.manifests {
        for route in m.routes.iter().filter(|r| r.access != Access::Workload) {
            let who = match route.access {
                Access::Anyone(why) => format!("anyone: {why}"),
                Access::SignedIn => "signed in".into(),
                Access::May(permission) => format!("`{}`", permission.name),
                Access::Workload => continue,
            };
            let repeats = match route.repeat {
                Repeat::Reads => "reads",
                Repeat::Keyed => "Idempotency-Key",
                Repeat::Protocol(rule) => rule,
            };
            line(
                &mut out,
                format_args!(
                    "| {} | `{}` | {} | {who} | {repeats} | {} |",
                    route.method, route.path, m.name, route.summary
                ),
            );
        }
    }
    out
}

pub(super) fn permissions(city: &City<'_>) -> String {
    let mut out = page("Permissions");
    line(
        &mut out,
        format_args!(
            "| permission | {} | routes |\n|---|{}---|",
            city.roles.join(" | "),
            "---|".repeat(city.roles.len())
        ),
    );
    for permission in city.permissions {
        let marks: Vec<&str> =
            city.roles.iter().map(|r| if permission.roles.contains(r) { "yes" } else { "" }).collect();
        let routes = city.manifests.iter().flat_map(|m| &m.routes).filter(|r| r.access == Access::May(*permission));
        let routes: Vec<String> = routes.map(|r| format!("{} `{}`", r.method, r.path)).collect();
        line(
            &mut out,
            format_args!(
                "| `{}` | {} | {} |",
                permission.name,
                marks.join(" | "),
                joined(routes.iter().map(String::as_str))
            ),
        );
    }
    out
}

pub(super) fn refusals(city: &City<'_>) -> String {
    let mut out = page("Refusals");
    line(
        &mut out,
        format_args!(
            "Every error is `application/problem+json` with a stable `code`.\n\n| code | status | by | what it means, what to do |\n|---|---|---|---|"
        ),
    );
    for doc in [crate::http::TextRefusal::DOCS, crate::idempotency::IdempotencyRefusal::DOCS].concat() {
        line(&mut out, format_args!("| `{}` | {} | every service | {} |", doc.code, doc.status, doc.detail));
    }
    for m in city.manifests {
        for doc in &m.refusals {
            line(&mut out, format_args!("| `{}` | {} | {} | {} |", doc.code, doc.status, m.name, doc.detail));
        }
    }
    out
}

pub(super) fn settings(city: &City<'_>) -> String {
    let mut out = page("Settings");
    line(
        &mut out,
        format_args!(
            "Each may stand in the settings file under `[table]`, in Consul, or in the environment as `FX_TABLE__NAME`. Those that are not hot are read at start.\n\n| table | setting | default | hot | what it does |\n|---|---|---|---|---|"
        ),
    );
    let services = city.manifests.iter().filter_map(|m| Some((m.name, m.settings.as_ref()?)));
    let others = city.tables.iter().map(|(name, table)| (name.as_str(), table));
    for (of, table) in services.chain(others) {
        let Some(properties) = table.schema.as_value()["properties"].as_object() else { continue };
        for (name, property) in properties {
            let mut what = property["description"].as_str().unwrap_or("").replace('\n', " ");
            if let Some(other) = property["x-longer-than"].as_str() {
                what.push_str(&format!(" Must be longer than `{other}`."));
            }
            let hot = if property["x-restart"] == true { "" } else { "hot" };
            line(&mut out, format_args!("| {of} | `{name}` | `{}` | {hot} | {what} |", table.defaults[name]));
        }
    }
    out
}
