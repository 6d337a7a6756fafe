//! Starting members: all in this process, or one of them alone.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use kernel::clock::Clock;
use kernel::config::{Configuration, TOKEN_SECRET, Watch};
use kernel::http::Signer;
use kernel::registry::Directory;
use kernel::secrets::Secrets;
use kernel::service::{Running, Surroundings};
use kernel::store::PostgresSettings;
use kernel::task::Tasks;
use tokio::net::TcpListener;

use super::process;
use super::rotation;
use super::supervise::{Child, Launcher, until_ready};
use super::{CARD_NETWORK, CityMap, DataFolder, GATEWAY, Member, Plan};
use crate::{door, services, settings};

/// The product's name in documents.
pub(crate) const TITLE: &str = "FoodExpress";

/// What the members of one city share.
pub(super) struct Common {
    data: DataFolder,
    addresses: BTreeMap<String, SocketAddr>,
    pub(super) signer: Signer,
    pub(super) secrets: Secrets,
    pub(super) configuration: Configuration,
    /// Where services find each other.
    pub(super) directory: Directory,
    /// What watches over settings and secrets.
    pub(super) upkeep: Tasks,
}

impl Common {
    /// `keeps_history` is for whoever runs or supervises the whole city.
    pub(super) async fn new(
        data: &DataFolder,
        addresses: BTreeMap<String, SocketAddr>,
        flags: &[(String, String)],
        keeps_history: bool,
    ) -> Result<Self> {
        let upkeep = Tasks::new();
        let (secrets, configuration) = watched(data, &addresses, flags, keeps_history, &upkeep).await?;
        let signer = Signer::of(&secrets.pair("internal")?);
        let renewed = signer.clone();
        secrets.follow("internal", move |pair| renewed.renew(pair))?;
        let fixed = addresses.iter().map(|(name, address)| (name.clone(), vec![*address])).collect();
        let directory = Directory::new(fixed);
        Ok(Self { data: data.clone(), addresses, signer, secrets, configuration, directory, upkeep })
    }

    async fn listener(&self, name: &str) -> Result<TcpListener> {
        let address = self.addresses[name];
        let taken = || format!("{name} cannot listen on {address}; choose others with --ports auto or --ports BASE");
        TcpListener::bind(address).await.with_context(taken)
    }

    async fn service(&self, name: &str, listener: TcpListener) -> Result<Running> {
        let declared = services::all().into_iter().find(|s| s.manifest().name == name);
        let Some(declared) = declared else { bail!("there is no service {name}; see `foodexpress ls`") };
        let postgres: PostgresSettings = self.configuration.settings(PostgresSettings::TABLE)?;
        let engine = postgres.engine(&self.secrets, name).unwrap_or_else(|| self.data.engine(name));
        let around = Surroundings {
            listener,
            engine,
            directory: self.directory.clone(),
            signer: self.signer.clone(),
            secrets: self.secrets.clone(),
            configuration: self.configuration.clone(),
            clock: Clock::system(),
            title: TITLE,
        };
        kernel::service::start(&declared, around).await.with_context(|| format!("{name} did not start"))
    }

    async fn gateway(&self, listener: TcpListener) -> Result<door::Door> {
        door::open(listener, self.directory.clone(), self.signer.clone(), &self.secrets, &self.configuration).await
    }
}

/// The secrets and settings of a city, kept up to date by `upkeep`.
pub(super) async fn watched(
    data: &DataFolder,
    addresses: &BTreeMap<String, SocketAddr>,
    flags: &[(String, String)],
    keeps_history: bool,
    upkeep: &Tasks,
) -> Result<(Secrets, Configuration)> {
    let city = vec![
        ("auth.issuer".to_owned(), format!("http://{}", addresses[GATEWAY])),
        ("payments.provider_url".to_owned(), format!("http://{}", addresses[CARD_NETWORK])),
    ];
    let recipe = data.recipe(city, flags);
    let (secrets, look_every) = data.secrets(&recipe).await?;
    // Only a token that somebody laid there opens anything; asking for it would make one up.
    let has_token = secrets.provider().names()?.iter().any(|name| name == TOKEN_SECRET);
    let token = if has_token { Some(secrets.get(TOKEN_SECRET)?.reveal_text()) } else { None };
    let (clock, folder) = (Clock::system(), data.config());
    let (watch, configuration) = Watch::start(recipe, settings::tables(), token, &folder, clock, keeps_history).await?;
    upkeep.spawn("config", watch.run(upkeep.stopping()));
    let (own, stop) = (secrets.clone(), upkeep.stopping());
    upkeep.spawn("secrets", async move { own.watch(look_every, stop).await });
    Ok((secrets, configuration))
}

