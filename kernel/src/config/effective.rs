//! All settings as they are in force, each with the layer it came from, fit to be shown; and what differs between two.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::known::Note;
use super::{ConfigError, Sources, Tables, put, together};

/// What stands in place of a value that must not be shown.
const MASK: &str = "•••";

/// A value and where it came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Held {
    /// The value; masked where it must not be shown.
    pub value: Value,
    /// The file, variable or place that says so; `default` if nothing does.
    pub origin: String,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The setting, such as `orders.accept_within_s`.
    pub key: String,
    /// What it was.
    pub from: Value,
    /// What it is.
    pub to: Value,
    /// Where the new value came from.
    pub origin: String,
}

/// Every setting of a city.
#[derive(Clone, Debug, Default)]
pub struct Effective {
    /// The values as they are, by setting.
    values: BTreeMap<String, Held>,
    /// Whole tables, to make settings of.
    tables: BTreeMap<String, Value>,
    notes: BTreeMap<String, Note>,
}

impl Effective {
    /// What these sources say.
    ///
    /// # Errors
    /// An unknown table or key, a value that does not read, values that do not work together.
    pub fn of(tables: &Tables, sources: &Sources) -> Result<Self, ConfigError> {
        let names: Vec<&str> = tables.keys().map(String::as_str).collect();
        sources.refuse_strangers(&names)?;
        Self::part(tables, sources)
    }

    /// What they say of these tables, whatever else they speak of.
    pub(super) fn part(tables: &Tables, sources: &Sources) -> Result<Self, ConfigError> {
        let mut effective = Self::default();
        for (name, table) in tables {
            let merged = table.merged(name, sources)?;
            table.check(&merged.value)?;
            // A free map stays one setting, whoever set a key in it.
            let mut leaves = Vec::new();
            drop(table.known().spread(&mut Vec::new(), &merged.value, &mut |path, value| leaves.push((path, value))));
            for (path, value) in leaves {
                let set = merged.set.iter().rev().find(|s| s.path.starts_with(&path) || path.starts_with(&s.path));
                let origin = set.map_or("default", |setting| &setting.origin).to_owned();
                effective.values.insert(format!("{name}.{}", path.join(".")), Held { value, origin });
            }
            let notes = table.known().notes(&merged.value);
            effective.notes.extend(notes.into_iter().map(|(path, note)| (format!("{name}.{path}"), note)));
            effective.tables.insert(name.clone(), merged.value);
        }
        effective.check_bounds()?;
        Ok(effective)
    }

    /// Whether each setting that has to exceed another does.
    pub(super) fn check_bounds(&self) -> Result<(), ConfigError> {
        for (key, note) in &self.notes {
            let Some(other) = &note.longer_than else { continue };
            let (Some(mine), Some(theirs)) = (self.values.get(key), self.values.get(other)) else { continue };
            if let (Some(longer), Some(shorter)) = (in_ms(key, &mine.value), in_ms(other, &theirs.value))
                && longer <= shorter
            {
                return Err(together(format!(
                    "{key} = {} ({}) must be longer than {other} = {} ({}); raise the first or lower the second",
                    mine.value, mine.origin, theirs.value, theirs.origin
                )));
            }
        }
        Ok(())
    }

    /// These settings, but those that are read only at start as they were in `running`; and the keys of the latter that
    /// differ.
    pub(super) fn held_back(mut self, running: &Self) -> (Self, Vec<String>) {
        let mut waiting = Vec::new();
        for (key, _) in self.notes.iter().filter(|(_, note)| note.restart) {
            let (Some(now), Some(next)) = (running.values.get(key), self.values.get_mut(key)) else { continue };
            if now.value == next.value {
                continue;
            }
            now.clone_into(next);
            let (table, path) = key.split_once('.').expect("every key begins with its table");
            let path: Vec<String> = path.split('.').map(str::to_owned).collect();
            if let Some(tree) = self.tables.get_mut(table) {
                put(tree, &path, &now.value);
            }
            waiting.push(key.clone());
        }
        (self, waiting)
    }

