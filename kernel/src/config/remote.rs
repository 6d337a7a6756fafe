//! The layer that Consul's key-value store holds, and a copy of it for when Consul is away.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::ConfigError;
use super::recipe::{ConfigSettings, Layer};
use crate::consul::Agent;

/// How long a question for keys that do not change is left open.
const WAIT: Duration = Duration::from_secs(30);

/// Keys in Consul.
#[derive(Clone, Debug)]
pub struct Remote {
    agent: Agent,
    prefix: String,
    /// The keys that are layers, weakest first.
    keys: Vec<String>,
    copy: PathBuf,
}

impl Remote {
    /// The layers that these settings name, if they name any; `common` is the key that every environment reads. A copy of
    /// what is read stays at `copy`.
    pub fn of(settings: &ConfigSettings, common: &str, token: Option<String>, copy: &Path) -> Option<Self> {
        let url = settings.consul_url.as_deref()?;
        let prefix = settings.consul_prefix.trim_matches('/').to_owned();
        let of_environment = settings.environment.as_ref().map(|name| format!("{name}.toml"));
        let names = std::iter::once(common.to_owned()).chain(of_environment);
        let keys = names.map(|name| format!("{prefix}/{name}")).collect();
        Some(Self { agent: Agent::new(url, token), prefix, keys, copy: copy.to_owned() })
    }

    fn error(&self, why: impl std::fmt::Display) -> ConfigError {
        let origin = format!("Consul at {}", self.agent.url);
        ConfigError::File { origin, why: format!("{why}; check config.consul_url and the secret config-token") }
    }

    /// The layers as soon as the folder is not as of `index` any more, and its index then.
    pub(super) async fn layers(&self, index: u64) -> Result<(Vec<Layer>, u64), ConfigError> {
        let path = format!("kv/{}/?recurse=true", self.prefix);
        let wait = if index == 0 { Duration::from_millis(1) } else { WAIT };
        let answer = self.agent.blocking(&path, index, wait).await.map_err(|why| self.error(why))?;
        let pairs = answer.body.as_array().map(Vec::as_slice).unwrap_or_default();
        let mut layers = Vec::new();
        for key in &self.keys {
            if let Some(text) = pairs.iter().find(|pair| pair["Key"] == key.as_str()).map(text) {
                let text = text.ok_or_else(|| self.error(format!("{key} is no text")))?;
                layers.push((format!("consul {key}"), text));
            }
        }
        Ok((layers, answer.index))
    }

    /// The layers now; those of the copy if Consul cannot be asked.
    pub(super) async fn first(&self) -> Result<(Vec<Layer>, u64), ConfigError> {
        let error = match self.layers(0).await {
            Ok(read) => {
                self.keep_copy(&read.0);
                return Ok(read);
            }
            Err(error) => error,
        };
        let copy = std::fs::read(&self.copy).ok().and_then(|copy| serde_json::from_slice(&copy).ok());
        let layers: Vec<Layer> = copy.ok_or_else(|| error.clone())?;
        tracing::warn!(%error, "the settings that Consul held last are used");
        Ok((layers, 0))
    }

    /// Leaves a copy for a start without Consul; whoever reads it sees the old one or the new one.
    pub(super) fn keep_copy(&self, layers: &[Layer]) {
        let draft = self.copy.with_extension(format!("{}.draft", std::process::id()));
        let text = serde_json::to_vec(layers).expect("texts become JSON");
        let kept = std::fs::write(&draft, text).and_then(|()| std::fs::rename(&draft, &self.copy));
        if let Err(error) = kept {
            tracing::warn!(%error, "no copy of Consul's settings is kept; without Consul the next start fails");
        }
    }
}

fn text(pair: &Value) -> Option<String> {
    // An empty value is null here.
    let coded = pair["Value"].as_str().unwrap_or_default();
    String::from_utf8(STANDARD.decode(coded).ok()?).ok()
}
