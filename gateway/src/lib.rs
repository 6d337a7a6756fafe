//! The only public door: limits, tokens, routing and balancing. It knows manifests, not services.

mod admission;
mod compress;
mod cors;
mod door;
mod forward;
mod headers;
mod idle;
mod keys;
mod lanes;
mod lease;
mod limits;
mod line;
mod metrics;
mod outbound;
mod pages;
mod passage;
mod paths;
mod revocations;
mod said;
mod shared_revocations;
mod table;
mod tokens;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use kernel::clock::Clock;
use kernel::http::assertion::Signer;
use kernel::http::server::{Limits, serve_peers};
use kernel::manifest::PublicRoute;
use kernel::redis::Redis;
use kernel::registry::Directory;
use kernel::resilience::BreakerSettings;
use kernel::telemetry::Metrics;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use cors::Cors;
pub use limits::{Rate, Tiers};
pub use revocations::Revocations;

/// The name under which gateways are listed and sign.
pub(crate) const NAME: &str = "gateway";

/// Figures of the gateway; the defaults are those the rules name.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who issues tokens.
    pub issuer: String,
    /// For whom tokens are issued.
    pub audience: String,
    /// The service that publishes the keys at `/.well-known/jwks.json` and may see tokens.
    pub auth_service: String,
    /// Limits of the public port.
    pub limits: Limits,
    /// Requests of one address.
    pub per_address: Rate,
    /// Requests of one signed-in caller.
    pub tiers: Tiers,
    /// Requests under way in all; more are shed.
    pub max_in_flight: usize,
    /// From a request to the head of its answer, second tries included.
    pub deadline: Duration,
    /// To reach an instance.
    pub connect: Duration,
    /// Second tries in percent of first ones.
    pub retry_percent: u32,
    /// Per service.
    pub breaker: BreakerSettings,
    /// Which pages of other sites may call.
    pub cors: Cors,
    /// How often a stream's token is looked at again.
    pub lease_check: Duration,
    /// From not ready to not accepting, so that balancers notice.
    pub unready: Duration,
    /// Threads that serve connections, at most one for each core; 0 is one for each.
    pub threads: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            issuer: "http://localhost:8080".to_owned(),
            audience: "foodexpress".to_owned(),
            auth_service: "auth".to_owned(),
            limits: Limits { strict_framing: true, max_connections_per_ip: Some(1024), ..Limits::default() },
            per_address: Rate::per_second("address", 200),
            tiers: Tiers::default(),
            max_in_flight: 1024,
            deadline: Duration::from_secs(10),
            connect: Duration::from_secs(1),
            retry_percent: 10,
            breaker: BreakerSettings::default(),
            cors: Cors::default(),
            lease_check: Duration::from_secs(5),
            unready: Duration::from_secs(3),
            threads: 0,
        }
    }
}

/// Those of the [`Settings`] that may change while the gateway runs.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Requests of one address.
    pub per_address: Rate,
    /// Requests of one signed-in caller.
    pub tiers: Tiers,
    /// Requests under way in all; more are shed.
    pub max_in_flight: usize,
    /// Which pages of other sites may call.
    pub cors: Cors,
}

impl Settings {
    /// The part that may change.
    pub fn figures(&self) -> Figures {
        let (per_address, tiers) = (self.per_address.clone(), self.tiers.clone());
        Figures { per_address, tiers, max_in_flight: self.max_in_flight, cors: self.cors.clone() }
    }
}

/// What the gateway works with.
pub struct Options {
    /// The table.
    pub routes: Vec<PublicRoute>,
    /// Where the services listen.
    pub directory: Directory,
    /// Proves to services that we set the identity headers.
    pub signer: Signer,
    /// Sessions and users whose tokens no longer count; keep a clone and feed it.
    pub revocations: Revocations,
    /// What gateways share, where it is set: limits and revocations. It may be away at any moment.
    pub redis: Option<Redis>,
    /// Gets our metrics and is shown at `/metrics`.
    pub metrics: Metrics,
    /// Time.
    pub clock: Clock,
    /// Figures.
    pub settings: Settings,
}

/// The gateway. Clones are the same one.
#[derive(Clone)]
pub struct Gateway(Arc<door::Door>);

impl Gateway {
    /// A gateway that is ready to serve.
    pub fn new(options: Options) -> Self {
        Self(Arc::new(door::Door::new(options)))
    }

    /// Takes other figures; requests under way go on with those they began with.
    pub fn set_figures(&self, figures: Figures) {
        self.0.set_figures(figures);
    }

    /// Replaces the route table; requests under way keep the one they began with.
    pub fn set_routes(&self, routes: &[PublicRoute]) {
        self.0.set_routes(routes);
    }

    /// Serves until `shutdown`: first unready, then closed to new connections, then drained.
    pub async fn serve(&self, listener: TcpListener, shutdown: CancellationToken) {
        let door = &self.0;
        let closing = CancellationToken::new();
        // HTTP's own handler limit stays off: our deadline says more, and streams may last.
        let limits = Limits { handler: None, ..door.settings.limits.clone() };
        let make = |peer| door::Door::service(Arc::clone(door), peer);
        let wind_down = async {
            shutdown.cancelled().await;
            door.drain();
            tokio::time::sleep(door.settings.unready).await;
            closing.cancel();
        };
        let lanes = lanes::Lanes::open(door.settings.threads);
        let serving = serve_peers(listener, make, limits, closing.clone(), lanes.handles());
        let upkeep = door.upkeep();
        tokio::select! {
            ((), ()) = async { tokio::join!(serving, wind_down) } => {}
            () = upkeep => {}
        }
        door.close_tunnels().await;
    }
}

/// Runs a gateway until `shutdown`.
pub async fn run(listener: TcpListener, options: Options, shutdown: CancellationToken) {
    Gateway::new(options).serve(listener, shutdown).await;
}
