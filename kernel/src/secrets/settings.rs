//! The table `[secrets]`, and the provider that it names.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::vault::{Entry, Vault};
use super::{Secrets, Variables};
use crate::config::Settings;

/// Who holds the secrets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProviderKind {
    /// Files in the data folder.
    #[default]
    File,
    /// Variables, or files that variables name.
    Env,
    /// A vault that speaks the HTTP interface of Vault, KV version 2.
    Vault,
}

/// Where secrets come from.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SecretSettings {
    /// Who holds them: `file`, `env` or `vault`.
    #[schemars(extend("x-restart" = true))]
    pub provider: ProviderKind,
    /// Milliseconds between two looks whether one changed; at least 50.
    #[schemars(extend("x-restart" = true))]
    pub look_every_ms: u64,
    /// Address of the vault, such as `http://127.0.0.1:8200`; plain HTTP only, so an agent stands beside us.
    #[schemars(extend("x-restart" = true))]
    pub vault_url: String,
    /// Where the vault has its KV version 2 engine.
    #[schemars(extend("x-restart" = true))]
    pub vault_mount: String,
    /// The folder of our secrets in it.
    #[schemars(extend("x-restart" = true))]
    pub vault_path: String,
    /// A file with the token that opens the vault.
    #[schemars(extend("x-restart" = true))]
    pub vault_token_file: Option<PathBuf>,
    /// The role that opens it instead, together with the file of its secret id.
    #[schemars(extend("x-restart" = true))]
    pub vault_role_id: Option<String>,
    /// A file with the secret id of the role.
    #[schemars(extend("x-restart" = true))]
    pub vault_secret_id_file: Option<PathBuf>,
}

impl Default for SecretSettings {
    fn default() -> Self {
        Self {
            provider: ProviderKind::File,
            look_every_ms: 1_000,
            vault_url: "http://127.0.0.1:8200".to_owned(),
            vault_mount: "secret".to_owned(),
            vault_path: "city".to_owned(),
            vault_token_file: None,
            vault_role_id: None,
            vault_secret_id_file: None,
        }
    }
}

impl Settings for SecretSettings {
    fn check(&self) -> Result<(), String> {
        if self.look_every_ms < 50 {
            return Err("secrets.look_every_ms must be at least 50".to_owned());
        }
        if self.provider == ProviderKind::Vault {
            if !self.vault_url.starts_with("http://") {
                return Err("secrets.vault_url must begin with http://; TLS is for the agent beside us".to_owned());
            }
            self.entry()?;
        }
        Ok(())
    }
}

impl SecretSettings {
    /// Between two looks.
    pub fn look_every(&self) -> Duration {
        Duration::from_millis(self.look_every_ms)
    }

    fn entry(&self) -> Result<Entry, String> {
        match (&self.vault_token_file, &self.vault_role_id, &self.vault_secret_id_file) {
            (Some(file), None, None) => Ok(Entry::Token(file.clone())),
            (None, Some(role), Some(file)) => Ok(Entry::Role { role: role.clone(), secret_id: file.clone() }),
            _ => Err("a vault needs either secrets.vault_token_file, or secrets.vault_role_id together with \
                      secrets.vault_secret_id_file"
                .to_owned()),
        }
    }

    /// The secrets. `folder` is where files are, `variables` are those of the process with `prefix`.
    ///
    /// # Errors
    /// Settings that do not work, a folder that cannot be made, a vault that cannot be asked.
    pub async fn open(
        &self,
        folder: &Path,
        prefix: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> io::Result<Secrets> {
        self.check().map_err(io::Error::other)?;
        match self.provider {
            ProviderKind::File => Secrets::open(folder),
            ProviderKind::Env => Ok(Secrets::from(Arc::new(Variables::new(prefix, variables)))),
            ProviderKind::Vault => {
                let entry = self.entry().map_err(io::Error::other)?;
                let vault = Vault::open(&self.vault_url, &self.vault_mount, &self.vault_path, entry).await?;
                Ok(Secrets::from(Arc::new(vault)))
            }
        }
    }
}
