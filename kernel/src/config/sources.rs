//! Where settings come from, layer over layer, and the refusal of what nobody knows.

use serde_json::{Map, Value};

use super::ConfigError;
use super::known::{Known, Place};

/// Where settings come from, weakest first.
///
/// What the city works out by itself, texts in the order they were added (files, then what a configuration server holds),
/// the environment, single settings of the command line.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    prefix: String,
    city: Vec<(String, String)>,
    files: Vec<(String, Map<String, Value>)>,
    environment: Vec<(String, String)>,
    single: Vec<(String, String)>,
}

impl Sources {
    /// Nothing but defaults so far. Variables are called `PREFIX_SERVICE__KEY`, with `__` between nested keys.
    pub fn new(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), ..Self::default() }
    }

    /// Adds a default that the city works out when it starts, such as an address; everything else overrides it.
    #[must_use]
    pub fn city(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.city.push((key.into(), value.into()));
        self
    }

    /// Adds TOML text, from a file or a configuration server, with a table for each service.
    pub fn text(mut self, origin: impl Into<String>, toml: &str) -> Result<Self, ConfigError> {
        let origin = origin.into();
        let read = toml::from_str::<Map<String, Value>>(toml);
        let table = read.map_err(|e| ConfigError::File { origin: origin.clone(), why: e.to_string() })?;
        self.files.push((origin, table));
        Ok(self)
    }

    /// Whether the text from `origin` has this table.
    pub(super) fn speaks_of(&self, origin: &str, table: &str) -> bool {
        self.files.iter().any(|(of, tables)| of == origin && tables.contains_key(table))
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
        match self
            .city
            .iter()
            .chain(&self.single)
            .find(|(key, _)| !services.contains(&key.split('.').next().unwrap_or(key)))
        {
            Some((key, _)) => Err(unknown(key, COMMAND_LINE)),
            None => Ok(()),
        }
    }

    fn variable_start(&self, service: &str) -> String {
        format!("{}_{}__", self.prefix, service.to_uppercase().replace('-', "_"))
    }

    /// Every value that is set for a service, weakest first.
    pub(super) fn values<'a>(&'a self, service: &str, known: &Known) -> Result<Vec<Setting>, ConfigError> {
        let mut all = Vec::new();
        let read = |(path, text, origin): (Vec<String>, &str, &str)| {
            let (path, value) = known.read(path, text).map_err(|place| place.refusal(service, origin))?;
            Ok(Setting { path, value, origin: origin.to_owned() })
        };
        let dotted = |(key, text): &'a (String, String)| -> Option<(Vec<String>, &'a str)> {
            let path = key.strip_prefix(service)?.strip_prefix('.')?.split('.').map(str::to_owned).collect();
            Some((path, text.as_str()))
        };
        for (path, text) in self.city.iter().filter_map(dotted) {
            all.push(read((path, text, CITY))?);
        }
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
            Some((path, text.as_str(), name.as_str()))
        });
        let single = self.single.iter().filter_map(dotted).map(|(path, text)| (path, text, COMMAND_LINE));
        for setting in variables.chain(single).map(read) {
            all.push(setting?);
        }
        Ok(all)
    }
}

/// The origin of what the city works out by itself.
pub const CITY: &str = "the city";
/// The origin of what the command line says.
pub const COMMAND_LINE: &str = "the command line";

/// One value, and where it stands.
pub(super) struct Setting {
    pub(super) path: Vec<String>,
    pub(super) value: Value,
    pub(super) origin: String,
}

impl Place {
    pub(super) fn refusal(self, service: &str, origin: &str) -> ConfigError {
        let key = std::iter::once(service.to_owned()).chain(self.path).collect::<Vec<_>>().join(".");
        let origin = origin.to_owned();
        if self.known.is_empty() {
            return ConfigError::Wrong { key, origin, why: "a table was expected".to_owned() };
        }
        ConfigError::Unknown { key, origin, known: self.known }
    }
}