/// A city in this process; only the card network has one of its own, because it is the independent witness.
pub(crate) struct City {
    /// Where it listens.
    pub map: CityMap,
    data: DataFolder,
    services: Vec<Running>,
    door: door::Door,
    card_network: Child,
    upkeep: Tasks,
    _lock: File,
}

impl City {
    /// Starts every member and returns once all are ready.
    pub(crate) async fn start(plan: &Plan) -> Result<Self> {
        let lock = plan.data.lock()?;
        let common = Common::new(&plan.data, plan.ports.addresses()?, &plan.settings, true).await?;
        let launcher = Launcher::new(plan, &common.addresses, &common.secrets)?;
        let mut members = BTreeMap::new();
        let mut ready = |name: &str, pid: u32, began: Instant| {
            let ready_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            members.insert(name.to_owned(), Member { address: common.addresses[name], pid, ready_ms });
        };
        let began = Instant::now();
        let card_network = launcher.spawn(CARD_NETWORK)?;
        let names: Vec<&'static str> = services::all().iter().map(|s| s.manifest().name).collect();
        // All ports are open before anybody looks for a neighbour, so that nobody has to try twice.
        let gateway_port = common.listener(GATEWAY).await?;
        let mut ports = Vec::new();
        for name in &names {
            ports.push((*name, common.listener(name).await?));
        }
        let starting = ports.into_iter().map(|(name, port)| {
            let (common, began) = (&common, Instant::now());
            async move { common.service(name, port).await.map(|running| (running, began)) }
        });
        let mut running = Vec::new();
        for (service, began) in futures::future::try_join_all(starting).await? {
            ready(service.name, std::process::id(), began);
            running.push(service);
        }
        let opening = Instant::now();
        let door = common.gateway(gateway_port).await?;
        until_ready(GATEWAY, common.addresses[GATEWAY], Duration::from_secs(10), || true).await?;
        ready(GATEWAY, std::process::id(), opening);
        card_network.until_ready(Duration::from_secs(10)).await?;
        ready(CARD_NETWORK, card_network.pid(), began);
        let map = CityMap { pid: std::process::id(), processes: false, members, registrar: None };
        plan.data.publish(&map)?;
        Ok(Self {
            map,
            data: plan.data.clone(),
            services: running,
            door,
            card_network,
            upkeep: common.upkeep,
            _lock: lock,
        })
    }

    /// Resolves with the reason when a member breaks.
    pub(crate) async fn broken(&self) -> String {
        let mut waits: Vec<futures::future::BoxFuture<'_, String>> = Vec::new();
        for service in &self.services {
            waits.push(Box::pin(async move { format!("{}: {}", service.name, service.failure().await) }));
        }
        waits.push(Box::pin(async { format!("{GATEWAY}: {}", self.door.failure().await) }));
        waits.push(Box::pin(async {
            while process::is_alive(self.card_network.pid()) {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            format!("{CARD_NETWORK}: its process ended; its log says why")
        }));
        futures::future::select_all(waits).await.0
    }

    /// Lets running requests end, then stops: the door first, the witness last.
    pub(crate) async fn stop(self) {
        self.door.stop().await;
        futures::future::join_all(self.services.into_iter().map(Running::stop)).await;
        self.card_network.stop().await;
        self.upkeep.drain(Duration::from_secs(2)).await;
        self.data.withdraw();
    }
}

/// Runs one member of the city in `data` until it is told to stop.
pub(crate) async fn serve(
    data: &DataFolder,
    name: &str,
    settings: &[(String, String)],
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let map = data.must_run()?;
    let addresses = map.members.iter().map(|(name, m)| (name.clone(), m.address)).collect();
    let mut common = Common::new(data, addresses, settings, false).await?;
    if !common.addresses.contains_key(name) {
        bail!("the city in {} has no place for {name}", data.path().display());
    }
    let rotation = rotation::join(&mut common, map.registrar)?;
    let listener = common.listener(name).await?;
    let address = listener.local_addr()?;
    if name == GATEWAY {
        let door = common.gateway(listener).await?;
        return tokio::select! {
            () = stop => {
                door.stop().await;
                Ok(())
            }
            failure = door.failure() => bail!("{name}: {failure}"),
        };
    }
    let running = common.service(name, listener).await?;
    let place = rotation.map(|rotation| rotation.enter(&running, address));
    tokio::select! {
        () = stop => {
            if let Some(place) = place {
                place.leave().await;
            }
            running.stop().await;
            Ok(())
        }
        failure = running.failure() => bail!("{name}: {failure}"),
    }
}
