//! Events: one publisher each, somebody who hears them, and schemas that do not break those who do.

use std::collections::BTreeMap;

use kernel::events::EventDef;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::{planted, rule};
use crate::check::inputs::Inputs;
use crate::check::{Finding, Place, Rule, schema};

pub(super) const RULES: &[Rule] = &[
    rule(
        "F9",
        "a published event changes only in ways that break nobody; anything else is a new version",
        broken_schemas,
        plant_break,
    ),
    rule("events", "every heard event has exactly one publisher, every published one a hearer", flows, |i| {
        i.manifests.push(kernel::manifest::Manifest { hears: vec![PLANTED], ..planted() });
        i.put_violation(
            "services/planted/src/reactions.rs",
            "//! Planted.\n// Nobody says this.\nconst HEARS: &str = \"planted.unheard_of\";\n",
            3,
        )
    }),
];

const PLANTED: EventDef = EventDef {
    name: "planted.unheard_of",
    version: 1,
    publisher: "nobody",
    topic: "planted.events",
    aggregate: "planted",
    summary: "Planted.",
    aliases: &[],
    schema: planted_schema,
};

fn planted_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "properties": {"kept": {"type": "string"}}})
}

/// Publishes an event whose blessed schema has a field that it no longer has.
fn plant_break(inputs: &mut Inputs) -> Place {
    inputs.manifests.push(kernel::manifest::Manifest { publishes: vec![PLANTED], ..planted() });
    let blessed = json!({"type": "object", "properties": {"kept": {"type": "string"}, "gone": {"type": "string"}}});
    inputs.put(&schema::path(PLANTED.name, PLANTED.version), &blessed.to_string());
    inputs.put_violation("contracts/src/planted.rs", "//! Planted.\nconst NAME: &str = \"planted.unheard_of\";\n", 2)
}

fn declared(inputs: &Inputs, def: &EventDef) -> Place {
    inputs.locate("contracts/src/", &format!("\"{}\"", def.name))
}

fn broken_schemas(inputs: &Inputs) -> Vec<Finding> {
    let mut found = Vec::new();
    let published: BTreeMap<&str, &EventDef> =
        inputs.manifests.iter().flat_map(|m| &m.publishes).map(|d| (d.name, d)).collect();
    for def in published.values() {
        let path = schema::path(def.name, def.version);
        let say = |what: String| {
            Finding::at(declared(inputs, def), format!("{} v{}: {what}", def.name, def.version)).about(&*path)
        };
        let Some(text) = inputs.text(&path) else {
            found.push(say(format!("{path} is missing; `foodexpress check --bless` writes it")));
            continue;
        };
        match serde_json::from_str::<Value>(text) {
            Ok(blessed) => found.extend(
                schema::breaks(&blessed, &schema::of(def))
                    .into_iter()
                    .map(|what| say(format!("{what}; publish v{}", def.version + 1))),
            ),
            Err(error) => found.push(Finding::new(&*path, error.line(), format!("not JSON: {error}"))),
        }
    }
    for file in inputs.files.iter().filter(|f| f.path.starts_with(schema::FOLDER)) {
        let name = file.path.trim_start_matches(schema::FOLDER).trim_start_matches('/').trim_end_matches(".json");
        let known = name
            .rsplit_once(".v")
            .and_then(|(name, version)| Some((published.get(name)?, version.parse::<u32>().ok()?)));
        if known.is_none_or(|(def, version)| version > def.version) {
            found.push(Finding::new(
                &*file.path,
                1,
                format!("nobody publishes {name}; those who hear it wait in vain"),
            ));
        }
    }
    found
}

fn flows(inputs: &Inputs) -> Vec<Finding> {
    let mut found = Vec::new();
    for hearer in &inputs.manifests {
        for def in &hearer.hears {
            let publishers: Vec<&str> = inputs
                .manifests
                .iter()
                .filter(|m| m.publishes.iter().any(|p| p.name == def.name))
                .map(|m| m.name)
                .collect();
            if publishers != [def.publisher] {
                let place = inputs.in_service(hearer.name, def.name);
                let what = format!(
                    "{} hears {}, which {} should publish; published by: {}",
                    hearer.name,
                    def.name,
                    def.publisher,
                    publishers.join(", ")
                );
                found.push(Finding::at(place, what).about(def.name));
            }
        }
    }
    for publisher in &inputs.manifests {
        for def in &publisher.publishes {
            let heard = inputs.manifests.iter().any(|m| m.hears.iter().any(|h| h.name == def.name));
            if !heard {
                let what = format!(
                    "nobody hears {} of {}; if it is for the outside, say so in the list of exceptions",
                    def.name, publisher.name
                );
                found.push(Finding::at(declared(inputs, def), what).about(def.name));
            }
            if publisher.publishes.iter().filter(|p| p.name == def.name).count() > 1 || def.publisher != publisher.name
            {
                found.push(
                    Finding::at(
                        declared(inputs, def),
                        format!("{} is claimed twice or by another than {}", def.name, def.publisher),
                    )
                    .about(def.name),
                );
            }
        }
    }
    found
}
