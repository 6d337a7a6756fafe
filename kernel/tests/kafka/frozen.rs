//! A broker that freezes: requests are repeated, which one idempotent producer keeps single and two producers do not.

use std::collections::HashSet;
use std::process::Command;
use std::time::Duration;

use kernel::events::KafkaSettings;
use kernel::events::kafka::tail;
use kernel::ids;
use kernel::testing::bus::{self, Difference};

use parking_lot::Mutex;
use uuid::Uuid;

use crate::{City, EVENTS, effects, emit, settings, until};

/// One freeze at a time.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The process that listens at an address of this machine.
fn listener(address: &str) -> Option<String> {
    let port: u16 = address.rsplit(':').next()?.parse().ok()?;
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    // Local address, state and inode are the second, fourth and tenth word of a line; 0A is listening.
    let sockets: Vec<String> = tables
        .iter()
        .flat_map(|table| table.lines())
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.len() > 9 && words[1].ends_with(&format!(":{port:04X}")) && words[3] == "0A")
        .map(|words| format!("socket:[{}]", words[9]))
        .collect();
    let holds = |process: &std::path::Path| {
        let open = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        open.filter_map(|fd| std::fs::read_link(fd.path()).ok())
            .any(|link| sockets.iter().any(|socket| link.as_os_str() == socket.as_str()))
    };
    let processes = std::fs::read_dir("/proc").ok()?.flatten().map(|entry| entry.path());
    let found = processes.into_iter().find(|process| holds(process))?;
    Some(found.file_name()?.to_string_lossy().into_owned())
}

fn signal(pid: &str, what: &str) {
    assert!(Command::new("kill").args([what, pid]).status().unwrap().success());
}

/// Eight things change a hundred times each.
const EVENTS_SENT: usize = 800;

/// How the events stand on the topic after a freeze.
struct Seen {
    /// Thing, version and position of each record, as they are read.
    records: Vec<(Uuid, i64, i64)>,
    /// How many producers the relay has had.
    producers: u64,
}

impl Seen {
    fn doubles(&self) -> usize {
        self.records.len() - EVENTS_SENT
    }

    /// Things whose versions do not come in their order, doubles left out.
    fn disorder(&self) -> Vec<(Uuid, i64)> {
        let (mut known, mut last) = (HashSet::new(), std::collections::HashMap::new());
        let first = self.records.iter().filter(|(_, _, position)| known.insert(*position));
        first
            .filter(|(thing, version, _)| *version != last.insert(*thing, *version).unwrap_or(0) + 1)
            .map(|(thing, version, _)| (*thing, *version))
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_freezes_and_wakes_loses_doubles_and_reorders_nothing() {
    // On a machine too busy to renew a lease in time a relay begins anew, and then this says nothing of its producer.
    for _ in 0..3 {
        let Some(seen) = freeze(|_| ()).await else { return };
        if seen.producers == 1 {
            assert_eq!((seen.doubles(), seen.disorder()), (0, Vec::new()), "each stands on the topic once");
            return;
        }
    }
    panic!("the relay began anew three times");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_idempotent_producer_the_topic_has_doubles_and_the_inbox_takes_them_once() {
    let Some(seen) = freeze(|settings| settings.enable_idempotence = false).await else { return };
    assert!(seen.doubles() > 0, "the freeze shows nothing: no request was repeated");
    assert_eq!(seen.disorder(), Vec::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_gives_up_and_begins_anew_may_double_and_loses_and_reorders_nothing() {
    let Some(seen) = freeze(|settings| settings.message_timeout_ms = 1500).await else { return };
    assert!(seen.producers > 1, "no delivery failed");
    assert_eq!(seen.disorder(), Vec::new());
}

/// Things change while the broker freezes for 3.5 s. Each change takes effect once and in its order, whatever the topic has.
async fn freeze(change: impl FnOnce(&mut KafkaSettings)) -> Option<Seen> {
    let mut settings = settings()?;
    let pid = listener(&settings.brokers).expect("a broker of this machine, run by somebody whom we may stop");
    let _alone = ALONE.lock().await;
    settings.request_timeout_ms = 1000;
    change(&mut settings);
    let city = City::with(settings).await;
    let (alpha, beta) = (city.alpha().await, city.beta().await);
    let all: Vec<_> = (0..8).map(|_| ids::fresh()).collect();
    let writing = async {
        for version in 1..=100 {
            for thing in &all {
                emit(&alpha.store, *thing, version, "").await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let freezing = async {
        tokio::time::sleep(Duration::from_millis(800)).await;
        signal(&pid, "-STOP");
        tokio::time::sleep(Duration::from_millis(3500)).await;
        signal(&pid, "-CONT");
    };
    futures::join!(writing, freezing);
    until("all came", async || effects(&beta.store).await == 800).await;
    let published = bus::published(&alpha.store, &["thing.changed".to_owned()]).await.unwrap();
    let received = bus::received(&beta.store, "alpha").await.unwrap();
    assert_eq!(bus::compare(&published, &received), Difference::default());
    assert_eq!(bus::disorder(&bus::applied(&beta.store, "alpha").await.unwrap()), Vec::<String>::new());
    let records = on_the_topic(&city).await;
    let producers = alpha.health.relays()[&0].producers;
    alpha.stop().await;
    beta.stop().await;
    Some(Seen { records, producers })
}

/// What stands on the topic itself, where no inbox helps; with what comes behind the last of them.
async fn on_the_topic(city: &City) -> Vec<(Uuid, i64, i64)> {
    let seen = Mutex::new(Vec::new());
    let connection = city.connection("tail");
    let note = |event: &kernel::events::Envelope| seen.lock().push((event.subject, event.version, event.position));
    let following = tail(&connection, "alpha", EVENTS, 0, note);
    let read = async {
        let known = async || seen.lock().iter().map(|(_, _, position)| *position).collect::<HashSet<_>>().len();
        until("all are read", async || known().await == EVENTS_SENT).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    tokio::select! {
        ended = following => panic!("{ended:?}"),
        () = read => {}
    }
    seen.into_inner()
}
