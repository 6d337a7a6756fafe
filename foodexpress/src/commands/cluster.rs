//! The cluster profile: the same city on real engines, each the user's own or one that is started here and ends with it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use engines::{Action, Card, Engine, Fleet, Setup};
use kernel::config::{self, Configuration};
use kernel::events::KafkaSettings;
use kernel::redis::{self, Administrator, RedisSettings};
use kernel::registry::{Kind, RegistrySettings};
use kernel::secrets::Secret;
use kernel::store::PostgresSettings;
use kernel::telemetry::{TRACE_TABLE, TraceSettings};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::migrate::{Administrators, Ground, admin_url, redis_administrator};
use crate::city::{DataFolder, Given};
use crate::output::Output;
use crate::settings;

/// What a city runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Profile {
    /// A file per service, the stream from outbox to consumer; or whatever the settings name.
    #[default]
    Local,
    /// PostgreSQL with a standby and PgBouncer, Kafka, Redis, Consul and a collector, two instances of each service.
    Cluster,
}

/// What a city runs on, and how many of each.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClusterArgs {
    /// What the city runs on.
    #[arg(long, value_enum, default_value_t)]
    pub(super) profile: Profile,
    /// With --profile cluster: the engines to start here unless the settings name an address of your own.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "postgres,standby,pgbouncer,kafka3,redis,consul,jaeger",
        value_name = "ENGINE,…"
    )]
    engines: Vec<String>,
    /// Instances of each service and of the gateway; two in a cluster, else one.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=9))]
    instances: Option<u16>,
    /// The folder that keeps slow builds of engines from run to run.
    #[arg(long, env = "FX_ENGINE_CACHE")]
    cache: Option<PathBuf>,
}

impl ClusterArgs {
    /// Instances of each service and of the gateway.
    pub(super) fn instances(&self) -> u16 {
        self.instances.unwrap_or(if self.profile == Profile::Cluster { 2 } else { 1 })
    }

    /// Starts the engines that the settings do not name, brings all up to this program, and adds the addresses to what the city is given.
    pub(super) async fn prepare(&self, data: &DataFolder, given: &mut Given, out: Output) -> Result<Option<Cluster>> {
        if self.profile == Profile::Local {
            return Ok(None);
        }
        Cluster::start(self, data, given, out).await.map(Some)
    }
}

/// Engines that run as long as the city does.
pub(crate) struct Cluster {
    stop: CancellationToken,
    serving: JoinHandle<Result<()>>,
}

impl Cluster {
    #[expect(clippy::disallowed_methods, reason = "whoever stops the cluster waits for it and is told how it ended")]
    async fn start(args: &ClusterArgs, data: &DataFolder, given: &mut Given, out: Output) -> Result<Self> {
        let chosen = wanted(&args.engines, data, given)?;
        let cache = args.cache.clone().map_or_else(engines::default_cache, Ok)?;
        let setup = Setup { folder: data.path().to_owned(), cache };
        let fleet = Fleet::up(&setup, &chosen, &move |text: &str| out.say(text)).await?;
        let brought = bring_up(&fleet, data, given, out).await;
        if let Err(error) = brought {
            fleet.down().await;
            return Err(error);
        }
        let stop = CancellationToken::new();
        let serving = tokio::spawn(engines::serve(fleet, stop.clone().cancelled_owned()));
        let names: Vec<&str> = chosen.iter().map(|engine| engine.name).collect();
        out.say(format!("engines of this city: {}; their data goes with them when it stops", names.join(", ")));
        Ok(Self { stop, serving })
    }

    /// Ends the engines; their data goes with them.
    pub(crate) async fn stop(self) -> Result<()> {
        self.stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(60), self.serving).await;
        ended.context("the engines do not end")?.context("what held the engines broke")?
    }
}

/// Those of the engines whose address nobody set.
fn wanted(names: &[String], data: &DataFolder, given: &Given) -> Result<Vec<&'static Engine>> {
    let recipe = data.recipe(given.city.clone(), &given.flags);
    let set = Configuration::of(settings::tables(), config::read_once(&recipe)?)?;
    let own_store = set.settings::<PostgresSettings>(PostgresSettings::TABLE)?.url.is_some();
    let own_bus = set.settings::<KafkaSettings>("kafka")?.is_on();
    let own_redis = !set.settings::<RedisSettings>(redis::SECTION)?.url.is_empty();
    let own_registry = set.settings::<RegistrySettings>("registry")?.kind != Kind::Own;
    let own_collector = !set.settings::<TraceSettings>(TRACE_TABLE)?.endpoint.is_empty();
    let is_set = |name: &str| match name {
        "postgres" | "standby" | "pgbouncer" => own_store,
        "kafka" | "kafka3" => own_bus,
        "redis" => own_redis,
        "consul" | "etcd" => own_registry,
        "jaeger" => own_collector,
        _ => false,
    };
    engines::chosen(&names.iter().filter(|name| !is_set(name)).cloned().collect::<Vec<_>>())
}

