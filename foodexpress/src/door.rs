//! The gateway as this binary starts it: its settings, its route table, and the sessions that ended.

use std::time::Duration;

use anyhow::Result;
use gateway::{Gateway, Options, Rate, Revocations, Settings};
use kernel::clock::Clock;
use kernel::config::{Configuration, Live};
use kernel::events::{Event as _, Follower, Received};
use kernel::http::Signer;
use kernel::redis::{self, Redis, RedisSettings};
use kernel::registry::Directory;
use kernel::secrets::Secrets;
use kernel::task::{Failure, Tasks};
use kernel::telemetry::{self, About, Exporting, Metrics};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::city::{GATEWAY, TITLE};
use crate::services;

/// Figures of the gateway that a city may change.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DoorSettings {
    /// Requests per second of one address, before anybody has signed in.
    pub per_address: u32,
    /// Requests per second of one signed-in caller.
    pub per_caller: u32,
    /// Requests under way at once; more are shed with 503.
    pub max_in_flight: usize,
    /// Origins of other sites that may call from a browser.
    pub cors_origins: Vec<String>,
    /// Threads that serve connections, at most one for each core; 0 is one for each. Fewer wake each other less often and
    /// take less CPU time for a request, and more serve more requests.
    #[schemars(extend("x-restart" = true))]
    pub threads: usize,
    /// Milliseconds from unready to closed when stopping, so that balancers notice.
    #[schemars(extend("x-restart" = true))]
    pub unready_ms: u64,
}

impl kernel::config::Settings for DoorSettings {
    fn check(&self) -> Result<(), String> {
        if self.per_address == 0 || self.per_caller == 0 || self.max_in_flight == 0 {
            return Err(
                "gateway.per_address, gateway.per_caller and gateway.max_in_flight must be at least 1".to_owned()
            );
        }
        Ok(())
    }
}

impl Default for DoorSettings {
    fn default() -> Self {
        Self {
            per_address: 200,
            per_caller: 100,
            max_in_flight: 1024,
            cors_origins: Vec::new(),
            threads: 0,
            unready_ms: 0,
        }
    }
}

/// An open gateway.
pub(crate) struct Door {
    /// Its metrics.
    pub metrics: Metrics,
    tasks: Tasks,
    exporting: Exporting,
}

impl Door {
    /// Waits until one of its tasks dies.
    pub(crate) async fn failure(&self) -> Failure {
        self.tasks.failure().await
    }

    /// Closes it: no new connections, running requests end.
    pub(crate) async fn stop(self) {
        self.tasks.drain(Duration::from_secs(20)).await;
        self.exporting.finish().await;
    }
}

/// Opens the gateway on `listener`.
pub(crate) async fn open(
    listener: TcpListener,
    directory: Directory,
    signer: Signer,
    secrets: &Secrets,
    configuration: &Configuration,
) -> Result<Door> {
    let live = configuration.live::<DoorSettings>(GATEWAY)?;
    let issuer: auth::Settings = configuration.settings("auth")?;
    let clock = Clock::system();
    let settings = settings(&live.get(), issuer.issuer);
    let tasks = Tasks::new();
    let shared: RedisSettings = configuration.settings(redis::SECTION)?;
    let redis = telemetry::in_service(GATEWAY, Redis::open(&shared, GATEWAY, secrets, &tasks)).await?;
    let revocations = Revocations::default();
    let follower = Follower::new(GATEWAY, directory.clone(), signer.clone(), clock.clone());
    let metrics = Metrics::new(GATEWAY);
    let about = About { service: GATEWAY, instance: format!("{GATEWAY}@{}", listener.local_addr()?), product: TITLE };
    let exporting = Exporting::start(&about, configuration, &clock, &metrics)?;
    let member = exporting.member();
    let gateway = Gateway::new(Options {
        routes: services::public_routes(),
        directory,
        signer,
        revocations: revocations.clone(),
        redis,
        metrics: metrics.clone(),
        clock,
        settings,
    });
    tasks.spawn("gateway settings", follow(live, gateway.clone(), tasks.stopping()));
    let stop = tasks.stopping();
    tasks.spawn("gateway", telemetry::in_service(member.clone(), async move { gateway.serve(listener, stop).await }));
    let stop = tasks.stopping();
    let heard = async move {
        follower.every::<contracts::auth::SessionRevoked>(|event| note(&revocations, event), stop).await;
    };
    tasks.spawn("revocations", telemetry::in_service(member, heard));
    Ok(Door { metrics, tasks, exporting })
}

fn settings(figures: &DoorSettings, issuer: String) -> Settings {
    let (threads, unready) = (figures.threads, Duration::from_millis(figures.unready_ms));
    let mut settings = Settings { issuer, threads, unready, ..Settings::default() };
    settings.per_address = Rate::per_second("address", figures.per_address);
    settings.tiers.free = Rate { requests: figures.per_caller, ..settings.tiers.free };
    settings.max_in_flight = figures.max_in_flight;
    settings.cors.origins.clone_from(&figures.cors_origins);
    settings
}

/// Gives the gateway its figures whenever they change.
async fn follow(live: Live<DoorSettings>, gateway: Gateway, stop: CancellationToken) {
    let mut changes = live.changes();
    while let Some(Ok(())) = stop.run_until_cancelled(changes.changed()).await {
        gateway.set_figures(settings(&live.get(), String::new()).figures());
    }
}

/// A token outlives its session by at most its own life; after that nobody has to remember.
const LONGEST_TOKEN: Duration = Duration::from_secs(15 * 60);

fn note(revocations: &Revocations, envelope: &kernel::events::Envelope) {
    match Received::<contracts::auth::SessionRevoked>::open(envelope) {
        Ok(received) => revocations.revoke_session(received.session_id, received.at.plus(LONGEST_TOKEN)),
        Err(error) => {
            let kind = contracts::auth::SessionRevoked::DEF.name;
            tracing::error!(%error, kind, "an event does not read");
        }
    }
}
