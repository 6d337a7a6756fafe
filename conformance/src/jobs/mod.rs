//! Jobs, timers and leases: what wakes them, what a restart keeps, and that only one instance works.

mod leases;
mod timers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kernel::clock::{Clock, Timestamp};
use kernel::events::Fault;
use kernel::jobs::{self, DueTimer, Job, Timer, Trigger};
use kernel::store::{Engine, Options, Scalar, Store, StoreError, Tx};
use kernel::testing::scratch;
use kernel::{params, row, sql};
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::case::{Case, case};
use crate::place::Place;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!("jobs.woken", "a job runs at the start and after a commit that wakes it, not after a rollback",
            fault "a rollback that wakes", woken),
        case!("jobs.timers", "timers fire once, also those that came due while everything was down",
            fault "a timer that stays after it fired", timers::timers),
        case!("jobs.timer_again", "a timer whose handler fails or panics is due again",
            fault "a failed timer that is gone", timers::timer_again),
        case!("jobs.takeover", "of two instances one works, and the other takes over when it is killed",
            fault "a lease that is over too soon", leases::takeover),
        case!("jobs.given_back", "an instance that stops gives its leases back",
            fault "an instance that keeps its lease", leases::given_back),
        case!("jobs.zombie", "a holder whose lease is over changes nothing",
            fault "an epoch that goes back", leases::zombie),
        case!("jobs.own_lease", "an owner that starts again need not wait for its own lease",
            fault "an owner under another name", leases::own_lease),
        case!("jobs.cron", "a time missed while everything was down is made up for once",
            fault "a program that forgets when it last ran", timers::cron),
        case!("jobs.panic", "a job that panics is noted, and runs again at its next time",
            fault "a run of which nothing is noted", panic_noted),
        case!("jobs.retry", "a woken job that fails runs again after a second, two, four, long before its sweep",
            fault "a failure that counts as a success", retry),
        case!("jobs.siblings", "a commit wakes the job that another instance on the same database runs",
            fault "a commit that is none", siblings, not "sqlite": "a file belongs to one process"),
    ]
}

const HOUR: Duration = Duration::from_secs(3600);
const WOKEN: Trigger = Trigger::Woken { sweep: HOUR };
const ORG: Uuid = Uuid::from_u128(1);

/// A fresh database, and a clock that is moved by hand.
struct Ground {
    engine: Engine,
    clock: Clock,
    patience: Duration,
    _folder: TempDir,
}

impl Ground {
    fn new(place: &Place) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let engine = match place.postgres() {
            None => Engine::Sqlite { path: folder.path().join("jobs.db") },
            Some(url) => scratch::postgres(url, url, &scratch::fresh_schema()),
        };
        let midnight = "2026-01-01T00:00:00Z".parse().expect("a time as everybody writes it");
        Self { engine, clock: Clock::manual(midnight), patience: place.patience(), _folder: folder }
    }

    async fn open(&self) -> Store {
        Store::open(Options::new(self.engine.clone(), self.clock.clone()), &[]).await.expect("the database works")
    }

    async fn next<T>(&self, runs: &mut UnboundedReceiver<T>) -> T {
        tokio::time::timeout(self.patience, runs.recv()).await.expect("a run in time").expect("somebody runs")
    }

    /// Waits until the database remembers something of a job for which `looks` holds.
    async fn remembered(&self, store: &Store, name: &str, looks: impl Fn(&RunRow) -> bool) {
        let sql = sql!(RunRow, "SELECT last_run_at, last_error FROM job_run WHERE name = $1");
        let seen = async {
            while !store
                .read()
                .maybe(sql, params![*name])
                .await
                .expect("the database works")
                .is_some_and(|row| looks(&row))
            {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(self.patience, seen).await.expect("a row in time");
    }
}

/// An instance at work; `stop` ends it in good order, aborting the task kills it where it stands.
struct Instance {
    stop: CancellationToken,
    task: JoinHandle<Result<(), kernel::task::Failure>>,
}

impl Instance {
    fn start(store: &Store, owner: &str, jobs: Vec<Job>, timers: Vec<Timer>) -> Self {
        let stop = CancellationToken::new();
        #[expect(clippy::disallowed_methods, reason = "the test holds the handle and looks at the result")]
        let task = tokio::spawn(jobs::run(store.clone(), owner.to_owned(), jobs, timers, stop.clone()));
        Self { stop, task }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("the database works").expect("the database works");
    }

    async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.expect_err("it is refused").is_cancelled());
    }
}

fn telling(name: &'static str, trigger: Trigger, told: &UnboundedSender<&'static str>) -> Job {
    let told = told.clone();
    Job::new(name, trigger, move || {
        let told = told.clone();
        async move {
            told.send(name)?;
            Ok(())
        }
    })
}

