//! Routes: once in the city, guarded, safe to repeat, closed to fields that nobody knows.

use std::collections::{BTreeMap, BTreeSet};

use kernel::manifest::{Access, Manifest, OperationShape, Permission, Repeat, RouteDoc};
use schemars::generate::SchemaSettings;
use schemars::{SchemaGenerator, json_schema};
use serde_json::Value;

use super::{planted, rule};
use crate::check::inputs::{File, Inputs};
use crate::check::{Finding, Place, Rule};

pub(super) const RULES: &[Rule] = &[
    rule("F12", "every changing route is keyed, or states its protocol's own rule against repeats", repeats, |i| {
        plant(i, |r| RouteDoc { method: "DELETE", repeat: Repeat::Reads, ..r })
    }),
    rule("routes", "no two routes share method and path", once, |i| {
        let first = i.manifests.first().and_then(|m| m.routes.first()).map_or("/planted/first", |r| r.path);
        let method = i.manifests.first().and_then(|m| m.routes.first()).map_or("GET", |r| r.method);
        plant_at(i, first, |r| RouteDoc { method, ..r })
    }),
    rule("bodies", "request bodies refuse fields that they do not know", open_bodies, |i| {
        plant(i, |r| RouteDoc { shape: open_shape, ..r })
    }),
    rule(
        "permissions",
        "every route's permission is one of the contract's, and every one of those is used",
        permissions,
        |i| {
            plant(i, |r| RouteDoc {
                access: Access::May(Permission { name: "planted.do", roles: &["NOBODY"], for_orgs: &[] }),
                ..r
            })
        },
    ),
];

fn no_shape(_: &mut SchemaGenerator) -> OperationShape {
    OperationShape::default()
}

fn open_shape(_: &mut SchemaGenerator) -> OperationShape {
    let body = json_schema!({"type": "object", "properties": {"amount": {"type": "integer"}}});
    OperationShape { body: Some(("application/json", body)), ..OperationShape::default() }
}

fn plant(inputs: &mut Inputs, change: impl FnOnce(RouteDoc) -> RouteDoc) -> Place {
    plant_at(inputs, "/api/v1/planted", change)
}

fn plant_at(inputs: &mut Inputs, path: &'static str, change: impl FnOnce(RouteDoc) -> RouteDoc) -> Place {
    let (access, repeat) = (Access::SignedIn, Repeat::Reads);
    let route = RouteDoc {
        method: "GET",
        path,
        access,
        repeat,
        summary: "Planted",
        operation: "planted".into(),
        shape: no_shape,
    };
    inputs.manifests.push(Manifest { routes: vec![change(route)], ..planted() });
    inputs.put_violation("services/planted/src/api.rs", &format!("//! Planted.\n\nconst PATH: &str = \"{path}\";\n"), 3)
}

fn all(inputs: &Inputs) -> impl Iterator<Item = (&'static str, &RouteDoc)> {
    inputs.manifests.iter().flat_map(|m| m.routes.iter().map(|r| (m.name, r)))
}

fn finding(inputs: &Inputs, service: &str, route: &RouteDoc, what: &str) -> Finding {
    let row = format!("{} {}", route.method, route.path);
    let place = row_of(inputs, service, route);
    Finding::at(place, format!("{service}: {row}: {what}")).about(row)
}

/// The table's row: the line with the path and the method's word, or at least the path.
fn row_of(inputs: &Inputs, service: &str, route: &RouteDoc) -> Place {
    let quoted = format!("\"{}\"", route.path);
    let row = format!(".{}({quoted}", route.method.to_lowercase());
    let exact = inputs.in_service(service, &row);
    let says = |place: &Place| {
        let line = inputs.text(&place.file).and_then(|t| t.lines().nth(place.line - 1));
        line.is_some_and(|l| l.contains(&quoted))
    };
    if says(&exact) { exact } else { inputs.in_service(service, &quoted) }
}

