//! A payment provider with its own books: the independent witness of what money really moved.
//!
//! Words: a *token* stands for a card; an *authorisation* holds money; a *capture* takes it, once per authorisation;
//! a *void* or an *expiry* gives the hold back; a *refund* gives captured money back; the *books* are the append-only
//! journal of all of this with its double entries.
//!
//! What always holds: nothing is answered before it is on disk; one idempotency key has one effect and one answer;
//! debits equal credits per currency; a card number is never stored; nothing here is shared with the code it judges.
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::keys::Key;
use crate::network::{Network, Rules, load_setting};
use crate::problem::Problem;
use crate::store::Store;

mod api;
mod audit;
mod authorizations;
mod background;
mod books;
mod cards;
pub mod cli;
mod clock;
mod faults;
mod idempotency;
mod keys;
mod money;
mod network;
mod problem;
mod request;
mod server;
mod store;
mod webhooks;

pub use clock::Clock;
pub use faults::FaultRates;
pub use keys::KeySource;
pub use webhooks::signature;

/// How a network is set up.
#[derive(Clone)]
pub struct Options {
    /// The folder of its database; made if missing.
    pub data_dir: PathBuf,
    /// Where it listens; port 0 picks a free one.
    pub addr: SocketAddr,
    /// What callers write behind `Authorization: Bearer`.
    pub api_key: KeySource,
    /// The key of webhook signatures, used as the bytes of this text.
    pub webhook_secret: KeySource,
    /// Where events go; none keeps the stored address, or the events if there is none.
    pub webhook_url: Option<String>,
    /// The seed of faults by rate, unless one is stored or named in `faults`.
    pub seed: u64,
    /// Fault rates from the start; none keeps the stored ones.
    pub faults: Option<FaultRates>,
    /// How long a hold lasts.
    pub authorization_ttl: Duration,
    /// How long a call that is made to time out stays open.
    pub hang: Duration,
    /// Where the time is read.
    pub clock: Clock,
}

impl Options {
    /// The usual network: a free port on the loopback, no faults, holds of seven days.
    pub fn new(
        data_dir: impl Into<PathBuf>,
        api_key: impl Into<KeySource>,
        webhook_secret: impl Into<KeySource>,
    ) -> Self {
        Self {
            data_dir: data_dir.into(),
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            api_key: api_key.into(),
            webhook_secret: webhook_secret.into(),
            webhook_url: None,
            seed: 0,
            faults: None,
            authorization_ttl: Duration::from_secs(7 * 24 * 60 * 60),
            hang: Duration::from_secs(30),
            clock: Clock::system(),
        }
    }
}

/// Why a network could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The linked SQLite is known to lose data.
    #[error("SQLite {0} is too old, 3.51.3 is needed")]
    SqliteTooOld(String),
    /// The file was written by a newer version of this program.
    #[error("the database has schema {0}, which this program does not know")]
    UnknownSchema(i64),
    /// The file system does not allow the write-ahead log.
    #[error("the database cannot use a write-ahead log, it is in mode {0}")]
    NoWal(String),
    /// The database could not be opened.
    #[error("the database cannot be opened")]
    Database(#[from] rusqlite::Error),
    /// A file or socket could not be opened.
    #[error("a file or a socket cannot be opened")]
    Io(#[from] std::io::Error),
    /// A stored or given setting is not usable.
    #[error("the setting {0} is not usable")]
    Setting(&'static str),
}

/// A network at work; dropping it ends it at once, as a crash would.
pub struct Running {
    local_addr: SocketAddr,
    stop: watch::Sender<bool>,
    server: JoinSet<()>,
    background: JoinSet<()>,
    writer: Option<JoinHandle<()>>,
}

/// Starts a network and returns once it listens.
pub async fn run(options: Options) -> Result<Running, StartError> {
    let (store, writer) = Store::open(&options.data_dir)?;
    let listener = TcpListener::bind(options.addr).await?;
    let local_addr = listener.local_addr()?;
    let network = Arc::new(set_up(store, local_addr, options).await?);
    let (stop, stopped) = watch::channel(false);
    let (mut serving, mut working) = (JoinSet::new(), JoinSet::new());
    serving.spawn(server::serve(listener, api::router(Arc::clone(&network)), stopped));
    let sender = background::send_webhooks(Arc::clone(&network));
    working.spawn(async move { report("sending webhooks", sender.await) });
    let sweeper = background::expire_authorizations(Arc::clone(&network));
    working.spawn(async move { report("expiring authorisations", sweeper.await) });
    working.spawn(async move { network.store.ended().await });
    tracing::info!(address = %local_addr, "the card network is open");
    Ok(Running { local_addr, stop, server: serving, background: working, writer: Some(writer) })
}

async fn set_up(store: Store, local_addr: SocketAddr, options: Options) -> Result<Network, StartError> {
    let load = |conn: &rusqlite::Connection| Ok((load_setting(conn, "faults")?, load_setting(conn, "webhook_url")?));
    let (faults, webhook_url) = store.run(load).await.map_err(|_| StartError::Setting("storage"))?;
    let stored: Option<FaultRates> = faults.and_then(|text| serde_json::from_str(&text).ok());
    let mut faults = stored.unwrap_or_default();
    faults.seed = faults.seed.or(Some(options.seed));
    let ttl = i64::try_from(options.authorization_ttl.as_millis());
    let rules = Rules {
        authorization_ttl_ms: ttl.map_err(|_| StartError::Setting("authorization_ttl"))?,
        base_url: format!("http://{local_addr}"),
        faults,
    };
    let network = Network {
        store,
        clock: options.clock,
        api_key: Key::open(options.api_key)?,
        webhook_secret: Key::open(options.webhook_secret)?,
        hang: options.hang,
        rules: RwLock::new(Arc::new(rules)),
        webhook_url: RwLock::new(webhook_url),
        events_ready: Notify::new(),
        deadlines_changed: Notify::new(),
    };
    if let Some(rates) = options.faults {
        network.set_faults(rates).await.map_err(|_| StartError::Setting("faults"))?;
    }
    if let Some(url) = options.webhook_url {
        network.set_webhook_url(url).await.map_err(|_| StartError::Setting("webhook_url"))?;
    }
    Ok(network)
}

fn report(task: &str, outcome: Result<(), Problem>) {
    if let Err(problem) = outcome {
        tracing::error!(code = ?problem.code, "{task} ended");
    }
}

impl Running {
    /// Where the network listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Completes when a part of the network has ended by itself; it should then be restarted.
    pub async fn failed(&mut self) {
        tokio::select! {
            _ = self.server.join_next() => {}
            _ = self.background.join_next() => {}
        }
    }

    /// Lets calls under way finish, closes the books and returns when nothing is left.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        while self.server.join_next().await.is_some() {}
        self.background.shutdown().await;
        if let Some(writer) = self.writer.take() {
            let joined = tokio::task::spawn_blocking(move || writer.join()).await;
            tracing::info!(clean = joined.is_ok_and(|joined| joined.is_ok()), "the card network is closed");
        }
    }
}
