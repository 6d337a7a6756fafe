//! kill -9 of the till's process, at each point of a request and at random: one effect and one answer a key remain.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener as Probe};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::door::{Answer, Ask, Door};
use crate::till::Build;
use crate::{Complaints, engines, serve, slow, variable};

const POST: &str = "TILL_TEST_POST";
/// The test that a child process runs to become the till.
const STAND_IN: &str = "kills::a_till_is_manned_when_a_parent_asks_for_it";

/// Where a request is when the till dies, and how many sales a look afterwards finds.
const POINTS: [(&str, i64); 3] = [("die-claimed", 0), ("die-effect", 0), ("die-committed", 1)];

/// What a child needs to know; it comes in one environment variable.
struct Post {
    folder: PathBuf,
    postgres: Option<String>,
    port: u16,
    build: Build,
}

impl Post {
    fn of_this_process() -> Option<Self> {
        let text = variable(POST)?;
        let parts: Vec<&str> = text.split('|').collect();
        let postgres = Some(parts[1].to_owned()).filter(|url| !url.is_empty());
        Some(Self { folder: parts[0].into(), postgres, port: parts[2].parse().unwrap(), build: Build::parse(parts[3]) })
    }

    fn text(&self) -> String {
        let url = self.postgres.as_deref().unwrap_or("");
        format!("{}|{url}|{}|{:?}", self.folder.display(), self.port, self.build)
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_till_is_manned_when_a_parent_asks_for_it() {
    let Some(post) = Post::of_this_process() else { return };
    let listener = TcpListener::bind(post.address()).await.unwrap();
    let _running = serve(post.build, &post.folder, post.postgres.as_deref(), listener, Arc::default()).await;
    std::future::pending::<()>().await;
}

/// A till in a process of its own, which does not outlive the test.
struct Manned {
    post: Post,
    door: Door,
    child: Child,
    _folder: TempDir,
}

impl Manned {
    async fn start(build: Build, postgres: Option<String>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let post = Post { folder: folder.path().to_owned(), postgres, port: free_port(), build };
        let (door, child) = (Door::to(post.address()), spawn(&post));
        let manned = Self { post, door, child, _folder: folder };
        manned.door.tally().await;
        manned
    }

    /// Waits for the death that a request brought.
    fn bury(&mut self) {
        let status = self.child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{status}");
    }

    /// SIGKILL: no goodbye, no flush.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.bury();
    }

    fn start_again(&mut self) {
        self.child = spawn(&self.post);
    }
}

impl Drop for Manned {
    fn drop(&mut self) {
        // It may be dead already, which is all that is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(post: &Post) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([STAND_IN, "--exact", "--nocapture", "--test-threads=1"]).env(POST, post.text());
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Below the range from which the system takes ports of outgoing connections, so that a till finds its own port free again.
fn free_port() -> u16 {
    let free = |port: &u16| Probe::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| rand::rng().random_range(10_000..30_000_u16)).find(free).unwrap()
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_any_point_of_a_request_leaves_all_of_it_or_nothing() {
    for postgres in engines() {
        let mut till = Manned::start(Build::Sound, postgres).await;
        assert_eq!(die_at_each_point(&mut till, 3).await, [""; 0]);
    }
    let mut till = Manned::start(Build::Outside, None).await;
    let found = die_at_each_point(&mut till, 1).await.join("; ");
    assert!(found.contains("die-effect: 2 effects"), "an effect beside the key's unit is not found: {found}");
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_in_flight_during_kills_have_one_effect_and_one_answer() {
    let (kills, seed) = (if slow() { 60 } else { 12 }, 9);
    for postgres in engines() {
        let mut random = StdRng::seed_from_u64(seed);
        let mut till = Manned::start(Build::Sound, postgres).await;
        let (door, told, stop) = (till.door.clone(), Told::default(), AtomicBool::new(false));
        let customers = futures::future::join_all((0..8).map(|customer| shop(&door, customer, &told, &stop)));
        let killing = async {
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
        };
        tokio::join!(customers, killing);
        let marks: Vec<String> = told.answers.lock().keys().cloned().collect();
        for mark in &marks {
            let (answer, sent) = door.insist(&ask(mark)).await;
            told.found.lock().unless(answer.replayed, || format!("{mark} was done anew: {answer:?}"));
            told.hear(mark, answer, sent);
        }
        let tally = door.tally().await;
        let wrong: Vec<_> = marks.iter().filter(|m| tally.of(m) != i64::from(!m.ends_with("-no"))).collect();
        let requests = told.requests.load(Ordering::SeqCst);
        println!("seed {seed}: {kills} kills, {requests} requests, {} keys, {} events", marks.len(), tally.events);
        assert!(wrong.is_empty(), "not one effect: {wrong:?}");
        assert_eq!(tally.events, tally.sales.iter().map(|(_, sales)| sales).sum::<i64>());
        assert_eq!(told.found.into_inner().0, [""; 0]);
    }
}
