//! Settings in layers: defaults < file < environment < flags. An unknown or unreadable one is refused by name.

use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Where settings come from. Later layers win.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// A TOML file with a table per service; it need not exist.
    pub file: Option<PathBuf>,
    /// Environment variables as `NAME=value`, already narrowed to the product's prefix, which is cut off: `ORDERS__PAY_WITHIN_S`.
    pub environment: Vec<(String, String)>,
    /// `service.setting=value` given on the command line.
    pub flags: Vec<(String, String)>,
}

/// A setting that cannot be used; names where it stands and what would be right.
#[derive(Debug, Clone, thiserror::Error)]
#[error("setting {setting} from {place}: {why}")]
pub struct ConfigError {
    setting: String,
    place: String,
    why: String,
}

impl Sources {
    /// Takes the variables of this process that begin with `prefix` and an underscore.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn with_environment(mut self, prefix: &str) -> Self {
        let cut = format!("{prefix}_");
        let ours = std::env::vars().filter_map(|(name, value)| Some((name.strip_prefix(&cut)?.to_owned(), value)));
        self.environment = ours.collect();
        self
    }

    /// The layers that say something about `service`, lowest first, each with its name for messages.
    fn layers(&self, service: &str) -> Result<Vec<(String, Map<String, Value>)>, ConfigError> {
        let mut layers = Vec::new();
        if let Some(path) = &self.file {
            layers.push((path.display().to_string(), file_table(path, service)?));
        }
        let prefix = format!("{}__", service.to_uppercase().replace('-', "_"));
        let variables = self.environment.iter().filter_map(|(name, value)| {
            name.strip_prefix(&prefix).map(|setting| (setting.to_lowercase(), guess(value)))
        });
        layers.push(("the environment".into(), variables.collect()));
        let dotted = format!("{service}.");
        let flags = self.flags.iter().filter_map(|(name, value)| Some((name.strip_prefix(&dotted)?.to_owned(), guess(value))));
        layers.push(("the command line".into(), flags.collect()));
        Ok(layers)
    }
}

fn file_table(path: &PathBuf, service: &str) -> Result<Map<String, Value>, ConfigError> {
    let fail = |why: String| ConfigError { setting: service.to_owned(), place: path.display().to_string(), why };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) => return Err(fail(error.to_string())),
    };
    let whole: Value = toml::from_str(&text).map_err(|e| fail(e.to_string()))?;
    match whole.get(service) {
        None => Ok(Map::new()),
        Some(Value::Object(table)) => Ok(table.clone()),
        Some(_) => Err(fail(format!("[{service}] must be a table"))),
    }
}

/// A value written as text: JSON where it reads as such, else the text itself.
fn guess(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// The settings of a service.
///
/// # Errors
/// A setting that `T` does not have, or whose value does not read as its type.
pub fn load<T: Serialize + DeserializeOwned + Default>(service: &str, sources: &Sources) -> Result<T, ConfigError> {
    let mut merged = as_object(&T::default());
    for (place, layer) in sources.layers(service)? {
        for (name, value) in layer {
            let fail = |why: String| ConfigError { setting: format!("{service}.{name}"), place: place.clone(), why };
            if !merged.contains_key(&name) {
                let known: Vec<&str> = merged.keys().map(String::as_str).collect();
                return Err(fail(format!("there is no such setting; there are: {}", known.join(", "))));
            }
            merged.insert(name.clone(), value.clone());
            // Checked one by one, so that the message names the one that is wrong.
            if let Err(error) = serde_json::from_value::<T>(Value::Object(merged.clone())) {
                return Err(fail(format!("{value} does not fit: {error}")));
            }
        }
    }
    let fail = |e: serde_json::Error| ConfigError { setting: service.to_owned(), place: "the defaults".into(), why: e.to_string() };
    serde_json::from_value(Value::Object(merged)).map_err(fail)
}

fn as_object<T: Serialize>(value: &T) -> Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(object)) => object,
        _ => Map::new(),
    }
}

/// The schema and the defaults of a settings type, for the documents.
pub fn describe<T: Serialize + JsonSchema + Default>() -> (Schema, Value) {
    (SchemaGenerator::default().into_root_schema_for::<T>(), Value::Object(as_object(&T::default())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize, serde::Deserialize, JsonSchema, Debug, PartialEq)]
    #[serde(default, deny_unknown_fields)]
    struct Oven {
        /// How hot.
        degrees: u64,
        name: Option<String>,
    }
    impl Default for Oven {
        fn default() -> Self {
            Self { degrees: 200, name: None }
        }
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn later_layers_win() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("settings.toml");
        std::fs::write(&file, "[oven]\ndegrees = 180\nname = \"old\"\n").unwrap();
        let sources = Sources {
            file: Some(file),
            environment: vec![pair("OVEN__DEGREES", "220"), pair("STOVE__DEGREES", "1")],
            flags: vec![pair("oven.name", "new")],
        };
        assert_eq!(load::<Oven>("oven", &sources).unwrap(), Oven { degrees: 220, name: Some("new".into()) });
    }

    #[test]
    fn unknown_and_unreadable_settings_are_named_with_the_remedy() {
        let unknown = Sources { flags: vec![pair("oven.colour", "red")], ..Sources::default() };
        let said = load::<Oven>("oven", &unknown).unwrap_err().to_string();
        assert!(said.contains("oven.colour") && said.contains("degrees, name"), "{said}");
        let wrong = Sources { environment: vec![pair("OVEN__DEGREES", "hot")], ..Sources::default() };
        let said = load::<Oven>("oven", &wrong).unwrap_err().to_string();
        assert!(said.contains("oven.degrees") && said.contains("the environment"), "{said}");
    }
}
