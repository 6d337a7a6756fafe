//! kill -9 of the till's process, at each point of a request and at random: one effect and one answer a key remain.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener as Probe};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tempfile::TempDir;
use tokio::net::TcpListener;

use super::door::{Answer, Ask, Door};
use super::till::Build;
use super::{Complaints, serve, slow, verdict};
use crate::place::{Part, Place};

/// The part that is killed.
pub(crate) const TILL: &str = "idempotency.till";

/// Where a request is when the till dies, and how many sales a look afterwards finds.
const POINTS: [(&str, i64); 3] = [("die-claimed", 0), ("die-effect", 0), ("die-committed", 1)];

/// What the till's process needs to know.
struct Post {
    folder: PathBuf,
    postgres: Option<String>,
    port: u16,
    build: Build,
}

impl Post {
    fn read(text: &str) -> Self {
        let parts: Vec<&str> = text.split('|').collect();
        let postgres = Some(parts[1].to_owned()).filter(|url| !url.is_empty());
        Self {
            folder: parts[0].into(),
            postgres,
            port: parts[2].parse().expect("the till works"),
            build: Build::parse(parts[3]),
        }
    }

    fn text(&self) -> String {
        let url = self.postgres.as_deref().unwrap_or("");
        format!("{TILL}|{}|{url}|{}|{:?}", self.folder.display(), self.port, self.build)
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }
}

/// The killed part: a till that serves.
pub(crate) async fn man(told: &str) {
    let post = Post::read(told);
    let listener = TcpListener::bind(post.address()).await.expect("the till works");
    let _running = serve(post.build, &post.folder, post.postgres.as_deref(), listener, Arc::default()).await;
    std::future::pending::<()>().await;
}

/// A till in a process of its own, which does not outlive the case.
struct Manned {
    place: Place,
    post: Post,
    door: Door,
    part: Part,
    _folder: TempDir,
}

impl Manned {
    async fn start(place: &Place, mistake: Build) -> Self {
        let build = if place.seeded { mistake } else { Build::Sound };
        let postgres = place.postgres().map(str::to_owned);
        let folder = tempfile::tempdir().expect("the till works");
        let post = Post { folder: folder.path().to_owned(), postgres, port: free_port(), build };
        let (door, part) = (Door::to(post.address()), place.start(&post.text(), Stdio::null()));
        let manned = Self { place: place.clone(), post, door, part, _folder: folder };
        manned.door.tally().await;
        manned
    }

    /// Waits for the death that a request brought.
    fn bury(&mut self) {
        let status = self.part.0.wait().expect("the till works");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{status}");
    }

    /// SIGKILL: no goodbye, no flush.
    fn kill(&mut self) {
        self.part.0.kill().expect("the till works");
        self.bury();
    }

    fn start_again(&mut self) {
        self.part = self.place.start(&self.post.text(), Stdio::null());
    }
}

/// Below the range from which the system takes ports of outgoing connections, so that a till finds its own port free again.
fn free_port() -> u16 {
    let free = |port: &u16| Probe::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| rand::rng().random_range(10_000..30_000_u16)).find(free).expect("the till works")
}

/// Lets the till die at each point of a request and asks again: the kill must have hit its point, and left no half.
async fn die_at_each_point(till: &mut Manned, times: usize) -> Vec<String> {
    let mut found = Complaints::default();
    for (point, left) in POINTS {
        for time in 0..times {
            let mark = format!("{point}-{time}");
            // The answer may just get out before the death that follows a commit.
            let told = till.door.send(&Ask::keyed(&mark).scene(point)).await.ok();
            till.bury();
            till.start_again();
            let effects = till.door.tally().await.of(&mark);
            found.unless(effects == left, || format!("{point}: {effects} effects were left"));
            let first = till.door.ask(&Ask::keyed(&mark)).await;
            let again = till.door.ask(&Ask::keyed(&mark)).await;
            found.unless(first.status == 201 && first.replayed == (left == 1), || format!("{point}: {first:?}"));
            found.unless(again.replayed && again.told() == first.told(), || format!("{point}: {first:?}, {again:?}"));
            let same = told.as_ref().is_none_or(|told| told.told() == first.told());
            found.unless(same, || format!("{point}: {told:?} before, {first:?} after"));
            let effects = till.door.tally().await.of(&mark);
            found.unless(effects == 1, || format!("{point}: {effects} effects"));
        }
    }
    found.0
}

