//! Blessed event schemas: how they are made, where they lie, and which changes to them break those who hear the event.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use kernel::events::EventDef;
use kernel::manifest::Manifest;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

/// Where blessed schemas lie.
pub(super) const FOLDER: &str = "contracts/schemas";

/// The path of an event's schema of one version.
pub(super) fn path(name: &str, version: u32) -> String {
    format!("{FOLDER}/{name}.v{version}.json")
}

/// The schema of an event's payload, on its own.
pub(super) fn of(def: &EventDef) -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = (def.schema)(&mut generator).to_value();
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!(format!("{} v{}", def.name, def.version));
    schema["$defs"] = Value::Object(generator.take_definitions(true));
    schema
}

/// Writes the schema of every published event that has none yet, and gives their paths. What is there stays as it is.
///
/// # Errors
/// A folder that cannot be written.
pub(crate) fn bless(root: &Path, manifests: &[Manifest]) -> Result<Vec<String>> {
    let mut written = Vec::new();
    fs::create_dir_all(root.join(FOLDER)).context(FOLDER)?;
    for def in manifests.iter().flat_map(|m| &m.publishes) {
        let path = path(def.name, def.version);
        if !root.join(&path).exists() {
            let text = serde_json::to_string_pretty(&of(def)).context("a schema becomes text")? + "\n";
            fs::write(root.join(&path), text).with_context(|| path.clone())?;
            written.push(path);
        }
    }
    Ok(written)
}

/// What a change from one schema to another breaks for those built with either: the log holds events of both.
pub(super) fn breaks(old: &Value, new: &Value) -> Vec<String> {
    let mut comparing = Comparing { old, new, seen: BTreeSet::new(), found: Vec::new() };
    comparing.compare(old, new, "");
    comparing.found
}

struct Comparing<'a> {
    old: &'a Value,
    new: &'a Value,
    /// Pairs of definitions already compared: types may contain themselves.
    seen: BTreeSet<(String, String)>,
    found: Vec<String>,
}

/// Keywords that make another type of a value when they change.
const PART_OF_TYPE: &[&str] = &["type", "format", "const"];

impl<'a> Comparing<'a> {
    fn compare(&mut self, old: &'a Value, new: &'a Value, at: &str) {
        let names = |schema: &Value| schema["$ref"].as_str().unwrap_or_default().to_owned();
        let pair = (names(old), names(new));
        if pair != Default::default() && !self.seen.insert(pair) {
            return;
        }
        let (old, new) = (resolved(self.old, old), resolved(self.new, new));
        for keyword in PART_OF_TYPE {
            if sorted(&old[*keyword]) != sorted(&new[*keyword]) {
                self.say(at, &format!("{keyword} changed from {} to {}", old[*keyword], new[*keyword]));
            }
        }
        if choices(old) != choices(new) {
            self.say(at, "the set of values changed");
        }
        self.compare_fields(old, new, at);
        for keyword in ["items", "additionalProperties"] {
            if old[keyword].is_object() || new[keyword].is_object() {
                self.compare(&old[keyword], &new[keyword], &format!("{at}/*"));
            }
        }
        for keyword in ["anyOf", "oneOf", "allOf"] {
            let (before, after) = (list(&old[keyword]), list(&new[keyword]));
            if choices(old).is_empty() && before.len() != after.len() {
                self.say(at, &format!("{keyword} has another number of cases"));
            }
            before.iter().zip(after).for_each(|(before, after)| {
                if before["const"].is_null() {
                    self.compare(before, after, at);
                }
            });
        }
    }

    fn compare_fields(&mut self, old: &'a Value, new: &'a Value, at: &str) {
        let (Some(before), after) = (old["properties"].as_object(), &new["properties"]) else {
            let appeared = names(&new["required"]);
            appeared.iter().for_each(|name| self.say(&format!("{at}/{name}"), "new required field"));
            return;
        };
        let (required_before, required_after) = (names(&old["required"]), names(&new["required"]));
        for (name, schema) in before {
            let at = format!("{at}/{name}");
            match after.get(name) {
                None => self.say(&at, "field removed or renamed"),
                Some(after) => self.compare(schema, after, &at),
            }
            if required_before.contains(name) && after.get(name).is_some() && !required_after.contains(name) {
                self.say(&at, "no longer always there");
            }
        }
        for name in required_after.difference(&required_before) {
            self.say(&format!("{at}/{name}"), "new required field");
        }
    }

    fn say(&mut self, at: &str, what: &str) {
        self.found.push(format!("{}: {what}", if at.is_empty() { "/" } else { at }));
    }
}

fn resolved<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let target = schema["$ref"].as_str().and_then(|r| r.strip_prefix("#"));
    target.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn names(required: &Value) -> BTreeSet<String> {
    list(required).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A list regardless of its order.
fn sorted(value: &Value) -> Vec<String> {
    let mut all: Vec<String> =
        value.as_array().map_or_else(|| vec![value.to_string()], |l| l.iter().map(Value::to_string).collect());
    all.sort();
    all
}

/// The fixed values of an enumeration, whether or not each has a description of its own.
fn choices(schema: &Value) -> BTreeSet<String> {
    let constants = list(&schema["oneOf"]).iter().map(|case| &case["const"]).filter(|c| !c.is_null());
    let nested = list(&schema["oneOf"]).iter().flat_map(|case| list(&case["enum"]));
    list(&schema["enum"]).iter().chain(nested).chain(constants).map(Value::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base() -> Value {
        json!({
            "$ref": "#/$defs/S",
            "$defs": {
                "S": {"type": "object", "required": ["a", "e"], "properties": {
                    "a": {"type": "string", "format": "uuid"}, "b": {"type": ["string", "null"]},
                    "c": {"type": "array", "items": {"$ref": "#/$defs/S"}}, "e": {"$ref": "#/$defs/E"}}},
                "E": {"oneOf": [{"const": "X", "description": "x"}, {"const": "Y"}]},
            },
        })
    }

    fn changed(pointer: &str, value: Value) -> Vec<String> {
        let mut new = base();
        *new.pointer_mut(pointer).unwrap() = value;
        breaks(&base(), &new)
    }

    #[test]
    fn what_does_not_break_is_let_through() {
        assert_eq!(breaks(&base(), &base()), Vec::<String>::new());
        let mut new = base();
        new["$defs"]["S"]["properties"]["d"] = json!({"type": "integer"});
        new["$defs"]["E"]["oneOf"][0]["description"] = json!("another word for it");
        assert_eq!(breaks(&base(), &new), Vec::<String>::new());
    }

    #[test]
    fn what_breaks_is_named_with_its_place() {
        assert_eq!(changed("/$defs/S/properties/a/format", json!("date-time")).len(), 1);
        assert_eq!(
            changed("/$defs/S/properties/b/type", json!("string")),
            ["/b: type changed from [\"string\",\"null\"] to \"string\""]
        );
        assert_eq!(changed("/$defs/S/required", json!(["e"])), ["/a: no longer always there"]);
        assert_eq!(changed("/$defs/S/required", json!(["a", "b", "e"])), ["/b: new required field"]);
        assert_eq!(changed("/$defs/E/oneOf", json!([{"const": "X"}])), ["/e: the set of values changed"]);
        let mut new = base();
        new["$defs"]["S"]["properties"].as_object_mut().unwrap().remove("b");
        assert_eq!(breaks(&base(), &new), ["/b: field removed or renamed"]);
    }
}
