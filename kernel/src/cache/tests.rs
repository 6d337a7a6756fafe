//! Two processes with copies of one publisher's things: dropped in both tiers by events, and never older than an event.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use uuid::Uuid;

use super::*;
use crate::clock::Clock;
use crate::events::{Payload, Subject};
use crate::http::Signer;
use crate::registry::Directory;
use crate::store::{Engine, Options, StoreError};
use crate::task::Tasks;
use crate::testing::redis::Server;
use crate::testing::station::Station;

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[expect(unreachable_pub, reason = "events are declared public, and so is what they carry")]
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

const ID: Uuid = Uuid::from_u128(7);
const NEVER: Duration = Duration::from_secs(20);

/// A publisher, and what stands in its database.
struct Library {
    station: Station,
    directory: Directory,
    truth: Arc<Mutex<(i64, String)>>,
    loads: Arc<AtomicU64>,
    tasks: Tasks,
    _folder: tempfile::TempDir,
}

impl Library {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::Sqlite { path: folder.path().join("library.db") };
        let options = Options {
            claims: EVENTS.iter().map(|event| event.name).collect(),
            ..Options::new(engine, Clock::system())
        };
        let station = Station::start("library", options, &[], "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let directory = Directory::default();
        directory.set("library", vec![station.address]);
        let truth = Arc::new(Mutex::new((1, "text 1".to_owned())));
        Self { station, directory, truth, loads: Arc::default(), tasks: Tasks::new(), _folder: folder }
    }