    /// One whole table.
    pub(super) fn table(&self, name: &str) -> Option<&Value> {
        self.tables.get(name)
    }

    /// All values, fit to be shown.
    pub fn shown(&self) -> BTreeMap<String, Held> {
        let show = |(key, held): (&String, &Held)| {
            let secret = self.notes.get(key).is_some_and(|note| note.secret);
            (key.clone(), Held { value: masked(&held.value, secret), origin: held.origin.clone() })
        };
        self.values.iter().map(show).collect()
    }

    /// What the declaration says of a setting.
    pub fn note(&self, key: &str) -> Note {
        self.notes.get(key).cloned().unwrap_or_default()
    }
}

/// What differs between two sets of shown values.
pub fn changes(from: &BTreeMap<String, Held>, to: &BTreeMap<String, Held>) -> Vec<Change> {
    let mut keys: Vec<&String> = from.keys().chain(to.keys()).collect();
    keys.sort();
    keys.dedup();
    let value = |of: &BTreeMap<String, Held>, key: &String| of.get(key).map_or(Value::Null, |held| held.value.clone());
    let change = |key: &String| Change {
        key: key.clone(),
        from: value(from, key),
        to: value(to, key),
        origin: to.get(key).map_or_else(|| "gone".to_owned(), |held| held.origin.clone()),
    };
    keys.into_iter().map(change).filter(|change| change.from != change.to).collect()
}

/// A duration by the ending of its name.
fn in_ms(key: &str, value: &Value) -> Option<u128> {
    let number = u128::from(value.as_u64()?);
    let factor = match key.rsplit('_').next()? {
        "ms" => 1,
        "s" => 1_000,
        "minutes" => 60_000,
        "hours" => 3_600_000,
        "days" => 86_400_000,
        _ => return None,
    };
    Some(number * factor)
}

/// The value with what must not be shown hidden: all of a secret, and passwords in addresses.
fn masked(value: &Value, secret: bool) -> Value {
    match value {
        Value::Null => Value::Null,
        _ if secret => Value::from(MASK),
        Value::String(text) => Value::from(without_password(text)),
        Value::Array(all) => all.iter().map(|one| masked(one, false)).collect(),
        Value::Object(all) => all.iter().map(|(key, one)| (key.clone(), masked(one, false))).collect(),
        plain => plain.clone(),
    }
}

/// `scheme://user:password@host` and `password=…` without the password.
fn without_password(text: &str) -> String {
    let mut shown = text.to_owned();
    if let Some(start) = shown.find("://").map(|at| at + 3) {
        let end = shown[start..].find(['/', '?', '#']).map_or(shown.len(), |at| start + at);
        if let Some(at) = shown[start..end].rfind('@').map(|at| start + at)
            && let Some(colon) = shown[start..at].find(':').map(|colon| start + colon)
        {
            shown.replace_range(colon + 1..at, MASK);
        }
    }
    let lower = shown.to_lowercase();
    if let Some(start) = lower.find("password=").map(|at| at + "password=".len())
        && shown.is_char_boundary(start)
    {
        let end = shown[start..].find([' ', '&']).map_or(shown.len(), |at| start + at);
        shown.replace_range(start..end, MASK);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_do_not_show_in_addresses() {
        for (text, shown) in [
            ("postgres://orders:s3cret@db:5432/orders", "postgres://orders:•••@db:5432/orders"),
            ("redis://:p@ss@cache", "redis://:•••@cache"),
            ("host=db password=s3cret user=x", "host=db password=••• user=x"),
            ("http://127.0.0.1:8500/a:b@c", "http://127.0.0.1:8500/a:b@c"),
            ("plain", "plain"),
        ] {
            assert_eq!(without_password(text), shown);
        }
    }
}
