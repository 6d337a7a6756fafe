//! A publisher of pages, and processes that keep copies of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use uuid::Uuid;

use crate::cache::{Cache, Changes, Keep, Loaded};
use crate::clock::Clock;
use crate::events::{Payload, Subject};
use crate::http::Signer;
use crate::redis::Redis;
use crate::registry::Directory;
use crate::store::{Engine, Options, StoreError};
use crate::task::Tasks;
use crate::telemetry::Metrics;
use crate::testing::station::Station;

/// A page, as its events carry it.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct PageState {
    id: Uuid,
    version: i64,
}

impl Payload for PageState {
    fn subject(&self) -> Subject {
        Subject { org: Uuid::nil(), id: self.id, version: self.version }
    }
}

#[expect(unreachable_pub, reason = "events are declared public")]
mod events {
    use super::PageState;
    crate::events! { publisher "library", topic "library.events", aggregate "page";
        /// A page changed.
        "page.changed" v 1 [] => PageChanged(PageState);
    }
}
use events::{EVENTS, PageChanged};

/// The page.
pub const ID: Uuid = Uuid::from_u128(7);
/// How long anything may take before it counts as never.
pub const NEVER: Duration = Duration::from_secs(20);

/// A publisher, and what stands in its database.
pub struct Library {
    /// The publisher.
    pub station: Station,
    /// Where readers find it.
    pub directory: Directory,
    /// Version and text of the page.
    pub truth: Arc<Mutex<(i64, String)>>,
    loads: Arc<AtomicU64>,
    tasks: Tasks,
    _folder: tempfile::TempDir,
}

impl Library {
    /// Opens it, with one page.
    pub async fn open() -> Self {
        let folder = tempfile::tempdir().expect("the library works");
        let engine = Engine::Sqlite { path: folder.path().join("library.db") };
        let options = Options {
            claims: EVENTS.iter().map(|event| event.name).collect(),
            ..Options::new(engine, Clock::system())
        };
        let station = Station::start("library", options, &[], "127.0.0.1:0".parse().expect("the library works"))
            .await
            .expect("the library works");
        let directory = Directory::default();
        directory.set("library", vec![station.address]);
        let truth = Arc::new(Mutex::new((1, "text 1".to_owned())));
        Self { station, directory, truth, loads: Arc::default(), tasks: Tasks::new(), _folder: folder }
    }

    /// A process with copies.
    pub async fn reader(&self, redis: Option<&Redis>) -> (Cache<String>, Metrics) {
        let metrics = Metrics::new("library");
        let keep = Keep { entries: 100, life: Duration::from_secs(600) };
        let cache = Cache::new("pages", keep, redis, &metrics);
        let changes = Changes::of(
            "library",
            self.station.store.clone(),
            self.directory.clone(),
            Signer::new(b"a secret of these stations"),
            Clock::system(),
        );
        changes.drop::<PageChanged, _>(&cache).listen(&self.tasks);
        until("events are heard", || cache.is_trusted()).await;
        (cache, metrics)
    }

    /// Reads the page through a cache.
    pub async fn read(&self, cache: &Cache<String>) -> String {
        let load = async || {
            self.loads.fetch_add(1, Ordering::SeqCst);
            let (version, value) = self.truth.lock().clone();
            Ok::<_, StoreError>(Some(Loaded { value, version }))
        };
        cache.get(ID, load).await.expect("the library works").expect("the library works").as_ref().clone()
    }

    /// Changes the page and says so; gives its new text.
    pub async fn change(&self) -> String {
        let version = {
            let mut truth = self.truth.lock();
            truth.0 += 1;
            truth.1 = format!("text {}", truth.0);
            truth.0
        };
        let emit = move |tx: crate::store::Tx| async move { tx.emit(PageChanged(PageState { id: ID, version })) };
        self.station.store.write(emit).await.expect("the library works");
        format!("text {version}")
    }

    /// How often the page was loaded.
    pub fn loads(&self) -> u64 {
        self.loads.load(Ordering::SeqCst)
    }
}

/// Waits until it is so.
///
/// # Panics
/// If it never happens.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < NEVER, "after {NEVER:?} still not: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until this text is read.
///
/// # Panics
/// If it never happens.
pub async fn until_reads(library: &Library, cache: &Cache<String>, text: &str) {
    let began = Instant::now();
    while library.read(cache).await != text {
        assert!(began.elapsed() < NEVER, "after {NEVER:?} still not {text}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// How many reads of a process this tier answered.
pub fn reads(metrics: &Metrics, tier: &str) -> u64 {
    let start = format!("cache_reads_total{{service=\"library\",cache=\"pages\",tier=\"{tier}\"}} ");
    let text = metrics.render();
    text.lines().find_map(|line| line.strip_prefix(&start)).map_or(0, |n| n.parse().expect("the library works"))
}
