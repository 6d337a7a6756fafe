//! Runs one job whenever it is due, under its lease.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Job;
use super::keeper::Keeper;
use super::lease::Lease;
use super::record::{self, RunRow};
use super::schedule::{Schedule, Trigger, reach};
use crate::clock::Timestamp;
use crate::store::{Scope, Store, StoreError, WriteError};
use crate::task::panic_text;
use crate::telemetry::{Name, Role, Span, Trace};

/// A pause after the database failed.
const TROUBLE: Duration = Duration::from_secs(1);
/// A job that failed runs again after the first, doubled each time up to the most, if its sweep is not sooner.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

tokio::task_local! {
    static HELD: Lease;
}

/// The lease under which the calling job runs; [`Lease::guard`] keeps a unit from counting after it is lost.
pub fn held() -> Option<Lease> {
    HELD.try_with(Clone::clone).ok()
}

enum Kind {
    Timed(Schedule),
    Woken { wake: Arc<Notify>, sweep: Duration },
}

pub(super) struct Runner {
    store: Store,
    job: Job,
    kind: Kind,
    keeper: Keeper,
    shutdown: CancellationToken,
    /// Failed runs in a row.
    failures: u32,
}

impl Runner {
    pub(super) fn new(store: Store, job: Job, keeper: Keeper, shutdown: CancellationToken) -> Result<Self, String> {
        let kind = match job.trigger {
            Trigger::Every(pause) => Kind::Timed(Schedule::Every(pause)),
            Trigger::Cron { expr, zone } => Kind::Timed(Schedule::cron(expr, zone)?),
            Trigger::Woken { sweep } => Kind::Woken { wake: store.wake_signal(job.name), sweep },
        };
        Ok(Self { store, job, kind, keeper, shutdown, failures: 0 })
    }

    pub(super) async fn run_until_shutdown(mut self) {
        let mut ran = None;
        while !self.shutdown.is_cancelled() {
            match &self.kind {
                Kind::Timed(_) => {
                    if let Err(error) = self.timed().await {
                        tracing::warn!(job = self.job.name, %error, "a job's last run could not be read");
                        self.pause().await;
                    }
                }
                Kind::Woken { wake, sweep } => {
                    let (wake, sweep) = (wake.clone(), *sweep);
                    self.woken(&wake, sweep, &mut ran).await;
                }
            }
        }
        self.keeper.release(ran).await;
    }

    async fn pause(&self) {
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            () = tokio::time::sleep(TROUBLE) => {}
        }
    }

    /// Waits for a wake-up or the sweep and runs; or gives the lease back when it has been quiet.
    async fn woken(&mut self, wake: &Notify, sweep: Duration, ran: &mut Option<RunRow>) {
        let due =
            ran.as_ref().map_or_else(Timestamp::default, |ran| ran.last_run_at.plus(self.pause_after(ran, sweep)));
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => return,
            () = wake.notified() => {}
            () = reach(self.store.clock(), due) => {
                if self.store.clock().now() < due {
                    return;
                }
            }
            () = tokio::time::sleep(self.keeper.linger()), if self.keeper.is_held() => {
                return self.keeper.release(ran.clone()).await;
            }
        }
        if self.keeper.hold(&self.shutdown).await.is_some() {
            *ran = self.once().await.or(ran.take());
        }
    }

    fn pause_after(&self, ran: &RunRow, sweep: Duration) -> Duration {
        if ran.last_error.is_none() {
            return sweep;
        }
        let doublings = self.failures.saturating_sub(1).min(6);
        sweep.min((AGAIN.0 * 2_u32.pow(doublings)).min(AGAIN.1))
    }

    /// Waits for the next due time and runs, unless another instance did meanwhile.
    async fn timed(&mut self) -> Result<(), WriteError<StoreError>> {
        let Some(due) = self.due().await? else {
            return {
                let _: () = self.shutdown.cancelled().await;
                Ok(())
            };
        };
        tokio::select! {
            () = self.shutdown.cancelled() => return Ok(()),
            () = reach(self.store.clock(), due) => {}
        }
        if self.store.clock().now() < due || self.keeper.hold(&self.shutdown).await.is_none() {
            return Ok(());
        }
        let still_due = self.due().await?.is_some_and(|due| due <= self.store.clock().now());
        let ran = if still_due { self.once().await } else { None };
        self.keeper.release(ran).await;
        Ok(())
    }

    async fn due(&self) -> Result<Option<Timestamp>, WriteError<StoreError>> {
        let Kind::Timed(schedule) = &self.kind else { return Ok(None) };
        let now = self.store.clock().now();
        Ok(match (record::last_run(&self.store, self.job.name).await.map_err(WriteError::Store)?, schedule) {
            (Some(last), schedule) => schedule.after(last),
            (None, Schedule::Every(_)) => Some(now),
            (None, Schedule::Cron(..)) => {
                record::known_since(&self.store, self.job.name, now).await?;
                schedule.after(now)
            }
        })
    }

    /// One run under the held lease; none if it was cut short.
    async fn once(&mut self) -> Option<RunRow> {
        let started = self.store.clock().now();
        let lease = self.keeper.hold(&self.shutdown).await?;
        let name = Name("job", self.job.name);
        let span = Span::at(Trace::start(), Trace::default(), Role::Internal, name);
        let look = |span: &mut Span, ended: &Result<(), String>| {
            if ended.is_err() {
                span.fail("job");
            }
        };
        // A job looks for what is to be done wherever it is; it narrows itself by Store::in_org where it knows for whom.
        let work = Scope::Everybody.around(caught(self.job.clone()));
        let work = HELD.scope(lease, span.watch(work, look));
        let error = self.keeper.run(work, &self.shutdown).await?.err();
        self.failures = if error.is_some() { self.failures.saturating_add(1) } else { 0 };
        Some(RunRow { name: self.job.name.to_owned(), last_run_at: started, last_error: error })
    }
}

async fn caught(job: Job) -> Result<(), String> {
    let name = job.name;
    // The closure may panic before it gives a future, so it is called inside what is caught.
    let run = async move { (job.run)().await };
    let ended = match AssertUnwindSafe(run).catch_unwind().await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => format!("panicked: {}", panic_text(&*panic)),
    };
    tracing::error!(job = name, error = ended, "a job failed and will run again");
    Err(ended)
}