fn repeats(inputs: &Inputs) -> Vec<Finding> {
    let wrong = |route: &RouteDoc| match (route.method, route.repeat) {
        ("GET" | "HEAD" | "OPTIONS", Repeat::Reads) | (_, Repeat::Keyed) => None,
        (_, Repeat::Protocol(rule)) if !rule.trim().is_empty() => None,
        (_, Repeat::Protocol(_)) => Some("the protocol's rule against repeats is empty"),
        _ => Some("it changes something, and a repeat would change it again"),
    };
    all(inputs).filter_map(|(service, route)| Some(finding(inputs, service, route, wrong(route)?))).collect()
}

fn once(inputs: &Inputs) -> Vec<Finding> {
    let mut seen: BTreeMap<(&str, String), &str> = BTreeMap::new();
    let mut found = Vec::new();
    for (service, route) in all(inputs) {
        // Two templates that differ in the names of their parameters only are the same address.
        let steps: Vec<&str> =
            route.path.split('/').map(|step| if step.starts_with('{') { "{}" } else { step }).collect();
        if let Some(other) = seen.insert((route.method, steps.join("/")), service) {
            found.push(finding(inputs, service, route, &format!("{other} has it too")));
        }
    }
    found
}

fn open_bodies(inputs: &Inputs) -> Vec<Finding> {
    let mut found = Vec::new();
    for (service, route) in all(inputs) {
        let mut generator = SchemaSettings::draft2020_12().into_generator();
        let Some(("application/json", body)) = (route.shape)(&mut generator).body else { continue };
        let mut root = body.to_value();
        root["$defs"] = Value::Object(generator.take_definitions(true));
        let mut open = BTreeSet::new();
        find_open(&root, &root, "", &mut BTreeSet::new(), &mut open);
        for pointer in open {
            let what =
                format!("{} takes fields that it does not know", if pointer.is_empty() { "/" } else { &pointer });
            found.push(finding(inputs, service, route, &what));
        }
    }
    found
}

/// Collects the places of objects that take any field.
fn find_open(root: &Value, schema: &Value, at: &str, seen: &mut BTreeSet<String>, open: &mut BTreeSet<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let target = root.pointer(name.trim_start_matches('#')).filter(|_| seen.insert(name.to_owned()));
        if let Some(target) = target {
            find_open(root, target, at, seen, open);
        }
    }
    if schema["properties"].is_object() && schema["additionalProperties"] != Value::Bool(false) {
        open.insert(at.to_owned());
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        find_open(root, field, &format!("{at}/{name}"), seen, open);
    }
    find_open_inside(root, schema, at, seen, open);
}

fn find_open_inside(root: &Value, schema: &Value, at: &str, seen: &mut BTreeSet<String>, open: &mut BTreeSet<String>) {
    if schema["items"].is_object() {
        find_open(root, &schema["items"], &format!("{at}/*"), seen, open);
    }
    for case in ["anyOf", "oneOf", "allOf"].iter().filter_map(|k| schema[*k].as_array()).flatten() {
        find_open(root, case, at, seen, open);
    }
}

const TABLE: &str = "contracts/src/permissions.rs";

fn permissions(inputs: &Inputs) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut used = BTreeSet::new();
    for (service, route) in all(inputs) {
        let Access::May(permission) = route.access else { continue };
        used.insert(permission.name);
        if !inputs.permissions.contains(&permission) {
            found.push(finding(
                inputs,
                service,
                route,
                &format!("{} is no permission of the contracts", permission.name),
            ));
        }
    }
    for permission in &inputs.permissions {
        let place = inputs.locate(TABLE, &format!("\"{}\"", permission.name));
        let constant = inputs
            .text(TABLE)
            .and_then(|t| t.lines().nth(place.line - 1))
            .and_then(|l| l.split_whitespace().next())
            .unwrap_or("?");
        // A handler may ask for more than its row does, about the object it has found.
        let asked = |(_, file): (&str, &File)| file.source().shipped().any(|(_, code)| super::has_word(code, constant));
        if !used.contains(permission.name) && !inputs.service_code().any(asked) {
            found.push(
                Finding::at(place.clone(), format!("nothing asks for {}", permission.name)).about(permission.name),
            );
        }
        for role in permission.roles.iter().filter(|role| !inputs.roles.contains(role)) {
            found.push(Finding::at(place.clone(), format!("{role} is no role")).about(permission.name));
        }
    }
    found
}
