//! What may be set, read off the schema of a settings type: which keys there are, and which of them take plain text.

use std::collections::BTreeMap;

use schemars::Schema;
use serde_json::Value;

/// The keys of a settings type.
pub(super) struct Known(Value);

/// What a declaration says of one setting beside its type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// It is read only at start.
    pub restart: bool,
    /// Its value must not be shown.
    pub secret: bool,
    /// The setting that it has to exceed, such as `payments.retry_window_s`.
    pub longer_than: Option<String>,
}

/// A key that is not one, and those that would be.
pub(super) struct Place {
    pub(super) path: Vec<String>,
    /// Empty if the place takes no keys at all, or is a table that got a plain value.
    pub(super) known: Vec<String>,
}

impl Known {
    pub(super) fn new(schema: Schema) -> Self {
        Self(schema.to_value())
    }

    /// Breaks a table into single settings, as deep as the settings type has fields; a free map stays whole.
    pub(super) fn spread(
        &self,
        path: &mut Vec<String>,
        value: &Value,
        found: &mut impl FnMut(Vec<String>, Value),
    ) -> Result<(), Place> {
        let schemas = self.at(path)?;
        match value {
            Value::Object(table) if !Self::fields(&schemas).is_empty() => {
                for (key, value) in table {
                    path.push(key.clone());
                    self.spread(path, value, found)?;
                    path.pop();
                }
                Ok(())
            }
            _ if path.is_empty() => Err(Place { path: path.clone(), known: vec![] }),
            _ => {
                found(path.clone(), value.clone());
                Ok(())
            }
        }
    }

    /// What is noted at each single setting of these values. A note at a table holds for all that is in it.
    pub(super) fn notes(&self, values: &Value) -> BTreeMap<String, Note> {
        let mut notes = BTreeMap::new();
        let mut places = Vec::new();
        // Our own values have no unknown keys.
        drop(self.spread(&mut Vec::new(), values, &mut |path, _| places.push(path)));
        for path in places {
            let mut note = Note::default();
            for depth in 1..=path.len() {
                for schema in self.properties(&path[..depth]) {
                    note.restart |= schema.get("x-restart") == Some(&Value::Bool(true));
                    note.secret |= schema.get("x-secret") == Some(&Value::Bool(true));
                    let longer = schema.get("x-longer-than").and_then(Value::as_str);
                    note.longer_than = longer.map(str::to_owned).or(note.longer_than);
                }
            }
            notes.insert(path.join("."), note);
        }
        notes
    }

    /// The schemas of a property as they stand at its parent, where notes are.
    fn properties(&self, path: &[String]) -> Vec<&Value> {
        let Some((last, parents)) = path.split_last() else { return Vec::new() };
        let parents = self.at(parents).unwrap_or_default();
        parents.into_iter().filter_map(|schema| property(schema, last)).collect()
    }

    /// The value that a text stands for at a path, and the path as the settings type spells it.
    pub(super) fn read(&self, path: Vec<String>, text: &str) -> Result<(Vec<String>, Value), Place> {
        let mut spelled: Vec<String> = Vec::with_capacity(path.len());
        for key in path {
            let fields = Self::fields(&self.at(&spelled)?);
            // Variables have no case of their own.
            let field = fields.into_iter().find(|field| field.eq_ignore_ascii_case(&key));
            spelled.push(field.unwrap_or(key));
        }
        let schemas = self.at(&spelled)?;
        let takes = |kind: &str| schemas.iter().any(|schema| has_type(schema, kind));
        let value = match text {
            "" if takes("null") => Value::Null,
            _ if takes("string") => Value::from(text),
            // Text that does not read goes on as text, so that the type's own refusal says what it wants.
            _ => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)),
        };
        Ok((spelled, value))
    }

    /// The schemas that may hold at a path; several for an enum or an option.
    fn at(&self, path: &[String]) -> Result<Vec<&Value>, Place> {
        let mut here = self.open(&self.0);
        for (depth, key) in path.iter().enumerate() {
            let next: Vec<&Value> = here.iter().filter_map(|schema| property(schema, key)).collect();
            if next.is_empty() {
                return Err(Place { path: path[..=depth].to_vec(), known: Self::fields(&here) });
            }
            here = next.into_iter().flat_map(|schema| self.open(schema)).collect();
        }
        Ok(here)
    }

    /// A schema with its references followed and its alternatives side by side.
    fn open<'a>(&'a self, schema: &'a Value) -> Vec<&'a Value> {
        let mut all = vec![schema];
        if let Some(name) = schema.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix('#')) {
            all.extend(self.0.pointer(name).into_iter().flat_map(|target| self.open(target)));
        }
        for word in ["anyOf", "oneOf", "allOf"] {
            let parts = schema.get(word).and_then(Value::as_array);
            all.extend(parts.into_iter().flatten().flat_map(|part| self.open(part)));
        }
        all
    }

    fn fields(schemas: &[&Value]) -> Vec<String> {
        let tables = schemas.iter().filter_map(|schema| schema.get("properties")?.as_object());
        let mut names: Vec<String> = tables.flat_map(|table| table.keys().cloned()).collect();
        names.sort();
        names.dedup();
        names
    }
}

fn property<'a>(schema: &'a Value, key: &str) -> Option<&'a Value> {
    let named = schema.get("properties").and_then(|fields| fields.get(key));
    // A schema of its own for further keys makes it a map; `false` or nothing makes it closed.
    named.or_else(|| schema.get("additionalProperties").filter(|rest| **rest != Value::Bool(false)))
}

fn has_type(schema: &Value, kind: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(only)) => only == kind,
        Some(Value::Array(several)) => several.iter().any(|one| one == kind),
        _ => false,
    }
}