async fn wake(store: &Store, job: &'static str, commit: bool) {
    let unit = move |tx: Tx| async move {
        tx.wake(job);
        if commit { Ok(()) } else { Err(StoreError::Refused("no".into())) }
    };
    assert_eq!(store.write(unit).await.is_ok(), commit);
}

async fn set(store: &Store, entity: u128, step: &'static str, due_at: Timestamp) {
    store
        .write(move |tx| async move { tx.set_timer(ORG, Uuid::from_u128(entity), step, due_at).await })
        .await
        .expect("the database works");
}

async fn timers_left(store: &Store) -> i64 {
    let sql = sql!(Scalar<i64>, "SELECT COUNT(*) AS value FROM saga_timer");
    store.read().one(sql, params![]).await.expect("the database works").0
}

row! {
    struct RunRow { last_run_at: Timestamp, last_error: Option<String> }
}

fn firing(step: &'static str, fired: &UnboundedSender<(Uuid, String)>) -> Timer {
    let fired = fired.clone();
    Timer::new(step, move |_, due: DueTimer| {
        let fired = fired.clone();
        async move { fired.send((due.entity, due.step)).map_err(|e| Fault::Park(e.to_string())) }
    })
}

async fn woken(place: Place) -> String {
    let ground = Ground::new(&place);
    let store = ground.open().await;
    let (told, mut runs) = unbounded_channel();
    let (told_other, mut others) = unbounded_channel();
    let jobs = vec![telling("pay", WOKEN, &told), telling("other", WOKEN, &told_other)];
    let instance = Instance::start(&store, "a", jobs, vec![]);
    ground.next(&mut runs).await;
    ground.next(&mut others).await;
    wake(&store, "pay", place.seeded).await;
    wake(&store, "other", true).await;
    ground.next(&mut others).await;
    if place.seeded {
        place.until("it was woken", async || !runs.is_empty()).await;
    }
    assert!(runs.is_empty(), "a unit that was rolled back wakes nothing");
    wake(&store, "pay", true).await;
    ground.next(&mut runs).await;
    instance.stop().await;
    assert!(runs.is_empty());
    "3 runs: at the start and after each of 2 commits".to_owned()
}

async fn panic_noted(place: Place) -> String {
    let ground = Ground::new(&place);
    let clock = ground.clock.clone();
    let store = ground.open().await;
    let (told, mut runs) = unbounded_channel();
    let broken = Arc::new(AtomicBool::new(!place.seeded));
    let job = Job::new("sweep", Trigger::Every(HOUR), move || {
        let (told, broken) = (told.clone(), broken.clone());
        async move {
            told.send(())?;
            assert!(!broken.swap(false, Ordering::SeqCst), "out of paper");
            Ok(())
        }
    });
    let instance = Instance::start(&store, "a", vec![job], vec![]);
    ground.next(&mut runs).await;
    ground.remembered(&store, "sweep", |row| row.last_error.as_deref() == Some("panicked: out of paper")).await;
    clock.advance(HOUR);
    ground.next(&mut runs).await;
    ground.remembered(&store, "sweep", |row| row.last_error.is_none()).await;
    instance.stop().await;
    "noted, and run again an hour later".to_owned()
}

async fn retry(place: Place) -> String {
    let ground = Ground::new(&place);
    let store = ground.open().await;
    let (told, mut runs) = unbounded_channel();
    let seeded = place.seeded;
    let job = Job::new("post", WOKEN, move || {
        let told = told.clone();
        async move {
            told.send(())?;
            if seeded { Ok(()) } else { Err(std::io::Error::other("the letterbox is shut").into()) }
        }
    });
    let instance = Instance::start(&store, "a", vec![job], vec![]);
    ground.next(&mut runs).await;
    for pause in [1, 2, 4] {
        // What the next run counts from is known once this one is noted.
        let ran = ground.clock.now();
        ground.remembered(&store, "post", |row| row.last_run_at == ran).await;
        assert!(runs.is_empty(), "not before its pause is over");
        ground.clock.advance(Duration::from_secs(pause));
        ground.next(&mut runs).await;
    }
    instance.stop().await;
    "3 more runs within 7 s of its own clock".to_owned()
}

async fn siblings(place: Place) -> String {
    let ground = Ground::new(&place);
    let (first, second) = (ground.open().await, ground.open().await);
    let (told, mut runs) = unbounded_channel();
    let instance = Instance::start(&second, "b", vec![telling("pay", WOKEN, &told)], vec![]);
    ground.next(&mut runs).await;
    let mut commits = 0;
    // They need a moment to know of each other.
    place
        .until("the other instance's job runs", async || {
            wake(&first, "pay", !place.seeded).await;
            commits += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
            !runs.is_empty()
        })
        .await;
    instance.stop().await;
    format!("woken by commit {commits} of the other one")
}
