//! The data folder and the file in it that says where the city listens.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use kernel::config::{self, Recipe};
use kernel::events::KafkaSettings;
use kernel::registry::Directory;
use kernel::secrets::{SecretSettings, Secrets};
use kernel::store::Engine;
use serde::{Deserialize, Serialize};

use super::{CARD_NETWORK, GATEWAY, Seat};

/// Prefix of environment variables.
const PREFIX: &str = "FX";

/// Where a city keeps everything.
#[derive(Clone, Debug)]
pub(crate) struct DataFolder(PathBuf);

/// One member: an instance of a service, of the gateway, or the card network.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Member {
    /// What it is an instance of.
    pub service: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where others find it: the same, unless something stands between.
    pub announced: SocketAddr,
    /// Its process; several members may share one.
    pub pid: u32,
    /// From start to ready, in milliseconds.
    pub ready_ms: u64,
}

impl Member {
    /// One that is ready now.
    pub(super) fn ready(seat: &Seat, pid: u32, began: Instant) -> Self {
        let ready_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        Self { service: seat.service.clone(), address: seat.address, announced: seat.announced, pid, ready_ms }
    }
}

/// Where a running city listens.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct CityMap {
    /// The process that runs or supervises it.
    pub pid: u32,
    /// Whether each member has a process of its own.
    pub processes: bool,
    /// Members by name: the first instance has the service's own, the second `orders-2`.
    pub members: BTreeMap<String, Member>,
    /// Where the list of instances is kept, if the city keeps its own.
    pub registrar: Option<SocketAddr>,
    /// What its members were started with.
    pub given: Given,
}

/// Settings that come neither from files nor from variables.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Given {
    /// Below file and variables: addresses of the city's own making.
    pub city: Vec<(String, String)>,
    /// Above them: from the command line.
    pub flags: Vec<(String, String)>,
}

impl Given {
    /// The same in a city whose first gateway and payment provider are here.
    pub(crate) fn at(mut self, gateway: SocketAddr, card_network: SocketAddr) -> Self {
        self.city.push(("auth.issuer".to_owned(), format!("http://{gateway}")));
        self.city.push(("payments.provider_url".to_owned(), format!("http://{card_network}")));
        self
    }
}

impl CityMap {
    /// Where people and programs enter: the first gateway.
    pub(crate) fn gateway(&self) -> Result<String> {
        self.url(GATEWAY)
    }

    /// All doors, the first gateway's first.
    pub(crate) fn gateways(&self) -> Vec<String> {
        self.urls(GATEWAY)
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

    /// The addresses of all instances of a service as URLs; none if the city has no such service.
    pub(crate) fn urls(&self, service: &str) -> Vec<String> {
        self.members.values().filter(|m| m.service == service).map(|m| format!("http://{}", m.address)).collect()
    }

    /// The list that services find each other by.
    pub(crate) fn directory(&self) -> Directory {
        let mut listed: BTreeMap<String, Vec<SocketAddr>> = BTreeMap::new();
        for member in self.members.values() {
            listed.entry(member.service.clone()).or_default().push(member.address);
        }
        Directory::new(listed)
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

    /// How the settings of a city in this folder are put together, with what it is given below and above its files.
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

    /// The same for the city's own tools: with what the city that runs here was given.
    pub(crate) fn own_recipe(&self) -> Recipe {
        let given = self.running().map(|map| map.given).unwrap_or_default();
        self.recipe(given.city, &given.flags)
    }

    /// The secrets, for the city's own tools.
    pub(crate) async fn own_secrets(&self) -> Result<Secrets> {
        Ok(self.secrets(&self.own_recipe()).await?.0)
    }

    /// What is set about Kafka, for the city's own tools.
    pub(crate) fn kafka(&self) -> Result<KafkaSettings> {
        Ok(config::load("kafka", &config::read_once(&self.own_recipe())?)?)
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