/// Where the engines are goes into what the city is given; then schemas, roles, topics and users are made.
async fn bring_up(fleet: &Fleet, data: &DataFolder, given: &mut Given, out: Output) -> Result<()> {
    let cards = fleet.cards()?;
    given.city.extend(addresses(&cards));
    let ours = fleet.variables()?.remove("FX_TEST_POSTGRES");
    let postgres = ours.map_or_else(|| admin_url(None), |url| Ok(Some(url)))?;
    let redis = redis(&cards)?.map_or_else(redis_administrator, |found| Ok(Some(found)))?;
    let administrators = Administrators { postgres, ..Administrators::default() };
    let ground = Ground::of(data, given, out).await?;
    if administrators.postgres.is_some() {
        ground.databases(&administrators).await?;
    } else {
        out.say("databases are taken as `migrate` left them: nobody named an administrator");
    }
    ground.topics().await?;
    ground.redis_users(redis.as_ref()).await?;
    if cards.contains_key("standby") {
        // From here on, because until a standby has followed nothing would be acknowledged.
        fleet.act(Action::Synchronize, "postgres").await?;
    }
    Ok(())
}

type Cards = std::collections::BTreeMap<String, Card>;

/// The settings that lead to these engines.
fn addresses(cards: &Cards) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let mut set = |name: &str, value: String| all.push((name.to_owned(), value));
    let at = |node: &str, port: &str| cards.get(node).and_then(|card| card.addresses.get(port));
    let sql = |address: &String| format!("postgres://{address}/postgres");
    if let Some(server) = at("pgbouncer", "sql").or_else(|| at("postgres", "sql")) {
        set("postgres.url", sql(server));
        set("postgres.pooler", cards.contains_key("pgbouncer").to_string());
    }
    let servers: Vec<&str> =
        ["postgres", "standby"].iter().filter_map(|node| at(node, "sql")).map(String::as_str).collect();
    if !servers.is_empty() {
        let either = servers.join(",");
        set("postgres.direct_url", format!("postgres://{either}/postgres?target_session_attrs=read-write"));
    }
    if let Some(standby) = at("standby", "sql") {
        set("postgres.standby_url", sql(standby));
    }
    let brokers: Vec<&String> = cards.values().filter_map(|card| card.addresses.get("broker")).collect();
    if !brokers.is_empty() {
        set("kafka.brokers", brokers.iter().map(|address| address.as_str()).collect::<Vec<_>>().join(","));
        set("kafka.replication", brokers.len().to_string());
        set("kafka.min_insync_replicas", brokers.len().div_ceil(2).to_string());
        set("bus.kind", "kafka".to_owned());
    }
    if let Some(card) = cards.get("redis") {
        set("redis.url", card.url.clone());
    }
    for (name, kind) in [("consul", "consul"), ("etcd", "etcd")] {
        if let Some(card) = cards.get(name) {
            set("registry.kind", kind.to_owned());
            set("registry.url", card.url.clone());
        }
    }
    if let Some(collector) = at("jaeger", "otlp") {
        set("traces.endpoint", format!("http://{collector}"));
    }
    all
}

/// Makes the users of the Redis in this folder again.
pub(super) async fn redis_users(data: &DataFolder, given: &Given, out: Output) -> Result<()> {
    let administrator = redis(&Card::read(data.path())?)?;
    Ground::of(data, given, out).await?.redis_users(administrator.as_ref()).await.map(drop)
}

/// Who may make users in the Redis of these engines.
fn redis(cards: &Cards) -> Result<Option<Administrator>> {
    let Some(file) = cards.get("redis").and_then(|card| card.credentials.as_ref()) else { return Ok(None) };
    let password = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Some(Administrator { user: "default".to_owned(), password: Some(Secret::new(password.trim().as_bytes())) }))
}