pub(super) async fn at_each_point(place: Place) -> String {
    let mut till = Manned::start(&place, Build::Outside).await;
    let times = if place.seeded { 1 } else { 3 };
    let found = die_at_each_point(&mut till, times).await;
    verdict(&place, &found, "die-effect: 2 effects", "9 kills at 3 points, 1 effect and 1 answer each".to_owned())
}

/// What customers were told, by mark; a mark that ends in `-no` is refused.
#[derive(Default)]
struct Told {
    answers: Mutex<BTreeMap<String, Answer>>,
    found: Mutex<Complaints>,
    requests: AtomicUsize,
}

impl Told {
    fn hear(&self, mark: &str, answer: Answer, sent: usize) {
        self.requests.fetch_add(sent, Ordering::SeqCst);
        let mut answers = self.answers.lock();
        let first = answers.entry(mark.to_owned()).or_insert_with(|| answer.clone());
        self.found.lock().unless(first.told() == answer.told(), || format!("{mark}: {first:?}, then {answer:?}"));
    }
}

fn ask(mark: &str) -> Ask {
    if mark.ends_with("-no") { Ask::keyed(mark).scene("402") } else { Ask::keyed(mark) }
}

/// Sends each of many new keys thrice at once, until told to stop.
async fn shop(door: &Door, customer: usize, told: &Told, stop: &AtomicBool) {
    for number in 0.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        let mark = format!("{customer}-{number}{}", if number % 5 == 0 { "-no" } else { "" });
        let ask = ask(&mark);
        for (answer, sent) in futures::future::join_all((0..3).map(|_| door.insist(&ask))).await {
            told.hear(&mark, answer, sent);
        }
    }
}

pub(super) async fn under_load(place: Place) -> String {
    let kills = if slow() { 60 } else { 12 };
    let mut till = Manned::start(&place, Build::Outside).await;
    let (door, told, stop) = (till.door.clone(), Told::default(), AtomicBool::new(false));
    let customers = futures::future::join_all((0..8).map(|customer| shop(&door, customer, &told, &stop)));
    tokio::join!(customers, kill_at_random(&mut till, kills, &told, &stop));
    let marks: Vec<String> = told.answers.lock().keys().cloned().collect();
    for mark in &marks {
        let (answer, sent) = door.insist(&ask(mark)).await;
        told.found.lock().unless(answer.replayed, || format!("{mark} was done anew: {answer:?}"));
        told.hear(mark, answer, sent);
    }
    let tally = door.tally().await;
    let wrong: Vec<_> = marks.iter().filter(|m| tally.of(m) != i64::from(!m.ends_with("-no"))).collect();
    let requests = told.requests.load(Ordering::SeqCst);
    let sales = tally.sales.iter().map(|(_, sales)| sales).sum::<i64>();
    let mut found = told.found.into_inner();
    found.unless(wrong.is_empty(), || format!("not one effect: {wrong:?}"));
    found.unless(tally.events == sales, || format!("{} events of {sales} sales", tally.events));
    let figure = format!("{kills} kills, {requests} requests, {} keys, 1 effect and 1 answer each", marks.len());
    verdict(&place, &found.0, "not one effect", figure)
}

/// Kills the till so often, each time somewhere in the middle of some work.
async fn kill_at_random(till: &mut Manned, kills: usize, told: &Told, stop: &AtomicBool) {
    let mut random = StdRng::seed_from_u64(9);
    for _ in 0..kills {
        let before = told.answers.lock().len();
        while told.answers.lock().len() < before + 8 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_micros(random.random_range(0..20_000))).await;
        till.kill();
        till.start_again();
    }
    stop.store(true, Ordering::SeqCst);
}
