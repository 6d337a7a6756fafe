//! The engine by configuration: what operators set under `[postgres]`, and the engine of one service made from it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::engine::{CONNECTIONS, Engine, Login, Logins, Server};
use super::error::StoreError;
use super::postgres::Roles;
use crate::config::Settings;
use crate::secrets::Secrets;

/// PostgreSQL in place of a file per service. Passwords stand in secrets, never here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PostgresSettings {
    /// Address of the database, or of PgBouncer in transaction mode, without user and password, such as `postgres://one,two:5432/city?target_session_attrs=read-write`. Without it each service has a file.
    #[schemars(extend("x-restart" = true))]
    pub url: Option<String>,
    /// Whether the address is that of a pooler.
    #[schemars(extend("x-restart" = true))]
    pub pooler: bool,
    /// Where `url` is that of a pooler: address of the server itself, or of all that may become it, over which instances of a service wake each other. Without it they look for each other's work five times a second.
    #[schemars(extend("x-restart" = true))]
    pub direct_url: Option<String>,
    /// Address of a standby for reads that may be somewhat old.
    #[schemars(extend("x-restart" = true))]
    pub standby_url: Option<String>,
    /// What the names of schemas and roles begin with: cities that share a server have different ones.
    #[schemars(extend("x-restart" = true))]
    pub prefix: String,
    /// Connections of one service at the most.
    #[schemars(extend("x-restart" = true))]
    pub connections: u16,
    /// File of certificates (PEM) of who vouches for the server; with one, only TLS will do.
    #[schemars(extend("x-restart" = true))]
    pub ca_file: Option<PathBuf>,
}

impl Default for PostgresSettings {
    fn default() -> Self {
        Self {
            url: None,
            pooler: false,
            direct_url: None,
            standby_url: None,
            prefix: "city".to_owned(),
            connections: CONNECTIONS,
            ca_file: None,
        }
    }
}

impl Settings for PostgresSettings {
    fn check(&self) -> Result<(), String> {
        if Roles::of(&self.schema("a-service-with-a-long-name")).is_err() {
            return Err("postgres.prefix is made of a-z, 0-9 and _, and is not long".to_owned());
        }
        if self.connections == 0 {
            return Err("postgres.connections must be at least 1".to_owned());
        }
        for (key, url) in [("url", &self.url), ("direct_url", &self.direct_url), ("standby_url", &self.standby_url)] {
            if url.as_ref().is_some_and(|url| names_password(url)) {
                return Err(format!(
                    "postgres.{key} holds a password; addresses are shown, secrets are not: leave it out"
                ));
            }
        }
        Ok(())
    }
}

impl PostgresSettings {
    /// The table's name.
    pub const TABLE: &'static str = "postgres";
    /// What the names of the secrets that hold logins begin with.
    pub const SECRETS: &'static str = "postgres-";

    /// The schema of a service.
    pub fn schema(&self, service: &str) -> String {
        format!("{}_{}", self.prefix, service.replace('-', "_"))
    }

    /// The name of the secret that holds a service's login.
    pub fn secret(service: &str) -> String {
        format!("{}{service}", Self::SECRETS)
    }

    /// A service's login, if `migrate` has made one.
    ///
    /// # Errors
    /// A secret that cannot be read, or does not hold a login.
    pub fn login(secrets: &Secrets, service: &str) -> Result<Option<Login>, StoreError> {
        let name = Self::secret(service);
        let found = secrets.find(&name).map_err(|e| StoreError::Refused(format!("secret {name}: {e}")))?;
        let Some(found) = found else { return Ok(None) };
        let login = Login::read(&found.reveal_text());
        login
            .map(Some)
            .ok_or_else(|| StoreError::Refused(format!("secret {name} does not hold a role and its password")))
    }

    /// The engine of one service, if there is an address; its login is looked up as long as the store is open.
    pub fn engine(&self, secrets: &Secrets, service: &str) -> Option<Engine> {
        let url = self.url.as_ref()?;
        let (secrets, name) = (secrets.clone(), service.to_owned());
        let login = Logins::new(move || match Self::login(&secrets, &name) {
            Ok(Some(login)) => Ok(login),
            Ok(None) => Err(std::io::Error::other(format!(
                "there is no secret {}; run `migrate` with an administrator's address first",
                Self::secret(&name)
            ))),
            Err(error) => Err(std::io::Error::other(error)),
        });
        Some(Engine::Postgres(Server {
            direct: !self.pooler,
            direct_url: self.direct_url.clone(),
            login: Some(login),
            standby_url: self.standby_url.clone(),
            connections: self.connections,
            ca_file: self.ca_file.clone(),
            ..Server::new(url, self.schema(service))
        }))
    }
}

fn names_password(url: &str) -> bool {
    let login = url.split_once("://").and_then(|(_, rest)| rest.split_once('@')).map(|(login, _)| login);
    login.is_some_and(|login| login.contains(':')) || url.contains("password=")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Sources};
    use crate::secrets::Secret;

    fn load(toml: &str) -> Result<PostgresSettings, config::ConfigError> {
        config::load(PostgresSettings::TABLE, &Sources::new("X").text("city.toml", toml).unwrap())
    }

    fn secrets() -> (tempfile::TempDir, Secrets) {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::open(folder.path()).unwrap();
        (folder, secrets)
    }

    #[test]
    fn without_an_address_the_files_are_kept() {
        assert!(load("").unwrap().engine(&secrets().1, "orders").is_none());
    }

    #[tokio::test]
    async fn an_address_makes_an_engine_with_a_schema_and_a_login_per_service() {
        let settings = load("[postgres]\nurl = 'postgres://db/city'\npooler = true\nprefix = 'rome'").unwrap();
        let (_folder, secrets) = secrets();
        let Some(Engine::Postgres(server)) = settings.engine(&secrets, "card-desk") else { panic!("not a server") };
        assert_eq!((server.schema.as_str(), server.direct, server.admin_url), ("rome_card_desk", false, None));
        let missing = server.login.as_ref().unwrap().current().unwrap_err().to_string();
        assert!(missing.contains("postgres-card-desk") && missing.contains("migrate"), "{missing}");
        secrets.put("postgres-card-desk", &Secret::new(b"rome_card_desk_a hush")).await.unwrap();
        assert_eq!(server.login.unwrap().current().unwrap().user, "rome_card_desk_a");
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        for (toml, key) in [
            ("[postgres]\nurl = 'postgres://a:b@db/city'", "postgres.url"),
            ("[postgres]\nstandby_url = 'host=db password=x'", "postgres.standby_url"),
            ("[postgres]\ndirect_url = 'postgres://a:b@db/city'", "postgres.direct_url"),
            ("[postgres]\nprefix = 'Rome'", "postgres.prefix"),
            ("[postgres]\nconnections = 0", "postgres.connections"),
            ("[postgres]\npasword = 'x'", "postgres.pasword"),
        ] {
            let refused = load(toml).unwrap_err().to_string();
            assert!(refused.contains(key), "{refused}");
        }
    }
}