    /// A process with copies.
    async fn reader(&self, redis: Option<&Redis>) -> (Cache<String>, Metrics) {
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

    async fn read(&self, cache: &Cache<String>) -> String {
        let load = async || {
            self.loads.fetch_add(1, Ordering::SeqCst);
            let (version, value) = self.truth.lock().clone();
            Ok::<_, StoreError>(Some(Loaded { value, version }))
        };
        cache.get(ID, load).await.unwrap().unwrap().as_ref().clone()
    }

    /// Changes what stands there and says so.
    async fn change(&self) -> String {
        let version = {
            let mut truth = self.truth.lock();
            truth.0 += 1;
            truth.1 = format!("text {}", truth.0);
            truth.0
        };
        let emit = move |tx: crate::store::Tx| async move { tx.emit(PageChanged(PageState { id: ID, version })) };
        self.station.store.write(emit).await.unwrap();
        format!("text {version}")
    }

    fn loads(&self) -> u64 {
        self.loads.load(Ordering::SeqCst)
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < NEVER, "after {NEVER:?} still not: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn until_reads(library: &Library, cache: &Cache<String>, text: &str) {
    let began = Instant::now();
    while library.read(cache).await != text {
        assert!(began.elapsed() < NEVER, "after {NEVER:?} still not {text}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn reads(metrics: &Metrics, tier: &str) -> u64 {
    let start = format!("cache_reads_total{{service=\"library\",cache=\"pages\",tier=\"{tier}\"}} ");
    let text = metrics.render();
    text.lines().find_map(|line| line.strip_prefix(&start)).map_or(0, |n| n.parse().unwrap())
}

#[tokio::test]
async fn an_event_drops_both_tiers_in_every_process() {
    let Some(server) = Server::start().await else { return };
    let library = Library::open().await;
    let (near, far) = (server.member("library").await, server.member("library").await);
    let ((one, one_counts), (two, two_counts)) = (library.reader(Some(&near)).await, library.reader(Some(&far)).await);
    for _ in 0..3 {
        assert_eq!((library.read(&one).await, library.read(&two).await), ("text 1".into(), "text 1".into()));
    }
    assert_eq!(library.loads(), 1, "the second process has it from Redis, and both then from memory");
    assert_eq!((reads(&one_counts, "source"), reads(&one_counts, "memory")), (1, 2));
    assert_eq!((reads(&two_counts, "redis"), reads(&two_counts, "memory")), (1, 2));
    let text = library.change().await;
    until_reads(&library, &one, &text).await;
    until_reads(&library, &two, &text).await;
    let loads = library.loads();
    let (three, three_counts) = library.reader(Some(&near)).await;
    assert_eq!(library.read(&three).await, text, "what lies in Redis is the new one");
    assert_eq!((library.loads(), reads(&three_counts, "redis")), (loads, 1));
}

#[tokio::test]
async fn many_who_ask_at_once_cause_one_load() {
    let Some(server) = Server::start().await else { return };
    let library = Library::open().await;
    let (cache, _) = library.reader(Some(&server.member("library").await)).await;
    let all = futures::future::join_all((0..100).map(|_| library.read(&cache)));
    assert!(all.await.iter().all(|text| text == "text 1"));
    assert_eq!(library.loads(), 1);
}

/// Somebody loads the old state, is held up, and comes back after the event.
#[tokio::test]
async fn a_slow_reader_cannot_bring_the_old_state_back() {
    let Some(server) = Server::start().await else { return };
    let library = Library::open().await;
    let (near, far) = (server.member("library").await, server.member("library").await);
    let ((one, counts), (two, _)) = (library.reader(Some(&near)).await, library.reader(Some(&far)).await);
    let drops =
        |counts: &Metrics| counts.render().contains("cache_drops_total{service=\"library\",cache=\"pages\"} 1\n");
    let slow = async {
        let load = async || {
            let (version, value) = library.truth.lock().clone();
            library.change().await;
            until("the event arrived", || drops(&counts)).await;
            Ok::<_, StoreError>(Some(Loaded { value, version }))
        };
        one.get(ID, load).await.unwrap().unwrap()
    };
    assert_eq!(slow.await.as_str(), "text 1", "its own answer may be that of the moment it asked");
    assert_eq!(library.read(&one).await, "text 2");
    until_reads(&library, &two, "text 2").await;
    let (three, _) = library.reader(Some(&near)).await;
    assert_eq!(library.read(&three).await, "text 2");
}

#[tokio::test]
async fn whoever_changes_a_thing_sees_the_change_before_its_event_comes() {
    let library = Library::open().await;
    let (cache, _) = library.reader(None).await;
    assert_eq!(library.read(&cache).await, "text 1");
    *library.truth.lock() = (2, "text 2".to_owned());
    cache.expect(ID, 2);
    assert_eq!(library.read(&cache).await, "text 2");
    assert_eq!(library.read(&cache).await, "text 2");
    assert_eq!(library.loads(), 2);
}

#[tokio::test]
async fn copies_do_not_count_while_no_events_are_heard() {
    let Some(server) = Server::start().await else { return };
    let library = Library::open().await;
    let (cache, counts) = library.reader(Some(&server.member("library").await)).await;
    assert_eq!(library.read(&cache).await, "text 1");
    library.directory.set("library", vec![]);
    library.station.hang_up();
    until("the line is cut", || !cache.is_trusted()).await;
    *library.truth.lock() = (2, "text 2".to_owned());
    assert_eq!(library.read(&cache).await, "text 2", "the database is asked");
    let before = reads(&counts, "source");
    assert_eq!(library.read(&cache).await, "text 2");
    assert_eq!(reads(&counts, "source"), before + 1);
}

/// An event comes while Redis does not take it: its old copy must not be believed when it thaws.
#[tokio::test]
async fn what_redis_did_not_hear_it_is_told_later_and_not_believed_before() {
    let Some(server) = Server::start().await else { return };
    let library = Library::open().await;
    let (near, far) = (server.member("library").await, server.member("library").await);
    let (one, _) = library.reader(Some(&near)).await;
    assert_eq!(library.read(&one).await, "text 1");
    server.freeze();
    let text = library.change().await;
    until_reads(&library, &one, &text).await;
    // A marker in memory would hide what is tested here.
    one.0.memory.clear();
    server.thaw();
    until("Redis is back", || near.is_up() && far.is_up()).await;
    assert_eq!(library.read(&one).await, text, "what lies in Redis is older than it seems");
    let copies = one.0.copies.as_ref().unwrap();
    let epoch = one.0.heard.load_full().unwrap();
    let began = Instant::now();
    while !copies.settle(&epoch).await {
        assert!(began.elapsed() < NEVER);
    }
    let (two, _) = library.reader(Some(&far)).await;
    assert_eq!(library.read(&two).await, text, "whoever starts then is told the truth");
}

/// Redis comes back with what was on its disk a while ago.
#[tokio::test]
async fn copies_of_an_earlier_life_of_redis_do_not_count() {
    let Some(mut server) = Server::start().await else { return };
    let library = Library::open().await;
    let (near, far) = (server.member("library").await, server.member("library").await);
    let (one, _) = library.reader(Some(&near)).await;
    assert_eq!(library.read(&one).await, "text 1");
    server.tell(&["SAVE"]).await;
    let text = library.change().await;
    until_reads(&library, &one, &text).await;
    server.kill();
    server.start_again().await;
    assert!(
        server.tell(&["KEYS", "library:cache:*"]).await.contains("library:cache:pages"),
        "its disk has the old copy"
    );
    until("Redis is back", || near.is_up() && far.is_up()).await;
    let (two, counts) = library.reader(Some(&far)).await;
    assert_eq!(library.read(&two).await, text);
    assert_eq!(reads(&counts, "redis"), 0);
    one.0.memory.clear();
    assert_eq!(library.read(&one).await, text);
}

#[tokio::test]
async fn wiped_frozen_or_stopped_it_costs_loads_only() {
    let Some(mut server) = Server::start().await else { return };
    let library = Library::open().await;
    let (one, counts) = library.reader(Some(&server.member("library").await)).await;
    assert_eq!(library.read(&one).await, "text 1");
    server.wipe().await;
    assert_eq!(library.read(&one).await, "text 1");
    assert_eq!(library.loads(), 1, "memory does not mind");
    let text = library.change().await;
    until_reads(&library, &one, &text).await;
    server.freeze();
    let text = library.change().await;
    until_reads(&library, &one, &text).await;
    server.kill();
    let text = library.change().await;
    until_reads(&library, &one, &text).await;
    let before = reads(&counts, "memory");
    assert_eq!(library.read(&one).await, text);
    assert_eq!(reads(&counts, "memory"), before + 1, "without Redis there is still memory");
}
