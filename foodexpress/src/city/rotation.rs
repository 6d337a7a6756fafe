//! A member's part in the registry: its supervisor's own list, or the Consul, etcd or DNS that the settings name.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures::FutureExt as _;
use kernel::clock::Clock;
use kernel::config::Configuration;
use kernel::http::Signer;
use kernel::http::server::{Limits, serve};
use kernel::registry::{Announcement, Directory, Instance, Kind, Registrar, RegistrySettings, Rotation, TOKEN_SECRET};
use kernel::secrets::Secrets;
use kernel::service::Running;
use kernel::task::Tasks;
use tokio::net::TcpListener;

use super::GATEWAY;
use super::launch::Common;
use crate::services;

/// From leaving the list to closing the port: the way of the news to those who call.
const NEWS: Duration = Duration::from_millis(200);
const TABLE: &str = "registry";

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
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no port is free for the registrar")?;
    let address = listener.local_addr()?;
    // Watches stay open for longer than a handler may take.
    let limits = Limits { handler: None, ..Limits::default() };
    let router = Registrar::new().router(signer, Clock::system());
    upkeep.spawn("registrar", serve(listener, router, limits, upkeep.stopping()));
    Ok(Some(address))
}

/// Reads the list from now on instead of the addresses that the city began with. A city in one process has no list.
pub(super) fn join(common: &mut Common, registrar: Option<SocketAddr>) -> Result<Option<Joined>> {
    let settings: RegistrySettings = common.configuration.settings(TABLE)?;
    if settings.kind == Kind::Own && registrar.is_none() {
        return Ok(None);
    }
    let has_token = common.secrets.provider().names()?.iter().any(|name| name == TOKEN_SECRET);
    let token = if has_token { Some(common.secrets.get(TOKEN_SECRET)?.reveal_text()) } else { None };
    let backend = settings.backend(registrar, &common.signer, &Clock::system(), token).map_err(anyhow::Error::msg)?;
    common.directory = Directory::default();
    let (rotation, tasks) = (Rotation::new(backend, common.directory.clone(), settings.ttl()), Tasks::new());
    rotation.follow(&tasks, services::manifests().into_iter().map(|m| m.name).chain([GATEWAY]));
    Ok(Some(Joined { rotation, tasks }))
}

impl Joined {
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
}

impl Place {
    /// Leaves the list, so that nobody calls any more when the port closes.
    pub(super) async fn leave(self) {
        self.announcement.leave().await;
        tokio::time::sleep(NEWS).await;
        self.tasks.drain(Duration::from_secs(2)).await;
    }
}
