//! A broker that freezes: requests time out and are repeated, and only the idempotent producer keeps them single.

use std::collections::HashSet;
use std::process::Command;
use std::time::Duration;

use kernel::events::kafka::tail;
use kernel::ids;
use kernel::testing::bus::{self, Difference};

use parking_lot::Mutex;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_freezes_and_wakes_loses_doubles_and_reorders_nothing() {
    let Some(seen) = freeze(true).await else { return };
    assert_eq!(seen, (1..=800).collect::<Vec<i64>>(), "each stands on the topic once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_idempotent_producer_the_topic_may_have_doubles_and_the_inbox_takes_them_once() {
    let Some(mut seen) = freeze(false).await else { return };
    let sent = seen.len();
    seen.dedup();
    println!("{} of 800 stand on the topic twice", sent - seen.len());
    assert_eq!(seen, (1..=800).collect::<Vec<i64>>());
}

/// Eight things change a hundred times each while the broker freezes for 3.5 s; gives the positions on the topic.
async fn freeze(idempotent: bool) -> Option<Vec<i64>> {
    let mut settings = settings()?;
    let pid = listener(&settings.brokers).expect("a broker of this machine, run by somebody whom we may stop");
    let _alone = ALONE.lock().await;
    settings.request_timeout_ms = 1000;
    settings.enable_idempotence = idempotent;
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
    // On the topic itself, where no inbox helps; and what comes behind the last of them.
    let seen = Mutex::new(Vec::new());
    let connection = city.connection("tail");
    let following = tail(&connection, "alpha", EVENTS, 0, |event| seen.lock().push(event.position));
    let read = async {
        until("all are read", async || seen.lock().iter().collect::<HashSet<_>>().len() == 800).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    tokio::select! {
        ended = following => panic!("{ended:?}"),
        () = read => {}
    }
    let mut seen = seen.into_inner();
    seen.sort_unstable();
    alpha.stop().await;
    beta.stop().await;
    Some(seen)
}
