//! Starting members: all in this process, or one of them alone.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use kernel::clock::Clock;
use kernel::config::{Configuration, TOKEN_SECRET, Watch};
use kernel::http::Signer;
use kernel::http::server::listen;
use kernel::registry::{Directory, Kind, RegistrySettings};
use kernel::secrets::Secrets;
use kernel::service::{Running, Surroundings};
use kernel::store::PostgresSettings;
use kernel::task::Tasks;
use tokio::net::TcpListener;

use super::process;
use super::rotation;
use super::supervise::{Child, Launcher, until_ready};
use super::{CARD_NETWORK, CityMap, DataFolder, GATEWAY, Given, Member, Plan, Seat};
use crate::{door, services, settings};

/// The product's name in documents.
pub(crate) const TITLE: &str = "FoodExpress";

/// What the members of one city share.
pub(super) struct Common {
    data: DataFolder,
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
    async fn new(data: &DataFolder, directory: Directory, given: &Given, keeps_history: bool) -> Result<Self> {
        let upkeep = Tasks::new();
        let (secrets, configuration) = watched(data, given, keeps_history, &upkeep).await?;
        let signer = Signer::of(&secrets.pair("internal")?);
        let renewed = signer.clone();
        secrets.follow("internal", move |pair| renewed.renew(pair))?;
        Ok(Self { data: data.clone(), signer, secrets, configuration, directory, upkeep })
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

async fn listener(name: &str, address: SocketAddr) -> Result<TcpListener> {
    let taken = || format!("{name} cannot listen on {address}; choose others with --ports auto or --ports BASE");
    listen(address).with_context(taken)
}

/// The secrets and settings of a city, kept up to date by `upkeep`.
pub(super) async fn watched(
    data: &DataFolder,
    given: &Given,
    keeps_history: bool,
    upkeep: &Tasks,
) -> Result<(Secrets, Configuration)> {
    let recipe = data.recipe(given.city.clone(), &given.flags);
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
        let seats = plan.ports.seats(1)?;
        let given = plan.given.clone().at(seats[GATEWAY].address, seats[CARD_NETWORK].announced);
        let fixed = seats.iter().map(|(name, seat)| (name.clone(), vec![seat.address])).collect();
        let common = Common::new(&plan.data, Directory::new(fixed), &given, true).await?;
        let launcher = Launcher::new(plan, &seats, &common.secrets)?;
        let mut members = BTreeMap::new();
        let mut ready = |name: &str, pid: u32, began: Instant| {
            members.insert(name.to_owned(), Member::ready(&seats[name], pid, began));
        };
        let began = Instant::now();
        let card_network = launcher.spawn(CARD_NETWORK)?;
        let names: Vec<&'static str> = services::all().iter().map(|s| s.manifest().name).collect();
        // All ports are open before anybody looks for a neighbour, so that nobody has to try twice.
        let gateway_port = listener(GATEWAY, seats[GATEWAY].address).await?;
        let mut ports = Vec::new();
        for name in &names {
            ports.push((*name, listener(name, seats[*name].address).await?));
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
        until_ready(GATEWAY, seats[GATEWAY].address, Duration::from_secs(10), || true).await?;
        ready(GATEWAY, std::process::id(), opening);
        card_network.until_ready(Duration::from_secs(10)).await?;
        ready(CARD_NETWORK, card_network.pid(), began);
        let map = CityMap { pid: std::process::id(), processes: false, members, registrar: None, given };
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

/// Runs one member of the city in `data` until it is told to stop; with a port, an instance beside those of the city.
pub(crate) async fn serve(
    data: &DataFolder,
    name: &str,
    port: Option<u16>,
    flags: &[(String, String)],
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let map = data.must_run()?;
    let seat = seat(&map, name, port)?;
    let mut given = map.given.clone();
    given.flags.extend_from_slice(flags);
    let mut common = Common::new(data, map.directory(), &given, false).await?;
    let registry: RegistrySettings = common.configuration.settings(rotation::TABLE)?;
    if port.is_some() {
        must_take_another(&map, &registry, &common.configuration, &seat.service)?;
    }
    let rotation = rotation::join(&mut common, &registry, map.registrar)?;
    if seat.service == GATEWAY
        && let Some(rotation) = &rotation
    {
        // Before its port is open: whoever came now would be told that there is nobody.
        rotation.know_all().await;
    }
    let listener = listener(name, seat.address).await?;
    let announced = if port.is_some() { listener.local_addr()? } else { seat.announced };
    if seat.service == GATEWAY {
        let door = common.gateway(listener).await?;
        let place = rotation.map(|rotation| rotation.enter_gateway(&door, announced));
        tokio::select! {
            () = stop => {}
            failure = door.failure() => bail!("{name}: {failure}"),
        }
        rotation::leave(place).await;
        door.stop().await;
        return Ok(());
    }
    let running = common.service(&seat.service, listener).await?;
    let place = rotation.map(|rotation| rotation.enter(&running, announced));
    tokio::select! {
        () = stop => {}
        failure = running.failure() => bail!("{name}: {failure}"),
    }
    rotation::leave(place).await;
    running.stop().await;
    Ok(())
}

fn seat(map: &CityMap, name: &str, port: Option<u16>) -> Result<Seat> {
    if let Some(port) = port {
        let service = name.to_owned();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        return Ok(Seat { service, address, announced: address });
    }
    let names = || map.members.keys().filter(|n| *n != CARD_NETWORK).cloned().collect::<Vec<_>>().join(", ");
    let member = map.members.get(name).filter(|m| m.service != CARD_NETWORK);
    let member = member.with_context(|| format!("this city has no place for {name}; it has {}", names()))?;
    Ok(Seat { service: member.service.clone(), address: member.address, announced: member.announced })
}

/// An instance that nobody planned needs a list that others read, and a database that it may share.
fn must_take_another(
    map: &CityMap,
    registry: &RegistrySettings,
    configuration: &Configuration,
    service: &str,
) -> Result<()> {
    if registry.kind == Kind::Own && map.registrar.is_none() {
        bail!(
            "the members of a city in one process keep no list that {service} could enter; start it with --processes"
        );
    }
    if service == GATEWAY {
        return Ok(());
    }
    must_share(configuration)
}

/// Several instances of a service work on one database, and only a server lets several processes do that.
pub(super) fn must_share(configuration: &Configuration) -> Result<()> {
    let postgres: PostgresSettings = configuration.settings(PostgresSettings::TABLE)?;
    if postgres.url.is_none() {
        bail!(
            "two instances of a service need a database that both can reach, and files belong to one process: set postgres.url, or start with --profile cluster"
        );
    }
    Ok(())
}
