//! One key, one effect, one answer, over real HTTP, on a service with its own database.
//!
//! Each check gives its complaints as text. With its fault planted it meets a till with a mistake, and has to complain of
//! just that.

mod door;
mod hang_up;
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

use crate::case::{Case, case};
use crate::place::Place;
use door::{Door, signer};
use till::{Build, STEPS, Signals};

pub(crate) use kills::{TILL, man};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!("idempotency.same_key", "fifty requests at once under one key have one effect and one answer",
            fault "a route that knows no keys", same_key::storm),
        case!("idempotency.key", "a key is required and has a shape",
            fault "a route that knows no keys", rules::keys),
        case!("idempotency.other_request", "a key used for another request is refused with 422",
            fault "a route that knows no keys", rules::others),
        case!("idempotency.decision", "a decision stays with its key, though the world has changed",
            fault "a route that knows no keys", rules::decided),
        case!("idempotency.failure", "a failure leaves neither key nor effect",
            fault "an effect outside of the key's unit", rules::failed),
        case!("idempotency.retry", "after a failure the same key may try again, and then takes effect once",
            fault "a failure that comes back as if it were a decision", rules::retried),
        case!("idempotency.owner", "a key belongs to one caller and one route",
            fault "a key that ignores its caller", rules::owned),
        case!("idempotency.in_progress", "a rival of a slow request gets its answer in the end",
            fault "a route that knows no keys", rules::rival),
        case!("idempotency.hang_up", "a caller who hangs up is served once and finds the answer later",
            fault "a route that knows no keys", hang_up::served_once),
        case!("idempotency.lost_commit", "a lost answer to COMMIT is resolved by the key",
            fault "a route that knows no keys", lost::resolved,
            not "sqlite": "there is no connection to lose between a process and its own file"),
        case!("idempotency.kill_points", "a kill at any point of a request leaves all of it or nothing",
            fault "an effect outside of the key's unit", kills::at_each_point),
        case!("idempotency.kill_load", "keys in flight during kills have one effect and one answer",
            fault "an effect outside of the key's unit", kills::under_load),
    ]
}

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
        let folder = tempfile::tempdir().expect("a temporary folder");
        let engine = engine(folder.path(), postgres);
        Self::open_on(build, engine, folder).await
    }

    /// The same on this very engine.
    pub(crate) async fn open_on(build: Build, engine: Engine, folder: TempDir) -> Self {
        let signals = Arc::<Signals>::default();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a till starts");
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
    let aside = Store::open(Options::new(aside, Clock::system()), STEPS).await.expect("a till starts");
    let around = Surroundings {
        listener,
        engine,
        directory: Directory::default(),
        signer: signer(),
        secrets: Secrets::open(folder).expect("a till starts"),
        configuration: Sources::new("TILL").into(),
        clock: Clock::system(),
        title: "A till",
    };
    start(&till::declare(build, aside, signals), around).await.expect("a till starts")
}

pub(crate) fn engine(folder: &Path, postgres: Option<&str>) -> Engine {
    let Some(url) = postgres else { return Engine::Sqlite { path: folder.join("till.db") } };
    let unique = folder.file_name().expect("a till starts").to_string_lossy().to_lowercase().replace(['.', '-'], "_");
    scratch::postgres(url, url, &format!("till{unique}"))
}

/// Whether the slow set was asked for.
fn slow() -> bool {
    scratch::told("FX_TEST_SLOW").as_deref() == Some("1")
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

/// Runs a check over a sound till; or over one with this mistake, of which it has to complain in these words.
async fn held(
    place: &Place,
    mistake: Build,
    says: &str,
    figure: impl Into<String>,
    check: impl AsyncFn(&Shop) -> Vec<String>,
) -> String {
    let shop = Shop::open(if place.seeded { mistake } else { Build::Sound }, place.postgres()).await;
    let found = check(&shop).await;
    shop.close().await;
    verdict(place, &found, says, figure.into())
}

/// Panics with what was found; a planted mistake has to be told in these words, or it counts as not found.
fn verdict(place: &Place, found: &[String], says: &str, figure: String) -> String {
    if place.seeded && !found.iter().any(|complaint| complaint.contains(says)) {
        return format!("nobody complains of \"{says}\", but: {}", found.join("; "));
    }
    assert!(found.is_empty(), "{}", found.iter().find(|c| c.contains(says)).unwrap_or(&found[0]));
    figure
}
