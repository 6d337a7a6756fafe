//! Jobs and timers on a real database: what wakes them, what a restart keeps, and that only one instance works.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kernel::clock::{Clock, Timestamp};
use kernel::events::Fault;
use kernel::jobs::{self, DueTimer, Job, JobError, LIFE, Lease, Timer, Trigger, Tz};
use kernel::store::{Engine, Options, Scalar, Store, StoreError, Tx};
use kernel::{params, row, sql};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const HOUR: Duration = Duration::from_secs(3600);
const WOKEN: Trigger = Trigger::Woken { sweep: HOUR };
const ORG: Uuid = Uuid::from_u128(1);

fn clock() -> Clock {
    Clock::manual("2026-01-01T00:00:00Z".parse().unwrap())
}

async fn open(folder: &Path, clock: &Clock) -> Store {
    let engine = Engine::Sqlite { path: folder.join("city.db") };
    Store::open(Options::new(engine, clock.clone()), &[]).await.unwrap()
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
        self.task.await.unwrap().unwrap();
    }

    async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

async fn next<T>(runs: &mut UnboundedReceiver<T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), runs.recv()).await.expect("a run in time").unwrap()
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
    store.write(move |tx| async move { tx.set_timer(ORG, Uuid::from_u128(entity), step, due_at).await }).await.unwrap();
}

async fn timers_left(store: &Store) -> i64 {
    let sql = sql!(Scalar<i64>, "SELECT COUNT(*) AS value FROM saga_timer");
    store.read().one(sql, params![]).await.unwrap().0
}

row! {
    struct RunRow { last_run_at: Timestamp, last_error: Option<String> }
}

/// Waits until the database remembers something of a job for which `looks` holds.
async fn remembered(store: &Store, name: &str, looks: impl Fn(&RunRow) -> bool) {
    let sql = sql!(RunRow, "SELECT last_run_at, last_error FROM job_run WHERE name = $1");
    let seen = async {
        while !store.read().maybe(sql, params![*name]).await.unwrap().is_some_and(|row| looks(&row)) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), seen).await.expect("a row in time");
}

fn firing(step: &'static str, fired: &UnboundedSender<(Uuid, String)>) -> Timer {
    let fired = fired.clone();
    Timer::new(step, move |_, due: DueTimer| {
        let fired = fired.clone();
        async move { fired.send((due.entity, due.step)).map_err(|e| Fault::Park(e.to_string())) }
    })
}

#[tokio::test]
async fn a_woken_job_runs_at_start_and_after_a_commit_but_not_after_a_rollback() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), &Clock::system()).await;
    let (told, mut runs) = unbounded_channel();
    let (told_other, mut others) = unbounded_channel();
    let jobs = vec![telling("pay", WOKEN, &told), telling("other", WOKEN, &told_other)];
    let instance = Instance::start(&store, "a", jobs, vec![]);
    next(&mut runs).await;
    next(&mut others).await;
    wake(&store, "pay", false).await;
    wake(&store, "other", true).await;
    next(&mut others).await;
    assert!(runs.is_empty(), "a unit that was rolled back wakes nothing");
    wake(&store, "pay", true).await;
    next(&mut runs).await;
    instance.stop().await;
    assert!(runs.is_empty());
}

#[tokio::test]
async fn timers_fire_once_and_in_order_across_a_restart() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    let start = clock.now();
    let (told, mut fired) = unbounded_channel();
    let timers = || vec![firing("accept", &told), firing("pay", &told)];
    let store = open(folder.path(), &clock).await;
    let instance = Instance::start(&store, "a", vec![], timers());
    set(&store, 3, "accept", start.plus(3 * HOUR)).await;
    set(&store, 1, "accept", start.plus(HOUR)).await;
    set(&store, 2, "pay", start.plus(2 * HOUR)).await;
    set(&store, 2, "accept", start.plus(2 * HOUR)).await;
    set(&store, 9, "pay", start.plus(HOUR)).await;
    store.write(|tx| async move { tx.clear_timer(ORG, Uuid::from_u128(9), "pay").await }).await.unwrap();
    clock.advance(HOUR);
    assert_eq!(next(&mut fired).await.0, Uuid::from_u128(1));
    instance.stop().await;
    store.close().await;

    clock.advance(2 * HOUR);
    let store = open(folder.path(), &clock).await;
    let instance = Instance::start(&store, "a", vec![], timers());
    let rest = [next(&mut fired).await.0, next(&mut fired).await.0, next(&mut fired).await.0];
    assert_eq!(rest, [2, 2, 3].map(Uuid::from_u128));
    instance.stop().await;
    assert!(fired.is_empty());
    assert_eq!(timers_left(&store).await, 0);
}

