//! One table of settings with its type forgotten: what may stand in it, what it is without any, and whether it works.

use std::collections::BTreeMap;

use schemars::{Schema, schema_for};
use serde_json::Value;

use super::known::{Known, Note};
use super::sources::Setting;
use super::{ConfigError, Settings, Sources, put};

/// The tables of a city by name: services, and what else has settings.
pub type Tables = BTreeMap<String, Table>;

/// The declaration of one table.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its fields with their comments and notes.
    pub schema: Schema,
    /// Its values without any source.
    pub defaults: Value,
    reads: fn(&Value) -> Result<(), String>,
    works: fn(&Value) -> Result<(), String>,
}

/// Values of one table, and what was set by whom, weakest first.
pub(super) struct Merged {
    pub(super) value: Value,
    pub(super) set: Vec<Setting>,
}

impl Table {
    /// The table of a settings type.
    pub fn of<S: Settings>() -> Self {
        let defaults = serde_json::to_value(S::default()).expect("settings are plain data, which always becomes JSON");
        Self { schema: schema_for!(S), defaults, reads: reads::<S>, works: works::<S> }
    }

    /// The values of this table under `name`; each of them reads, but they may not work together.
    pub(super) fn merged(&self, name: &str, sources: &Sources) -> Result<Merged, ConfigError> {
        let set = sources.values(name, &self.known())?;
        let mut value = self.defaults.clone();
        set.iter().for_each(|setting| put(&mut value, &setting.path, &setting.value));
        let Err(why) = (self.reads)(&value) else { return Ok(Merged { value, set }) };
        // Which value was it? The first one after which the settings no longer read.
        let mut so_far = self.defaults.clone();
        for setting in set {
            put(&mut so_far, &setting.path, &setting.value);
            if let Err(why) = (self.reads)(&so_far) {
                let key = format!("{name}.{}", setting.path.join("."));
                return Err(ConfigError::Wrong { key, origin: setting.origin, why });
            }
        }
        Err(ConfigError::Wrong { key: name.to_owned(), origin: "the defaults".to_owned(), why })
    }

    /// Whether the values can work.
    pub(super) fn check(&self, value: &Value) -> Result<(), ConfigError> {
        (self.works)(value).map_err(|why| ConfigError::Together { why })
    }

    pub(super) fn known(&self) -> Known {
        Known::new(self.schema.clone())
    }

    /// What the declaration says of each single setting, by its path.
    pub fn notes(&self) -> BTreeMap<String, Note> {
        self.known().notes(&self.defaults)
    }
}

fn reads<S: Settings>(value: &Value) -> Result<(), String> {
    serde_json::from_value::<S>(value.clone()).map(drop).map_err(|error| error.to_string())
}

fn works<S: Settings>(value: &Value) -> Result<(), String> {
    serde_json::from_value::<S>(value.clone()).map_err(|error| error.to_string())?.check()
}
