//! A member's part in the registry: its supervisor's own list, or the Consul, etcd or DNS that the settings name.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::FutureExt as _;
use kernel::clock::Clock;
use kernel::config::{self, Configuration};
use kernel::http::Signer;
use kernel::http::server::{Limits, listen, serve};
use kernel::registry::{
    Announcement, Backend, Directory, Instance, Kind, Mark, Registrar, RegistrySettings, Rotation, TOKEN_SECRET,
};
use kernel::secrets::Secrets;
use kernel::service::Running;
use kernel::task::Tasks;

use super::launch::Common;
use super::{CityMap, DataFolder, GATEWAY, Member};
use crate::door::Door;
use crate::services;

/// From leaving the list to closing the port: the way of the news to those who call.
const NEWS: Duration = Duration::from_millis(200);
/// Before a list that could not be asked is asked again.
const AGAIN: Duration = Duration::from_millis(50);
/// How long a gateway waits for services that have nobody on the list.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);
pub(super) const TABLE: &str = "registry";

/// A member that reads the list, and can enter it.
pub(super) struct Joined {
    rotation: Rotation,
    tasks: Tasks,
}

/// An instance on the list.
pub(super) struct Place {
    announcement: Announcement,
    tasks: Tasks,
}

/// Opens the city's own list if the settings want one; it is kept as long as `upkeep` lives.
pub(super) async fn open_registrar(
    secrets: &Secrets,
    configuration: &Configuration,
    upkeep: &Tasks,
) -> Result<Option<SocketAddr>> {
    let settings: RegistrySettings = configuration.settings(TABLE)?;
    if settings.kind != Kind::Own {
        return Ok(None);
    }
    let signer = Signer::of(&secrets.pair("internal")?);
    let renewed = signer.clone();
    secrets.follow("internal", move |pair| renewed.renew(pair))?;
    let listener = listen((Ipv4Addr::LOCALHOST, 0).into()).context("no port is free for the registrar")?;
    let address = listener.local_addr()?;
    // Watches stay open for longer than a handler may take.
    let limits = Limits { handler: None, ..Limits::default() };
    let router = Registrar::new().router(signer, Clock::system());
    upkeep.spawn("registrar", serve(listener, router, limits, upkeep.stopping()));
    Ok(Some(address))
}

/// Reads the list from now on instead of the addresses that the city began with. A city in one process has no list.
pub(super) fn join(
    common: &mut Common,
    settings: &RegistrySettings,
    registrar: Option<SocketAddr>,
) -> Result<Option<Joined>> {
    if settings.kind == Kind::Own && registrar.is_none() {
        return Ok(None);
    }
    let backend = backend(settings, registrar, &common.signer, &common.secrets)?;
    common.directory = Directory::default();
    let (rotation, tasks) = (Rotation::new(backend, common.directory.clone(), settings.ttl()), Tasks::new());
    rotation.follow(&tasks, services::manifests().into_iter().map(|m| m.name).chain([GATEWAY]));
    Ok(Some(Joined { rotation, tasks }))
}

fn backend(
    settings: &RegistrySettings,
    registrar: Option<SocketAddr>,
    signer: &Signer,
    secrets: &Secrets,
) -> Result<Arc<dyn Backend>> {
    let has_token = secrets.provider().names()?.iter().any(|name| name == TOKEN_SECRET);
    let token = if has_token { Some(secrets.get(TOKEN_SECRET)?.reveal_text()) } else { None };
    settings.backend(registrar, signer, &Clock::system(), token).map_err(anyhow::Error::msg)
}

/// Waits until the list of a running city has this instance, as those who call it read it.
pub(crate) async fn until_listed(data: &DataFolder, map: &CityMap, who: &Member, patience: Duration) -> Result<()> {
    let recipe = data.own_recipe();
    let settings: RegistrySettings = config::load(TABLE, &config::read_once(&recipe)?)?;
    if settings.kind == Kind::Own && map.registrar.is_none() {
        return Ok(());
    }
    let (secrets, _) = data.secrets(&recipe).await?;
    let backend = backend(&settings, map.registrar, &Signer::of(&secrets.pair("internal")?), &secrets)?;
    let (mut mark, mut trouble) = (Mark::default(), None);
    let listed = async {
        loop {
            match backend.watch(&who.service, mark).await {
                Ok(seen) if seen.instances.contains(&who.announced) => return,
                Ok(seen) => (mark, trouble) = (seen.mark, None),
                Err(now) => {
                    trouble = Some(now);
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    };
    if tokio::time::timeout(patience, listed).await.is_err() {
        let why = trouble.map(|trouble| format!(": {trouble}")).unwrap_or_default();
        bail!("{} at {} is not on the list after {patience:?}{why}", who.service, who.address);
    }
    tokio::time::sleep(NEWS).await;
    Ok(())
}

impl Joined {
    /// Waits until every service has somebody on the list; not for ever, because one that is gone must not keep all shut.
    pub(super) async fn know_all(&self) {
        let services = services::manifests();
        let names: Vec<&str> = services.iter().map(|m| m.name).collect();
        if tokio::time::timeout(KNOWN_WITHIN, self.rotation.until_listed(&names)).await.is_err() {
            tracing::warn!("the gateway opens although not every service has an instance on the list");
        }
    }

    /// Enters a service as long as it is ready.
    pub(super) fn enter(self, running: &Running, address: SocketAddr) -> Place {
        self.rotation.report(&running.metrics, &running.health);
        let health = running.health.clone();
        let ready = move || {
            let health = health.clone();
            async move { health.ready().await.is_up() }.boxed()
        };
        let announcement = self.rotation.announce(&self.tasks, Instance::new(running.name, address), ready);
        Place { announcement, tasks: self.tasks }
    }

    /// Enters a gateway as long as it is open: it serves whatever it finds, and says so when it finds nobody.
    pub(super) fn enter_gateway(self, door: &Door, address: SocketAddr) -> Place {
        self.rotation.measure(&door.metrics);
        let ready = || std::future::ready(true).boxed();
        let announcement = self.rotation.announce(&self.tasks, Instance::new(GATEWAY, address), ready);
        Place { announcement, tasks: self.tasks }
    }
}

/// Leaves the list, so that nobody calls any more when the port closes.
pub(super) async fn leave(place: Option<Place>) {
    let Some(place) = place else { return };
    place.announcement.leave().await;
    tokio::time::sleep(NEWS).await;
    place.tasks.drain(Duration::from_secs(2)).await;
}
