//! One key, one effect, one answer, over real HTTP, on a service with its own database, on every engine there is.
//!
//! Each check gives its complaints as text. It is run twice: over a sound service, where it must be silent, and over one
//! with a planted mistake, where it must not be.

mod disconnect;
mod door;
mod kills;
mod lost;
mod rules;
mod same_key;
mod till;

use std::path::Path;
use std::sync::Arc;

use kernel::clock::Clock;
use kernel::config::Sources;
use kernel::registry::Directory;
use kernel::secrets::Secrets;
use kernel::service::{Running, Surroundings, start};
use kernel::store::{Engine, Options, Store};
use kernel::testing::scratch;
use tempfile::TempDir;
use tokio::net::TcpListener;

use door::{Door, signer};
use till::{Build, STEPS, Signals};

/// A running till and the way to it.
pub(crate) struct Shop {
    pub(crate) door: Door,
    pub(crate) signals: Arc<Signals>,
    running: Running,
    _folder: TempDir,
}

impl Shop {
    /// A till of this build in this process, on the PostgreSQL at this address or on SQLite.
    pub(crate) async fn open(build: Build, postgres: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = engine(folder.path(), postgres);
        Self::open_on(build, engine, folder).await
    }

    /// The same on this very engine.
    pub(crate) async fn open_on(build: Build, engine: Engine, folder: TempDir) -> Self {
        let signals = Arc::<Signals>::default();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let running = serve_on(build, folder.path(), engine, listener, signals.clone()).await;
        Self { door: Door::to(running.address), signals, running, _folder: folder }
    }

    pub(crate) async fn close(self) {
        self.running.stop().await;
    }
}

/// Starts a till whose databases belong to this folder.
pub(crate) async fn serve(
    build: Build,
    folder: &Path,
    postgres: Option<&str>,
    listener: TcpListener,
    signals: Arc<Signals>,
) -> Running {
    serve_on(build, folder, engine(folder, postgres), listener, signals).await
}

async fn serve_on(
    build: Build,
    folder: &Path,
    engine: Engine,
    listener: TcpListener,
    signals: Arc<Signals>,
) -> Running {
    let aside = Engine::Sqlite { path: folder.join("aside.db") };
    let aside = Store::open(Options::new(aside, Clock::system()), STEPS).await.unwrap();
    let around = Surroundings {
        listener,
        engine,
        directory: Directory::default(),
        signer: signer(),
        secrets: Secrets::open(folder).unwrap(),
        configuration: Sources::new("TILL").into(),
        clock: Clock::system(),
        title: "A till",
    };
    start(&till::declare(build, aside, signals), around).await.unwrap()
}

pub(crate) fn engine(folder: &Path, postgres: Option<&str>) -> Engine {
    let Some(url) = postgres else { return Engine::Sqlite { path: folder.join("till.db") } };
    let unique = folder.file_name().unwrap().to_string_lossy().to_lowercase().replace(['.', '-'], "_");
    scratch::postgres(url, url, &format!("till{unique}"))
}

/// SQLite always, and the PostgreSQL that `FX_TEST_POSTGRES` names.
pub(crate) fn engines() -> Vec<Option<String>> {
    [None].into_iter().chain(scratch::address("FX_TEST_POSTGRES").map(Some)).collect()
}

/// Whether the slow set was asked for.
pub(crate) fn slow() -> bool {
    variable("FX_TEST_SLOW").is_some_and(|value| value == "1")
}

#[expect(clippy::disallowed_methods, reason = "what to run is said by the one who starts the tests")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// What a check found; nothing is good.
#[derive(Debug, Default)]
pub(crate) struct Complaints(pub(crate) Vec<String>);

impl Complaints {
    pub(crate) fn unless(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.0.push(what());
        }
    }
}