#[tokio::test]
async fn a_timer_whose_handler_fails_or_panics_is_due_again() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    let store = open(folder.path(), &clock).await;
    let (told, mut tries) = unbounded_channel();
    let timer = Timer::new("accept", move |_, due: DueTimer| {
        let told = told.clone();
        async move {
            told.send(due.due_at).map_err(|e| Fault::Park(e.to_string()))?;
            match due.due_at.seconds() % 60 {
                0 => Err(Fault::Retry("busy".to_owned())),
                1 => panic!("worse"),
                _ => Ok(()),
            }
        }
    });
    let instance = Instance::start(&store, "a", vec![], vec![timer]);
    let due = clock.now();
    set(&store, 1, "accept", due).await;
    assert_eq!(next(&mut tries).await, due);
    // The pause counts from the unit that notes the failure, on a clock that stands still until we move it.
    while timer_due(&store).await == due {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    clock.advance(Duration::from_secs(1));
    assert_eq!(next(&mut tries).await, due.plus(Duration::from_secs(1)));
    while timer_due(&store).await == due.plus(Duration::from_secs(1)) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    clock.advance(Duration::from_secs(2));
    assert_eq!(next(&mut tries).await, due.plus(Duration::from_secs(3)));
    instance.stop().await;
    assert_eq!(timers_left(&store).await, 0);
}

async fn timer_due(store: &Store) -> Timestamp {
    let sql = sql!(Scalar<Timestamp>, "SELECT due_at AS value FROM saga_timer");
    store.read().one(sql, params![]).await.unwrap().0
}

#[tokio::test]
async fn of_two_instances_one_runs_a_job_and_the_other_takes_over_when_it_is_killed() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    let (first, second) = (open(folder.path(), &clock).await, open(folder.path(), &clock).await);
    let (told, mut runs) = unbounded_channel();
    let stuck = |who: &'static str| {
        let told = told.clone();
        Job::new("pay", WOKEN, move || {
            let told = told.clone();
            async move {
                told.send((who, jobs::held().ok_or_else(|| JobError::new("no lease"))?.epoch()))?;
                std::future::pending().await
            }
        })
    };
    let a = Instance::start(&first, "a", vec![stuck("a")], vec![]);
    assert_eq!(next(&mut runs).await, ("a", 1));
    let b = Instance::start(&second, "b", vec![stuck("b")], vec![]);
    let refused = Lease::acquire(&second, "job pay", "c", LIFE).await.unwrap();
    assert_eq!(refused, None);
    a.kill().await;
    assert!(runs.is_empty(), "the lease of the dead holder still runs");
    clock.advance(LIFE);
    assert_eq!(next(&mut runs).await, ("b", 2));
    b.kill().await;
}

#[tokio::test]
async fn an_instance_that_stops_gives_its_leases_back() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    let store = open(folder.path(), &clock).await;
    let (told, mut runs) = unbounded_channel();
    for owner in ["a", "b"] {
        let instance = Instance::start(&store, owner, vec![telling("pay", WOKEN, &told)], vec![]);
        next(&mut runs).await;
        instance.stop().await;
    }
}

#[tokio::test]
async fn a_zombie_holder_changes_nothing() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    let store = open(folder.path(), &clock).await;
    let old = Lease::acquire(&store, "jobs", "a", LIFE).await.unwrap().unwrap();
    clock.advance(LIFE);
    let new = Lease::acquire(&store, "jobs", "b", LIFE).await.unwrap().unwrap();
    assert_eq!((old.epoch(), new.epoch()), (1, 2));
    let guarded = |lease: Lease| {
        store.write(move |tx| {
            let lease = lease.clone();
            async move {
                tx.set_timer(ORG, ORG, "accept", tx.now()).await?;
                lease.guard(&tx).await
            }
        })
    };
    assert!(guarded(old.clone()).await.unwrap_err().to_string().contains("another holder"));
    assert_eq!(timers_left(&store).await, 0);
    assert!(!old.renew(&store, LIFE).await.unwrap());
    assert!(
        !store
            .write({
                let old = old.clone();
                move |tx| {
                    let old = old.clone();
                    async move { old.release(&tx).await }
                }
            })
            .await
            .unwrap()
    );
    guarded(new.clone()).await.unwrap();
    assert_eq!(timers_left(&store).await, 1);
    assert_eq!(Lease::acquire(&store, "jobs", "a", LIFE).await.unwrap(), None);
}

