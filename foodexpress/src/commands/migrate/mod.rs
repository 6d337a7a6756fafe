//! `migrate`: brings databases, topics and users up to this program before anything runs; on PostgreSQL it also makes the
//! services' roles, and changes their passwords.

mod redis;
mod topics;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use kernel::clock::Clock;
use kernel::config::{self, Configuration};
use kernel::secrets::{Secret, Secrets};
use kernel::service::Declared;
use kernel::store::{Admin, Login, Options, PostgresSettings, Store};
use serde_json::json;

use crate::city::DataFolder;
use crate::output::Output;
use crate::{services, settings};

/// The variable that may hold the administrator's address: an argument would show in the list of processes.
const ADMIN: &str = "FOODEXPRESS_ADMIN_URL";
/// A service looks its login up once a second; until then it may still use the old one.
const LOOKED_UP: Duration = Duration::from_secs(3);

/// Bring every database up to this program.
///
/// With `[postgres]` in the settings it needs an administrator's address, in a file or in `FOODEXPRESS_ADMIN_URL`. It makes
/// for each service a schema, a role that owns it and a role that logs in, and puts that one's password into the secrets.
#[derive(Debug, Args)]
#[command(after_help = "Example: foodexpress migrate --admin-url-file /run/secrets/postgres-admin")]
pub(super) struct Migrate {
    /// A file that holds the address of an administrator, with user and password.
    #[arg(long, value_name = "FILE")]
    admin_url_file: Option<PathBuf>,
    /// Also give every service a new login. The old one stays good until the service has taken up the new one.
    #[arg(long)]
    rotate_secrets: bool,
    /// How long sessions of an old login may take to end before it is shut all the same, in seconds.
    #[arg(long, default_value_t = 60, requires = "rotate_secrets")]
    grace_s: u64,
    /// A setting above file and environment; may be given several times.
    #[arg(long = "set", value_name = "SERVICE.SETTING=VALUE", value_parser = super::setting)]
    settings: Vec<(String, String)>,
}

impl Migrate {
    pub(super) async fn run(self, data: &DataFolder, out: Output) -> Result<()> {
        let recipe = data.recipe(Vec::new(), &self.settings);
        let configuration = Configuration::of(settings::tables(), config::read_once(&recipe)?)?;
        let postgres: PostgresSettings = configuration.settings(PostgresSettings::TABLE)?;
        if postgres.url.is_some() {
            let (secrets, _) = data.secrets(&recipe).await?;
            return self.server(&postgres, &secrets, data, out).await;
        }
        if self.rotate_secrets {
            bail!("files have no logins; set postgres.url to keep the data on a server");
        }
        files(data, out).await
    }

    async fn server(
        self,
        settings: &PostgresSettings,
        secrets: &Secrets,
        data: &DataFolder,
        out: Output,
    ) -> Result<()> {
        let url = self.admin_url()?;
        let connected = Admin::connect(&url, settings.ca_file.as_deref()).await;
        let admin = connected.context("the administrator cannot log in to the database")?;
        let mut migrated = Vec::new();
        for service in services::all() {
            let name = service.manifest().name;
            provision(&admin, settings, secrets, &service, out).await.with_context(|| format!("migrating {name}"))?;
            migrated.push(name);
        }
        let rotated = if self.rotate_secrets { self.rotate(&admin, settings, secrets, out).await? } else { Vec::new() };
        let topics = topics::make(data, out).await?;
        let users = redis::provide(data, out).await?;
        out.result(&json!({"migrated": migrated, "rotated": rotated, "topics": topics, "redis_users": users}));
        Ok(())
    }

    /// New logins for everybody first, then the old ones are shut: two are valid while services change over.
    async fn rotate(
        &self,
        admin: &Admin,
        settings: &PostgresSettings,
        secrets: &Secrets,
        out: Output,
    ) -> Result<Vec<&'static str>> {
        let (mut rotated, mut old) = (Vec::new(), Vec::new());
        for service in services::all() {
            let name = service.manifest().name;
            let now = PostgresSettings::login(secrets, name)?;
            let change = admin.rotate(&settings.schema(name), now.as_ref()).await;
            let change = change.with_context(|| format!("a new login for {name}"))?;
            keep(secrets, name, &change.login).await?;
            out.say(format!("{name}: logs in as {} from now on", change.login.user));
            old.extend(change.old.map(|role| (name, role)));
            rotated.push(name);
        }
        tokio::time::sleep(LOOKED_UP).await;
        for (name, role) in old {
            let left = admin.retire(&role, Duration::from_secs(self.grace_s)).await?;
            let note = if left { ", although sessions of it are still open" } else { "" };
            out.say(format!("{name}: {role} is shut{note}"));
        }
        Ok(rotated)
    }

    #[expect(clippy::disallowed_methods, reason = "a password is wanted from where no list of processes shows it")]
    fn admin_url(&self) -> Result<String> {
        let text = match &self.admin_url_file {
            Some(file) => std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?,
            None => std::env::var(ADMIN).unwrap_or_default(),
        };
        if text.trim().is_empty() {
            bail!(
                "migrating a server needs an administrator's address: name a file with --admin-url-file, or set {ADMIN}"
            );
        }
        Ok(text.trim().to_owned())
    }
}

async fn provision(
    admin: &Admin,
    settings: &PostgresSettings,
    secrets: &Secrets,
    service: &Declared,
    out: Output,
) -> Result<()> {
    let name = service.manifest().name;
    let schema = settings.schema(name);
    let kept = PostgresSettings::login(secrets, name)?;
    let login = kept.clone().unwrap_or_else(|| Login { user: format!("{schema}_a"), password: Login::password() });
    let mut made = admin.provision(&schema, service.migrations(), Some(&login)).await?;
    if kept.is_none() {
        let mut login = login;
        if !made.login_is_new {
            // The role is there and nobody knows its password any more: the secrets were lost, or belong to another folder.
            login = admin
                .rotate(&schema, Some(&Login { user: format!("{schema}_b"), password: String::new() }))
                .await?
                .login;
            made.login_is_new = true;
        }
        keep(secrets, name, &login).await?;
    }
    let login = if made.login_is_new { "a new login" } else { "the login it had" };
    out.say(format!("{name}: schema {schema}, {} steps run, {login}", made.steps));
    Ok(())
}

async fn keep(secrets: &Secrets, service: &str, login: &Login) -> Result<()> {
    let name = PostgresSettings::secret(service);
    let kept = secrets.put(&name, &Secret::new(login.text().as_bytes())).await;
    kept.with_context(|| format!("the secret {name} cannot be kept; the login {} is made and of no use", login.user))
}

async fn files(data: &DataFolder, out: Output) -> Result<()> {
    let _lock = data.lock()?;
    let mut migrated = Vec::new();
    for service in services::all() {
        let name = service.manifest().name;
        let options = Options::new(data.engine(name), Clock::system());
        let store =
            Store::open(options, service.migrations()).await.with_context(|| format!("the database of {name}"))?;
        store.close().await;
        out.say(format!("{name}: {} steps of its own", service.migrations().len()));
        migrated.push(name);
    }
    let topics = topics::make(data, out).await?;
    let users = redis::provide(data, out).await?;
    out.result(&json!({"migrated": migrated, "topics": topics, "redis_users": users}));
    Ok(())
}
