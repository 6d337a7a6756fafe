//! How the layers of one city are put together, again and again: its own defaults, files, Consul, variables, flags.

use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigError, Settings, Sources, load};

/// The name of the table that says where further settings are.
pub(super) const TABLE: &str = "config";
/// Tables that are needed before anything else can be read.
const LOCAL: [&str; 2] = [TABLE, "secrets"];
/// The secret that opens a Consul with access control.
pub const TOKEN_SECRET: &str = "config-token";

/// Where further settings are, and how they are watched. It is read from file, variables and flags alone.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConfigSettings {
    /// The environment, such as `staging`: adds a file beside the settings file with this word before `.toml`, and in Consul the key `staging.toml`.
    #[schemars(extend("x-restart" = true))]
    pub environment: Option<String>,
    /// Address of Consul's agent, such as `http://127.0.0.1:8500`; without it there is no remote layer. Plain HTTP only.
    #[schemars(extend("x-restart" = true))]
    pub consul_url: Option<String>,
    /// The folder of Consul's key-value store with our keys: one called like the settings file, and `ENVIRONMENT.toml`.
    #[schemars(extend("x-restart" = true))]
    pub consul_prefix: String,
    /// Milliseconds between two looks at the files; a change counts once two looks agree. At least 50.
    #[schemars(extend("x-restart" = true))]
    pub look_every_ms: u64,
    /// How many versions are kept.
    #[schemars(extend("x-restart" = true))]
    pub keep_versions: usize,
}

impl Default for ConfigSettings {
    fn default() -> Self {
        Self {
            environment: None,
            consul_url: None,
            consul_prefix: "city".to_owned(),
            look_every_ms: 500,
            keep_versions: 50,
        }
    }
}

impl ConfigSettings {
    /// Between two looks at the files.
    pub(super) fn look_every(&self) -> Duration {
        Duration::from_millis(self.look_every_ms)
    }
}

impl Settings for ConfigSettings {
    fn check(&self) -> Result<(), String> {
        let plain = |name: &String| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if self.environment.as_ref().is_some_and(|name| !plain(name)) {
            return Err("config.environment is a word of letters, digits and hyphens".to_owned());
        }
        if self.consul_url.as_ref().is_some_and(|url| !url.starts_with("http://")) {
            return Err("config.consul_url must begin with http://; TLS is for the agent beside us to speak".to_owned());
        }
        if self.look_every_ms < 50 || self.keep_versions == 0 {
            return Err("config.look_every_ms must be at least 50 and config.keep_versions at least 1".to_owned());
        }
        Ok(())
    }
}

/// The text of one layer and where it stands.
pub(super) type Layer = (String, String);

/// Everything that the layers are made of, but for what Consul holds.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Prefix of variables, such as `FX`.
    pub prefix: String,
    /// Defaults that the city works out by itself.
    pub city: Vec<(String, String)>,
    /// The settings file, which need not exist; that of an environment stands beside it.
    pub file: PathBuf,
    /// Variables as they were when the process started.
    pub environment: Vec<(String, String)>,
    /// Single settings of the command line.
    pub flags: Vec<(String, String)>,
}

impl Recipe {
    /// The variables of this process, as far as they are text.
    pub fn process_environment() -> Vec<(String, String)> {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        std::env::vars_os().filter_map(text).collect()
    }

    /// Where further settings are.
    ///
    /// # Errors
    /// A file or value that does not read.
    pub fn config(&self) -> Result<ConfigSettings, ConfigError> {
        // Which further file there is stands in the first one.
        let first = read(&self.file)?.map(|text| (named(&self.file), text));
        load(TABLE, &self.put_together(first.as_slice(), &[])?)
    }

    /// The texts of the files as they are now; a file that is not there has none.
    pub(super) fn files(&self, environment: Option<&str>) -> Result<Vec<Layer>, ConfigError> {
        let beside = environment.map(|name| self.file.with_extension(format!("{name}.toml")));
        let mut layers = Vec::new();
        for path in std::iter::once(self.file.clone()).chain(beside) {
            layers.extend(read(&path)?.map(|text| (named(&path), text)));
        }
        Ok(layers)
    }

    /// What the settings file is called, in Consul too.
    pub(super) fn common(&self) -> String {
        named(&self.file)
    }

    /// All layers in their order.
    pub(super) fn put_together(&self, files: &[Layer], remote: &[Layer]) -> Result<Sources, ConfigError> {
        let sources = Sources::new(self.prefix.as_str());
        let mut sources = self.city.iter().fold(sources, |all, (key, value)| all.city(key, value));
        for (origin, text) in files {
            sources = sources.text(origin, text)?;
        }
        for (origin, text) in remote {
            sources = sources.text(origin, text)?;
            if let Some(table) = LOCAL.iter().find(|table| sources.speaks_of(origin, table)) {
                let why = format!("[{table}] is read before Consul can be asked; put it into the file or a variable");
                return Err(ConfigError::File { origin: origin.clone(), why });
            }
        }
        let sources = sources.environment(self.environment.iter().cloned());
        Ok(self.flags.iter().fold(sources, |all, (key, value)| all.set(key, value)))
    }
}

fn named(path: &Path) -> String {
    path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

fn read(path: &Path) -> Result<Option<String>, ConfigError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ConfigError::File { origin: path.display().to_string(), why: error.to_string() }),
    }
}