#[tokio::test]
async fn an_owner_that_starts_again_need_not_wait_for_its_own_lease() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    let store = open(folder.path(), &clock).await;
    let before = Lease::acquire(&store, "jobs", "a", LIFE).await.unwrap().unwrap();
    let after = Lease::acquire(&store, "jobs", "a", LIFE).await.unwrap().unwrap();
    assert_eq!((before.epoch(), after.epoch()), (1, 2));
    assert!(!before.renew(&store, LIFE).await.unwrap());
}

#[tokio::test]
async fn a_cron_time_missed_while_down_is_made_up_for_once() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    let store = open(folder.path(), &clock).await;
    let (told, mut runs) = unbounded_channel();
    let nightly = Trigger::Cron { expr: "0 3 * * *", zone: Tz::UTC };
    let begun = clock.now();
    let instance = Instance::start(&store, "a", vec![telling("settle", nightly, &told)], vec![]);
    remembered(&store, "settle", |row| row.last_run_at == begun).await;
    instance.stop().await;
    assert!(runs.is_empty(), "a job that is new has missed nothing");
    clock.advance(80 * HOUR);
    let instance = Instance::start(&store, "a", vec![telling("settle", nightly, &told)], vec![]);
    next(&mut runs).await;
    let late = clock.now();
    remembered(&store, "settle", |row| row.last_run_at == late).await;
    assert!(runs.is_empty(), "three nights were missed, one run makes up for them");
    clock.advance(24 * HOUR);
    next(&mut runs).await;
    instance.stop().await;
}

#[tokio::test]
async fn a_job_that_panics_is_noted_and_runs_again_at_its_next_time() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    let store = open(folder.path(), &clock).await;
    let (told, mut runs) = unbounded_channel();
    let broken = Arc::new(AtomicBool::new(true));
    let job = Job::new("sweep", Trigger::Every(HOUR), move || {
        let (told, broken) = (told.clone(), broken.clone());
        async move {
            told.send(())?;
            assert!(!broken.swap(false, Ordering::SeqCst), "out of paper");
            Ok(())
        }
    });
    let instance = Instance::start(&store, "a", vec![job], vec![]);
    next(&mut runs).await;
    remembered(&store, "sweep", |row| row.last_error.as_deref() == Some("panicked: out of paper")).await;
    clock.advance(HOUR);
    next(&mut runs).await;
    remembered(&store, "sweep", |row| row.last_error.is_none()).await;
    instance.stop().await;
}

#[tokio::test]
async fn a_woken_job_that_fails_runs_again_long_before_its_sweep() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    let store = open(folder.path(), &clock).await;
    let (told, mut runs) = unbounded_channel();
    let job = Job::new("post", Trigger::Woken { sweep: 24 * HOUR }, move || {
        let told = told.clone();
        async move {
            told.send(())?;
            Err(std::io::Error::other("the letterbox is shut").into())
        }
    });
    let instance = Instance::start(&store, "a", vec![job], vec![]);
    next(&mut runs).await;
    // The pauses double: one second, two, four.
    for pause in [1, 2, 4] {
        let ran = clock.now();
        remembered(&store, "post", |row| row.last_error.is_some() && row.last_run_at == ran).await;
        assert!(runs.is_empty(), "not before its pause is over");
        clock.advance(Duration::from_secs(pause));
        next(&mut runs).await;
    }
    instance.stop().await;
}

#[tokio::test]
async fn a_declaration_that_makes_no_sense_ends_at_once_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), &Clock::system()).await;
    let (told, _runs) = unbounded_channel();
    let run = |jobs| jobs::run(store.clone(), "a".to_owned(), jobs, vec![], CancellationToken::new());
    let twice = run(vec![telling("pay", WOKEN, &told), telling("pay", WOKEN, &told)]).await.unwrap_err();
    assert_eq!(twice.to_string(), "job pay is declared twice");
    let often = telling("pay", Trigger::Cron { expr: "often", zone: Tz::UTC }, &told);
    assert!(run(vec![often]).await.unwrap_err().to_string().starts_with("job pay has a cron expression"));
}
