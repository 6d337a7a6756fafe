//! Settings in layers: defaults of the program, files, the environment, and what the command line says. The last one wins.
//!
//! Layers are merged here and not by a library, because its merged tree no longer knows where a value came from:
//! a refusal must name the file or variable to change, and the keys that would have been right.

mod known;

use std::path::Path;

use schemars::{JsonSchema, Schema, schema_for};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use thiserror::Error;

use known::{Known, Place};

/// What a service's settings type must be; its field comments and defaults feed the documents.
pub trait Settings: Serialize + DeserializeOwned + JsonSchema + Default {}
impl<S: Serialize + DeserializeOwned + JsonSchema + Default> Settings for S {}

/// A setting that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// Nothing by this name can be set.
    #[error("unknown key {key} in {origin}; known here: {}", known.join(", "))]
    Unknown {
        /// The key.
        key: String,
        /// The file or variable it stands in.
        origin: String,
        /// The keys that stand there rightly.
        known: Vec<String>,
    },
    /// The value is not of the key's type or range.
    #[error("{key} in {origin}: {why}")]
    Wrong {
        /// The key.
        key: String,
        /// The file or variable it stands in.
        origin: String,
        /// What was found and what was expected.
        why: String,
    },
    /// A file that cannot be read, or is not TOML.
    #[error("{origin}: {why}")]
    File {
        /// The file.
        origin: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Where settings come from, weakest first: files in the order they were added, the environment, single settings.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    prefix: String,
    files: Vec<(String, Map<String, Value>)>,
    environment: Vec<(String, String)>,
    single: Vec<(String, String)>,
}

impl Sources {
    /// Nothing but defaults so far. Variables are called `PREFIX_SERVICE__KEY`, with `__` between nested keys.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), ..Self::default() }
    }

    /// Adds a TOML file with a table for each service.
    pub fn file(self, path: &Path) -> Result<Self, ConfigError> {
        let origin = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => self.text(origin, &text),
            Err(error) => Err(ConfigError::File { origin, why: error.to_string() }),
        }
    }

    /// Adds TOML text from anywhere, such as a configuration server.
    pub fn text(mut self, origin: impl Into<String>, toml: &str) -> Result<Self, ConfigError> {
        let origin = origin.into();
        let read = toml::from_str::<Map<String, Value>>(toml);
        let table = read.map_err(|e| ConfigError::File { origin: origin.clone(), why: e.to_string() })?;
        self.files.push((origin, table));
        Ok(self)
    }

    /// Adds variables; those without the prefix are somebody else's.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let start = format!("{}_", self.prefix);
        self.environment.extend(variables.into_iter().filter(|(name, _)| name.starts_with(&start)));
        // The order of a process's variables is chance; an error should not be.
        self.environment.sort();
        self
    }

    /// Adds the variables of this process.
    #[must_use]
    pub fn process_environment(self) -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        self.environment(std::env::vars_os().filter_map(text))
    }

    /// Adds one setting, such as `orders.accept_within_s` from the command line.
    #[must_use]
    pub fn set(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.single.push((key.into(), value.into()));
        self
    }

    /// Refuses settings for services that do not exist; [`load`] sees only those of its own service.
    pub fn refuse_strangers(&self, services: &[&str]) -> Result<(), ConfigError> {
        let unknown = |key: &str, origin: &str| ConfigError::Unknown {
            key: key.to_owned(),
            origin: origin.to_owned(),
            known: services.iter().map(|s| (*s).to_owned()).collect(),
        };
        for (origin, table) in &self.files {
            if let Some(key) = table.keys().find(|key| !services.contains(&key.as_str())) {
                return Err(unknown(key, origin));
            }
        }
        for (name, _) in self.environment.iter().filter(|(name, _)| name.contains("__")) {
            if !services.iter().any(|service| name.starts_with(&self.variable_start(service))) {
                return Err(unknown(name, "the environment"));
            }
        }
        match self.single.iter().find(|(key, _)| !services.contains(&key.split('.').next().unwrap_or(key))) {
            Some((key, _)) => Err(unknown(key, COMMAND_LINE)),
            None => Ok(()),
        }
    }

    fn variable_start(&self, service: &str) -> String {
        format!("{}_{}__", self.prefix, service.to_uppercase().replace('-', "_"))
    }

    /// Every value that is set for a service, weakest first.
    fn values(&self, service: &str, known: &Known) -> Result<Vec<Setting>, ConfigError> {
        let mut all = Vec::new();
        for (origin, table) in &self.files {
            if let Some(value) = table.get(service) {
                known
                    .spread(&mut vec![], value, &mut |path, value| {
                        all.push(Setting { path, value, origin: origin.clone() });
                    })
                    .map_err(|place| place.refusal(service, origin))?;
            }
        }
        let start = self.variable_start(service);
        let variables = self.environment.iter().filter_map(|(name, text)| {
            let path = name.strip_prefix(&start)?.split("__").map(str::to_lowercase).collect();
            Some((path, text, name.as_str()))
        });
        let single = self.single.iter().filter_map(|(key, text)| {
            let path = key.strip_prefix(service)?.strip_prefix('.')?.split('.').map(str::to_owned).collect();
            Some((path, text, COMMAND_LINE))
        });
        for (path, text, origin) in variables.chain(single) {
            let (path, value) = known.read(path, text).map_err(|place| place.refusal(service, origin))?;
            all.push(Setting { path, value, origin: origin.to_owned() });
        }
        Ok(all)
    }
}

