//! Copies of what a database keeps: dropped by events, never older than an event, and useless to no one when Redis is away.

use kernel::cache::{Cache, Loaded};
use kernel::redis::Redis;
use kernel::store::StoreError;
use kernel::telemetry::Metrics;
use kernel::testing::library::{ID, Library, reads, until, until_reads};
use kernel::testing::redis::Server;

use crate::case::{Case, case};
use crate::place::Place;
use crate::redis::server;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!("cache.drop", "an event drops the copies of every process",
            fault "a change of which no event tells", drops),
        case!("cache.one_load", "many who ask at once cause one load",
            fault "a process that loads for itself", one_load),
        case!("cache.slow_reader", "a slow reader cannot bring the old state back",
            fault "an old state under a new version", slow_reader),
        case!("cache.own_change", "whoever changes a thing sees the change before its event comes",
            fault "a change that is not expected", own_change),
        case!("cache.deaf", "copies do not count while no events are heard",
            fault "a line that is not cut", deaf),
        case!("cache.wiped", "wiped, frozen or stopped, Redis costs loads only",
            fault "a process that hears no events", wiped, not "memory": "it is about the loss of Redis"),
    ]
}

async fn server_of(place: &Place) -> Option<Server> {
    if place.engine.name == "redis" { Some(server().await) } else { None }
}

async fn member(server: Option<&Server>) -> Option<Redis> {
    match server {
        Some(server) => Some(server.member("library").await),
        None => None,
    }
}

/// A change that nobody is told of.
fn unsaid(library: &Library) -> String {
    let mut truth = library.truth.lock();
    *truth = (truth.0 + 1, "unsaid".to_owned());
    truth.1.clone()
}

/// Waits for a text, as long as the place is patient.
async fn reads_soon(place: &Place, library: &Library, cache: &Cache<String>, text: &str) {
    place.until(text, async || library.read(cache).await == text).await;
}

async fn drops(place: Place) -> String {
    let server = server_of(&place).await;
    let library = Library::open().await;
    let (near, far) = (member(server.as_ref()).await, member(server.as_ref()).await);
    let ((one, one_counts), (two, two_counts)) =
        (library.reader(near.as_ref()).await, library.reader(far.as_ref()).await);
    for _ in 0..3 {
        assert_eq!((library.read(&one).await, library.read(&two).await), ("text 1".into(), "text 1".into()));
    }
    let shared = u64::from(near.is_some());
    assert_eq!(library.loads(), 2 - shared, "with Redis the second process has it from there");
    assert_eq!((reads(&one_counts, "source"), reads(&one_counts, "memory")), (1, 2));
    assert_eq!((reads(&two_counts, "redis"), reads(&two_counts, "memory")), (shared, 2));
    // The planted fault: what stands there has moved on, and no event said so.
    let text = if place.seeded { unsaid(&library) } else { library.change().await };
    reads_soon(&place, &library, &one, &text).await;
    reads_soon(&place, &library, &two, &text).await;
    let loads = library.loads();
    let (three, three_counts) = library.reader(near.as_ref()).await;
    assert_eq!(library.read(&three).await, text, "what lies in Redis is the new one");
    assert_eq!((library.loads(), reads(&three_counts, "redis")), (loads + 1 - shared, shared));
    format!("2 processes, {loads} loads, 1 event heard by both")
}

async fn one_load(place: Place) -> String {
    let server = server_of(&place).await;
    let library = Library::open().await;
    let (cache, _) = library.reader(member(server.as_ref()).await.as_ref()).await;
    let all = futures::future::join_all((0..100).map(|_| library.read(&cache)));
    assert!(all.await.iter().all(|text| text == "text 1"));
    if place.seeded {
        let (other, _) = library.reader(None).await;
        library.read(&other).await;
    }
    assert_eq!(library.loads(), 1, "loads");
    "100 asked at once, 1 load".to_owned()
}

async fn slow_reader(place: Place) -> String {
    let server = server_of(&place).await;
    let library = Library::open().await;
    let (near, far) = (member(server.as_ref()).await, member(server.as_ref()).await);
    let ((one, counts), (two, _)) = (library.reader(near.as_ref()).await, library.reader(far.as_ref()).await);
    let drops =
        |counts: &Metrics| counts.render().contains("cache_drops_total{service=\"library\",cache=\"pages\"} 1\n");
    let slow = async {
        let load = async || {
            let (version, value) = library.truth.lock().clone();
            if place.seeded {
                // It comes back under the version of the event.
                library.change().await;
                until("the event arrived", || drops(&counts)).await;
                return Ok::<_, StoreError>(Some(Loaded { value, version: version + 1 }));
            }
            library.change().await;
            until("the event arrived", || drops(&counts)).await;
            Ok::<_, StoreError>(Some(Loaded { value, version }))
        };
        one.get(ID, load).await.expect("the library works").expect("the library works")
    };
    assert_eq!(slow.await.as_str(), "text 1", "its own answer may be that of the moment it asked");
    assert_eq!(library.read(&one).await, "text 2");
    reads_soon(&place, &library, &two, "text 2").await;
    let (three, _) = library.reader(near.as_ref()).await;
    assert_eq!(library.read(&three).await, "text 2");
    "1 came back late, 0 read the old state after it".to_owned()
}

async fn own_change(place: Place) -> String {
    let server = server_of(&place).await;
    let library = Library::open().await;
    let (cache, _) = library.reader(member(server.as_ref()).await.as_ref()).await;
    assert_eq!(library.read(&cache).await, "text 1");
    *library.truth.lock() = (2, "text 2".to_owned());
    if !place.seeded {
        cache.expect(ID, 2);
    }
    assert_eq!(library.read(&cache).await, "text 2");
    assert_eq!(library.read(&cache).await, "text 2");
    assert_eq!(library.loads(), 2);
    "1 change seen before its event, 2 loads".to_owned()
}

async fn deaf(place: Place) -> String {
    let server = server_of(&place).await;
    let library = Library::open().await;
    let (cache, counts) = library.reader(member(server.as_ref()).await.as_ref()).await;
    assert_eq!(library.read(&cache).await, "text 1");
    library.directory.set("library", vec![]);
    if !place.seeded {
        library.station.hang_up();
        until("the line is cut", || !cache.is_trusted()).await;
    }
    *library.truth.lock() = (2, "text 2".to_owned());
    assert_eq!(library.read(&cache).await, "text 2", "the database is asked");
    let before = reads(&counts, "source");
    assert_eq!(library.read(&cache).await, "text 2");
    assert_eq!(reads(&counts, "source"), before + 1);
    "2 reads without events, 2 loads".to_owned()
}

async fn wiped(place: Place) -> String {
    let mut server = server().await;
    let library = Library::open().await;
    let (one, counts) = library.reader(Some(&server.member("library").await)).await;
    assert_eq!(library.read(&one).await, "text 1");
    server.wipe().await;
    if place.seeded {
        library.directory.set("library", vec![]);
        library.station.hang_up();
        until("the line is cut", || !one.is_trusted()).await;
    }
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
    "wiped, frozen and stopped: 3 changes seen, memory goes on".to_owned()
}
