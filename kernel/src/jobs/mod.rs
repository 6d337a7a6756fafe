//! Work that nobody waits for: jobs by time or after a commit, and deadlines kept as rows.
//!
//! Jobs take no input, look at the database for what is to be done, and are safe to run twice. Of all instances on
//! one database only the holder of a job's lease runs it; the lease is held only while there is something to do.

mod keeper;
mod lease;
mod measures;
mod record;
mod runner;
mod schedule;
mod timer;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use chrono_tz::Tz;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

pub use lease::{LIFE, Lease};
pub(crate) use measures::JobMeasures;
pub use runner::held;
pub use schedule::Trigger;
pub use timer::{DueTimer, Timer};

use crate::store::Store;
use crate::task::{Failure, Tasks};
use keeper::{GRACE, Keeper};
use runner::Runner;
use timer::Timers;

/// Why a run of a job failed. Any error becomes one with `?`.
#[derive(Debug)]
pub struct JobError(String);

impl JobError {
    /// A failure in these words.
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for JobError {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

type Run = dyn Fn() -> BoxFuture<'static, Result<(), JobError>> + Send + Sync;

/// A piece of background work.
#[derive(Clone)]
pub struct Job {
    /// Its name: what [`Tx::wake`](crate::store::Tx::wake) is called with, and the key of its lease.
    pub name: &'static str,
    /// What makes it run.
    pub trigger: Trigger,
    /// One run. A failure or panic is logged, and the next trigger runs it again.
    pub run: Arc<Run>,
}

impl Job {
    /// `run` whenever `trigger` says.
    pub fn new<F, Fut>(name: &'static str, trigger: Trigger, run: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), JobError>> + Send + 'static,
    {
        Self { name, trigger, run: Arc::new(move || Box::pin(run())) }
    }
}

/// Runs jobs and timers until `shutdown`.
///
/// `owner` names this instance among those on the same database; see [`Lease::acquire`].
///
/// # Errors
/// A declaration that makes no sense, or a supervising task that died: the process should end and be started anew.
pub async fn run(
    store: Store,
    owner: String,
    jobs: Vec<Job>,
    timers: Vec<Timer>,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    refuse_doubles(&jobs, &timers)?;
    let owner: Arc<str> = owner.into();
    let tasks = Tasks::under(shutdown.child_token());
    for job in jobs {
        let name = format!("job {}", job.name);
        let keeper = Keeper::new(store.clone(), name.clone(), owner.clone());
        let runner = Runner::new(store.clone(), job, keeper, tasks.stopping())
            .map_err(|why| Failure { task: name.clone(), why })?;
        tasks.spawn(name, runner.run_until_shutdown());
    }
    if !timers.is_empty() {
        let timers = Timers {
            keeper: Keeper::new(store.clone(), timer::WAKE.to_owned(), owner),
            wake: store.wake_signal(timer::WAKE),
            timers: timers.into(),
            store: store.in_background(),
            shutdown: tasks.stopping(),
        };
        tasks.spawn(timer::WAKE, timers.fire_until_shutdown());
    }
    let ended = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        failure = tasks.failure() => Err(failure),
    };
    tasks.drain(GRACE + Duration::from_secs(3)).await;
    ended
}

fn refuse_doubles(jobs: &[Job], timers: &[Timer]) -> Result<(), Failure> {
    let (mut names, mut steps) = (BTreeSet::from([timer::WAKE]), BTreeSet::new());
    let double =
        |kind: &str, name: &str| Failure { task: format!("{kind} {name}"), why: "is declared twice".to_owned() };
    if let Some(job) = jobs.iter().find(|job| !names.insert(job.name)) {
        return Err(double("job", job.name));
    }
    if let Some(timer) = timers.iter().find(|timer| !steps.insert(timer.step)) {
        return Err(double("timer", timer.step));
    }
    Ok(())
}
