//! `migrate`: brings databases, topics and users up to this program before anything runs; on PostgreSQL it also makes the
//! services' roles, and changes their passwords.

mod redis;
mod topics;

pub(super) use redis::administrator as redis_administrator;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use kernel::clock::Clock;
use kernel::config::{self, Configuration};
use kernel::redis::Administrator;
use kernel::secrets::{Secret, Secrets};
use kernel::service::Declared;
use kernel::store::{Admin, Login, Options, PostgresSettings, Store};
use serde_json::{Value, json};

use crate::city::{DataFolder, Given};
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

/// What is brought up to this program: the city's settings and secrets, and whose databases they lead to.
pub(super) struct Ground<'a> {
    data: &'a DataFolder,
    configuration: Configuration,
    secrets: Secrets,
    out: Output,
}

/// Who may make roles, users and schemas.
#[derive(Default)]
pub(super) struct Administrators {
    /// Address of PostgreSQL with user and password.
    pub postgres: Option<String>,
    /// A user of Redis.
    pub redis: Option<Administrator>,
}

impl Migrate {
    pub(super) async fn run(self, data: &DataFolder, out: Output) -> Result<()> {
        let mut given = data.running().map(|map| map.given).unwrap_or_default();
        given.flags.extend_from_slice(&self.settings);
        let ground = Ground::of(data, &given, out).await?;
        let file = self.admin_url_file.as_deref();
        let administrators = Administrators { postgres: admin_url(file)?, redis: redis_administrator()? };
        let mut done = ground.bring_up(&administrators).await?;
        if self.rotate_secrets {
            done["rotated"] = json!(self.rotate(&ground, &administrators).await?);
        }
        out.result(&done);
        Ok(())
    }

    /// New logins for everybody first, then the old ones are shut: two are valid while services change over.
    async fn rotate(&self, ground: &Ground<'_>, administrators: &Administrators) -> Result<Vec<&'static str>> {
        let settings = ground.postgres()?;
        if settings.url.is_none() {
            bail!("files have no logins; set postgres.url to keep the data on a server");
        }
        let admin = administrators.connect(&settings).await?;
        let (mut rotated, mut old) = (Vec::new(), Vec::new());
        for service in services::all() {
            let name = service.manifest().name;
            let now = PostgresSettings::login(&ground.secrets, name)?;
            let change = admin.rotate(&settings.schema(name), now.as_ref()).await;
            let change = change.with_context(|| format!("a new login for {name}"))?;
            keep(&ground.secrets, name, &change.login).await?;
            ground.out.say(format!("{name}: logs in as {} from now on", change.login.user));
            old.extend(change.old.map(|role| (name, role)));
            rotated.push(name);
        }
        tokio::time::sleep(LOOKED_UP).await;
        for (name, role) in old {
            let left = admin.retire(&role, Duration::from_secs(self.grace_s)).await?;
            let note = if left { ", although sessions of it are still open" } else { "" };
            ground.out.say(format!("{name}: {role} is shut{note}"));
        }
        Ok(rotated)
    }
}

/// An administrator's address from this file, or from the environment; none if neither names one.
#[expect(clippy::disallowed_methods, reason = "a password is wanted from where no list of processes shows it")]
pub(super) fn admin_url(file: Option<&Path>) -> Result<Option<String>> {
    let text = match file {
        Some(file) => std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?,
        None => std::env::var(ADMIN).unwrap_or_default(),
    };
    Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
}

impl Administrators {
    async fn connect(&self, settings: &PostgresSettings) -> Result<Admin> {
        let Some(url) = &self.postgres else {
            bail!(
                "migrating a server needs an administrator's address: name a file with --admin-url-file, or set {ADMIN}"
            );
        };
        let connected = Admin::connect(url, settings.ca_file.as_deref()).await;
        connected.context("the administrator cannot log in to the database")
    }
}

impl<'a> Ground<'a> {
    /// The city in this folder with what it is given.
    pub(super) async fn of(data: &'a DataFolder, given: &Given, out: Output) -> Result<Self> {
        let recipe = data.recipe(given.city.clone(), &given.flags);
        let configuration = Configuration::of(settings::tables(), config::read_once(&recipe)?)?;
        let (secrets, _) = data.secrets(&recipe).await?;
        Ok(Self { data, configuration, secrets, out })
    }

    fn postgres(&self) -> Result<PostgresSettings> {
        Ok(self.configuration.settings(PostgresSettings::TABLE)?)
    }

    /// Schemas and roles, topics, users; gives what was done.
    async fn bring_up(&self, administrators: &Administrators) -> Result<Value> {
        let migrated = self.databases(administrators).await?;
        let topics = self.topics().await?;
        let users = self.redis_users(administrators.redis.as_ref()).await?;
        Ok(json!({"migrated": migrated, "topics": topics, "redis_users": users}))
    }

    /// The databases of all services, and their roles where there is a server; gives the services.
    pub(super) async fn databases(&self, administrators: &Administrators) -> Result<Vec<&'static str>> {
        let settings = self.postgres()?;
        match settings.url {
            Some(_) => self.server(&settings, &administrators.connect(&settings).await?).await,
            None => self.files().await,
        }
    }

    async fn server(&self, settings: &PostgresSettings, admin: &Admin) -> Result<Vec<&'static str>> {
        let mut migrated = Vec::new();
        for service in services::all() {
            let name = service.manifest().name;
            let made = provision(admin, settings, &self.secrets, &service, self.out).await;
            made.with_context(|| format!("migrating {name}"))?;
            migrated.push(name);
        }
        Ok(migrated)
    }

    async fn files(&self) -> Result<Vec<&'static str>> {
        let _lock = self.data.lock()?;
        let mut migrated = Vec::new();
        for service in services::all() {
            let name = service.manifest().name;
            let options = Options::new(self.data.engine(name), Clock::system());
            let store = Store::open(options, service.migrations()).await;
            store.with_context(|| format!("the database of {name}"))?.close().await;
            self.out.say(format!("{name}: {} steps of its own", service.migrations().len()));
            migrated.push(name);
        }
        Ok(migrated)
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
