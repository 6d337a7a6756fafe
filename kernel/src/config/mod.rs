//! Settings in layers, the last one wins, and they may change while the city runs.
//!
//! The layers: defaults of the program, what the city works out, files, a configuration server, the environment, and what
//! the command line says.
//!
//! Layers are merged here and not by a library, because its merged tree no longer knows where a value came from:
//! a refusal must name the file or variable to change, and the keys that would have been right.
//!
//! A settings type says more about a field with `#[schemars(extend(…))]`: `"x-restart" = true` if it is read only at start,
//! `"x-secret" = true` if its value must not be shown, `"x-longer-than" = "payments.retry_window_s"` if it has to exceed
//! another setting, units included.

mod effective;
mod history;
mod known;
mod live;
mod recipe;
mod remote;
mod sources;
mod table;
mod watch;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use thiserror::Error;

pub use effective::{Change, Effective, Held, changes};
pub use history::{History, Running, Version};
pub use known::Note;
pub use live::{Configuration, Live, Standing};
pub use recipe::{ConfigSettings, Recipe, TOKEN_SECRET};
pub use remote::Remote;
pub use sources::{CITY, COMMAND_LINE, Sources};
pub use table::{Table, Tables};
pub use watch::{Watch, read_once};

/// What a service's settings type must be; its field comments and defaults feed the documents.
pub trait Settings: Serialize + DeserializeOwned + JsonSchema + Default + Send + Sync + 'static {
    /// Refuses values that each read, but cannot work, with a sentence that names the setting.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

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
    /// The values do not go together.
    #[error("{why}")]
    Together {
        /// The settings, their values, where they stand, and what is wrong with that.
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

/// The settings of one service.
///
/// # Errors
/// An unknown key or a value of the wrong type, with the place it stands in.
pub fn load<S: Settings>(service: &str, sources: &Sources) -> Result<S, ConfigError> {
    let table = Table::of::<S>();
    let merged = table.merged(service, sources)?;
    let loaded = serde_json::from_value::<S>(merged.value).map_err(|error| together(error.to_string()))?;
    loaded.check().map_err(together)?;
    Ok(loaded)
}

fn together(why: impl Into<String>) -> ConfigError {
    ConfigError::Together { why: why.into() }
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