const COMMAND_LINE: &str = "the command line";

struct Setting {
    path: Vec<String>,
    value: Value,
    origin: String,
}

impl Place {
    fn refusal(self, service: &str, origin: &str) -> ConfigError {
        let key = std::iter::once(service.to_owned()).chain(self.path).collect::<Vec<_>>().join(".");
        let origin = origin.to_owned();
        if self.known.is_empty() {
            return ConfigError::Wrong { key, origin, why: "a table was expected".to_owned() };
        }
        ConfigError::Unknown { key, origin, known: self.known }
    }
}

/// The settings of one service.
///
/// # Errors
/// An unknown key or a value of the wrong type, with the place it stands in.
pub fn load<S: Settings>(service: &str, sources: &Sources) -> Result<S, ConfigError> {
    let (schema, defaults) = describe::<S>();
    let settings = sources.values(service, &Known::new(schema))?;
    let mut merged = defaults.clone();
    settings.iter().for_each(|setting| put(&mut merged, &setting.path, &setting.value));
    let failure = match serde_json::from_value(merged) {
        Ok(loaded) => return Ok(loaded),
        Err(error) => error,
    };
    // Which value was it? The first one after which the settings no longer read.
    let mut so_far = defaults;
    for setting in settings {
        put(&mut so_far, &setting.path, &setting.value);
        if let Err(error) = serde_json::from_value::<S>(so_far.clone()) {
            let key = format!("{service}.{}", setting.path.join("."));
            return Err(ConfigError::Wrong { key, origin: setting.origin, why: error.to_string() });
        }
    }
    Err(ConfigError::Wrong { key: service.to_owned(), origin: "the defaults".to_owned(), why: failure.to_string() })
}

/// The schema of a settings type, with its field comments, and its defaults.
pub fn describe<S: Settings>() -> (Schema, Value) {
    let defaults = serde_json::to_value(S::default()).expect("settings are plain data, which always becomes JSON");
    (schema_for!(S), defaults)
}

fn put(tree: &mut Value, path: &[String], value: &Value) {
    let Some((first, rest)) = path.split_first() else {
        value.clone_into(tree);
        return;
    };
    if !tree.is_object() {
        *tree = Value::Object(Map::new());
    }
    put(&mut tree[first.as_str()], rest, value);
}

#[cfg(test)]
mod tests;
