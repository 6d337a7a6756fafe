//! The data folder and the file in it that says where the city listens.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use kernel::config::{self, Recipe};
use kernel::events::KafkaSettings;
use kernel::registry::Directory;
use kernel::secrets::{SecretSettings, Secrets};
use kernel::store::Engine;
use serde::{Deserialize, Serialize};

use super::{CARD_NETWORK, GATEWAY};

/// Prefix of environment variables.
const PREFIX: &str = "FX";

/// Where a city keeps everything.
#[derive(Clone, Debug)]
pub(crate) struct DataFolder(PathBuf);

/// One member: a service, the gateway or the card network.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Member {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its process; several members may share one.
    pub pid: u32,
    /// From start to ready, in milliseconds.
    pub ready_ms: u64,
}

/// Where a running city listens.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct CityMap {
    /// The process that runs or supervises it.
    pub pid: u32,
    /// Whether each member has a process of its own.
    pub processes: bool,
    /// Members by name.
    pub members: BTreeMap<String, Member>,
    /// Where the list of instances is kept, if the city keeps its own.
    #[serde(default)]
    pub registrar: Option<SocketAddr>,
}

impl CityMap {
    /// Where people and programs enter.
    pub(crate) fn gateway(&self) -> Result<String> {
        self.url(GATEWAY)
    }

    /// The payment provider, for tokens and for its books.
    pub(crate) fn card_network(&self) -> Result<String> {
        self.url(CARD_NETWORK)
    }

    /// The address of a member as a URL.
    pub(crate) fn url(&self, name: &str) -> Result<String> {
        let member = self.members.get(name).with_context(|| format!("this city has no {name}"))?;
        Ok(format!("http://{}", member.address))
    }

    /// The list that services find each other by.
    pub(crate) fn directory(&self) -> Directory {
        Directory::new(self.members.iter().map(|(name, m)| (name.clone(), vec![m.address])).collect())
    }
}

impl DataFolder {
    /// The folder at `path`, made if it is not there.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        for part in ["db", "logs", "secrets"] {
            let folder = path.join(part);
            fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        Ok(Self(path.canonicalize().with_context(|| format!("cannot open {}", path.display()))?))
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Whether no city has run here yet.
    pub(crate) fn is_new(&self) -> bool {
        fs::read_dir(self.0.join("db")).map_or(true, |mut d| d.next().is_none())
    }

    /// The settings file; it need not exist.
    pub(crate) fn settings_file(&self) -> PathBuf {
        self.0.join("foodexpress.toml")
    }

    /// The log of one member.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.0.join("logs").join(format!("{name}.log"))
    }

    /// The card network's own folder: its books are not the city's.
    pub(crate) fn card_network(&self) -> PathBuf {
        self.0.join(CARD_NETWORK)
    }

    /// A service's database.
    pub(crate) fn engine(&self, service: &str) -> Engine {
        Engine::Sqlite { path: self.0.join("db").join(format!("{service}.sqlite")) }
    }

    /// How the settings of a city in this folder are put together.
    pub(crate) fn recipe(&self, city: Vec<(String, String)>, flags: &[(String, String)]) -> Recipe {
        Recipe {
            prefix: PREFIX.to_owned(),
            city,
            file: self.settings_file(),
            environment: Recipe::process_environment(),
            flags: flags.to_vec(),
        }
    }

    /// Where the versions of the settings are kept.
    pub(crate) fn config(&self) -> PathBuf {
        self.0.join("config")
    }

    /// Where secrets are kept unless another provider is set.
    pub(crate) fn secret_files(&self) -> PathBuf {
        self.0.join("secrets")
    }

    /// The city's secrets, from the provider that is set, and how often to look whether one changed.
    pub(crate) async fn secrets(&self, recipe: &Recipe) -> Result<(Secrets, Duration)> {
        let settings: SecretSettings = config::load("secrets", &config::read_once(recipe)?)?;
        let variables = recipe.environment.iter().cloned();
        let opened = settings.open(&self.secret_files(), PREFIX, variables).await;
        Ok((opened.context("cannot open the secrets")?, settings.look_every()))
    }

    /// The same for the city's own tools, which know no flags.
    pub(crate) async fn own_secrets(&self) -> Result<Secrets> {
        Ok(self.secrets(&self.recipe(Vec::new(), &[])).await?.0)
    }

    /// What is set about Kafka, for the city's own tools, which know no flags.
    pub(crate) fn kafka(&self) -> Result<KafkaSettings> {
        Ok(config::load("kafka", &config::read_once(&self.recipe(Vec::new(), &[]))?)?)
    }

    fn map_file(&self) -> PathBuf {
        self.0.join("city.json")
    }

    /// The same members for Prometheus. A city that was killed leaves it behind, and so is missed.
    fn targets_file(&self) -> PathBuf {
        self.0.join("targets.json")
    }

    /// Says where the city listens; whoever reads sees the old text or the new, never half of one.
    pub(crate) fn publish(&self, map: &CityMap) -> Result<()> {
        let draft = self.0.join(format!(".city.{}", std::process::id()));
        fs::write(&draft, serde_json::to_vec_pretty(&super::targets(map))?)?;
        fs::rename(&draft, self.targets_file()).context("cannot write targets.json")?;
        fs::write(&draft, serde_json::to_vec_pretty(map)?)?;
        fs::rename(&draft, self.map_file()).context("cannot write city.json")
    }

    /// The city is gone.
    pub(crate) fn withdraw(&self) {
        // Nothing depends on the file being gone; a stale one is noticed by its pid.
        drop(fs::remove_file(self.map_file()));
        drop(fs::remove_file(self.targets_file()));
    }

    /// Where the city listens that runs in this folder, if one does.
    pub(crate) fn running(&self) -> Option<CityMap> {
        let map: CityMap = serde_json::from_slice(&fs::read(self.map_file()).ok()?).ok()?;
        super::process::is_alive(map.pid).then_some(map)
    }

    /// The same, with what to do if none runs.
    pub(crate) fn must_run(&self) -> Result<CityMap> {
        let hint = format!(
            "no city runs in {}; start one with `foodexpress up --data {}`",
            self.0.display(),
            self.0.display()
        );
        self.running().context(hint)
    }

    /// Keeps a second city out of this folder while the guard lives.
    pub(crate) fn lock(&self) -> Result<File> {
        let file = File::create(self.0.join("city.lock"))?;
        if file.try_lock().is_err() {
            bail!("another city runs in {}; stop it, or give --data another folder", self.0.display());
        }
        Ok(file)
    }
}
