//! Deadlines as rows: set and cleared inside units of work, fired once, in the unit that does what is due.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::StreamExt as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::keeper::Keeper;
use super::lease::Lease;
use super::schedule::reach;
use crate::clock::Timestamp;
use crate::events::Fault;
use crate::store::{Scalar, Store, StoreError, Tx, WriteError, any};
use crate::telemetry::{Name, Role, Span, Trace};
use crate::{params, row, sql};

/// What a commit wakes when it set a timer.
pub(super) const WAKE: &str = "timers";
/// Another process may have set a timer, and its commit does not wake us: one looks this often.
const SAFETY_LOOK: Duration = Duration::from_secs(5);
/// Timers that are fired side by side; on one writer their units commit together.
const AT_ONCE: usize = 32;
/// A timer whose trouble passes is tried again after 1, 2, 4, … seconds, at most after this many …
const LONGEST_BACKOFF_S: u64 = 60;
/// … and one that trying again will hardly help, after this.
const PARKED: Duration = Duration::from_secs(600);
/// A pause after the database failed.
const TROUBLE: Duration = Duration::from_secs(1);

/// A deadline that has been reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueTimer {
    /// The organisation.
    pub org: Uuid,
    /// What the deadline is about.
    pub entity: Uuid,
    /// Which of its deadlines.
    pub step: String,
    /// When it was due; later than first set if it was put off after a failure.
    pub due_at: Timestamp,
}

type Fire = dyn Fn(Tx, DueTimer) -> BoxFuture<'static, Result<(), Fault>> + Send + Sync;

/// What happens when a deadline of one step is reached.
#[derive(Clone)]
pub struct Timer {
    /// The step's name.
    pub step: &'static str,
    /// Runs inside the unit that removes the deadline: both happen or neither does.
    pub run: Arc<Fire>,
}

impl Timer {
    /// `fire` for deadlines of `step`.
    pub fn new<F, Fut>(step: &'static str, fire: F) -> Self
    where
        F: Fn(Tx, DueTimer) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Fault>> + Send + 'static,
    {
        Self { step, run: Arc::new(move |tx, due| Box::pin(fire(tx, due))) }
    }
}

row! {
    struct TimerRow in "saga_timer" {
        org_id: Uuid,
        entity_id: Uuid,
        step: String,
        due_at: Timestamp,
        attempts: i64,
    }
}

impl Tx {
    /// Sets the deadline of one step of an entity, replacing an earlier one.
    pub async fn set_timer(&self, org: Uuid, entity: Uuid, step: &str, due_at: Timestamp) -> Result<(), StoreError> {
        let sql = sql!(
            "INSERT INTO saga_timer (org_id, entity_id, step, due_at, attempts) VALUES ($1, $2, $3, $4, 0) ON CONFLICT (org_id, entity_id, step) DO UPDATE SET due_at = excluded.due_at, attempts = 0"
        );
        self.run(sql, params![org, entity, *step, due_at]).await?;
        self.wake(WAKE);
        Ok(())
    }

    /// Removes a deadline; says whether there was one.
    pub async fn clear_timer(&self, org: Uuid, entity: Uuid, step: &str) -> Result<bool, StoreError> {
        let sql = sql!("DELETE FROM saga_timer WHERE org_id = $1 AND entity_id = $2 AND step = $3");
        Ok(self.run(sql, params![org, entity, *step]).await? > 0)
    }
}

/// Fires timers until shutdown.
pub(super) struct Timers {
    pub(super) store: Store,
    pub(super) timers: Arc<[Timer]>,
    pub(super) keeper: Keeper,
    pub(super) wake: Arc<Notify>,
    pub(super) shutdown: CancellationToken,
}

impl Timers {
    pub(super) async fn fire_until_shutdown(mut self) {
        while !self.shutdown.is_cancelled() {
            let (due, next) = self.look().await.unwrap_or_else(|error| {
                tracing::warn!(%error, "the timers could not be read");
                (Vec::new(), None)
            });
            if due.is_empty() {
                self.wait(next).await;
            } else if let Some(lease) = self.keeper.hold(&self.shutdown, Some(&self.wake)).await {
                let all = fire_all(self.store.clone(), self.timers.clone(), lease, due);
                if let Some(Fired::Zombie) = self.keeper.run(all, &self.shutdown).await {
                    self.keeper.forget();
                }
            }
        }
        self.keeper.release(None).await;
    }

    /// Timers that are due, of those that this program knows how to fire; if there are none, when the next one will be.
    async fn look(&self) -> Result<(Vec<TimerRow>, Option<Timestamp>), StoreError> {
        let steps: Vec<String> = self.timers.iter().map(|timer| timer.step.to_owned()).collect();
        let (db, now) = (self.store.read(), self.store.clock().now());
        let due = sql!(
            TimerRow,
            "SELECT org_id, entity_id, step, due_at, attempts FROM saga_timer WHERE step = ANY($1) AND due_at <= $2 ORDER BY due_at, entity_id LIMIT 256"
        );
        let due = db.all(due, params![any(&steps), now]).await?;
        if !due.is_empty() {
            return Ok((due, None));
        }
        let next = sql!(
            Scalar<Timestamp>,
            "SELECT due_at AS value FROM saga_timer WHERE step = ANY($1) ORDER BY due_at LIMIT 1"
        );
        Ok((due, db.maybe(next, params![any(&steps)]).await?.map(|Scalar(at)| at)))
    }

    async fn wait(&mut self, due: Option<Timestamp>) {
        let clock = self.store.clock().clone();
        let deadline = async {
            match due {
                Some(due) => reach(&clock, due).await,
                None => std::future::pending().await,
            }
        };
        let quiet = if self.keeper.is_held() { self.keeper.linger() } else { SAFETY_LOOK };
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => {}
            () = self.wake.notified() => {}
            () = deadline => {}
            () = tokio::time::sleep(quiet) => self.keeper.release(None).await,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fired {
    Done,
    /// The lease has gone to another holder, and so have the timers.
    Zombie,
    /// The database is out of reach or of room, which is nothing to put a timer off for.
    Away,
}

async fn fire_all(store: Store, timers: Arc<[Timer]>, lease: Lease, due: Vec<TimerRow>) -> Fired {
    let mut firing =
        futures::stream::iter(due).map(|row| fire_one(&store, &timers, &lease, row)).buffer_unordered(AT_ONCE);
    while let Some(fired) = firing.next().await {
        match fired {
            Fired::Done => {}
            Fired::Zombie => return Fired::Zombie,
            // The others would fare no better; none of them is asked while this waits.
            Fired::Away => {
                tokio::time::sleep(TROUBLE).await;
                return Fired::Done;
            }
        }
    }
    Fired::Done
}

async fn fire_one(store: &Store, timers: &[Timer], lease: &Lease, row: TimerRow) -> Fired {
    let Some(timer) = timers.iter().find(|timer| timer.step == row.step) else { return Fired::Done };
    let (step, entity) = (row.step.clone(), row.entity_id);
    let span = Span::at(Trace::start(), Trace::default(), Role::Internal, Name("timer", timer.step));
    let ended = match span.around(fire(store, lease, timer.clone(), row.clone())).await {
        // Of an unknown outcome the row itself tells: it is there if the unit did not commit.
        Err(WriteError::Unknown) => Ok(Fired::Done),
        Err(WriteError::Store(error @ StoreError::Lost(_))) => {
            tracing::warn!(step, %entity, %error, "timers wait for their database");
            Ok(Fired::Away)
        }
        Err(error) => {
            let again = backoff(&error, row.attempts);
            tracing::error!(step, %entity, %error, again_in_s = again.as_secs(), "a timer failed; it is due again");
            put_off(store, lease, row, again).await
        }
        Ok(fired) => Ok(fired),
    };
    match ended {
        Ok(fired) => fired,
        Err(error) => {
            tracing::error!(step, %entity, %error, "a failed timer could not be put off");
            tokio::time::sleep(TROUBLE).await;
            Fired::Done
        }
    }
}

/// Removes the row, which only one can do, and does what is due in the same unit.
async fn fire(store: &Store, lease: &Lease, timer: Timer, row: TimerRow) -> Result<Fired, WriteError<Fault>> {
    let lease = lease.clone();
    store
        .in_org(row.org_id)
        .write(move |tx| {
            let (lease, timer, row) = (lease.clone(), timer.clone(), row.clone());
            async move {
                if !lease.is_ours(&tx).await? {
                    return Ok(Fired::Zombie);
                }
                let taken =
                    sql!("DELETE FROM saga_timer WHERE org_id = $1 AND entity_id = $2 AND step = $3 AND due_at = $4");
                if tx.run(taken, params![row.org_id, row.entity_id, row.step, row.due_at]).await? == 1 {
                    let due = DueTimer { org: row.org_id, entity: row.entity_id, step: row.step, due_at: row.due_at };
                    (timer.run)(tx, due).await?;
                }
                Ok(Fired::Done)
            }
        })
        .await
}

fn backoff(error: &WriteError<Fault>, attempts: i64) -> Duration {
    if let WriteError::Unit(Fault::Park(_)) = error {
        PARKED
    } else {
        let doubled = u32::try_from(attempts).ok().and_then(|n| 1_u64.checked_shl(n)).unwrap_or(u64::MAX);
        Duration::from_secs(doubled.clamp(1, LONGEST_BACKOFF_S))
    }
}

async fn put_off(store: &Store, lease: &Lease, row: TimerRow, by: Duration) -> Result<Fired, WriteError<StoreError>> {
    let lease = lease.clone();
    store
        .write(move |tx| {
            let (lease, row) = (lease.clone(), row.clone());
            async move {
                if !lease.is_ours(&tx).await? {
                    return Ok(Fired::Zombie);
                }
                let later = sql!(
                    "UPDATE saga_timer SET attempts = attempts + 1, due_at = $5 WHERE org_id = $1 AND entity_id = $2 AND step = $3 AND due_at = $4"
                );
                let due_at = tx.now().plus(by);
                tx.run(later, params![row.org_id, row.entity_id, row.step, row.due_at, due_at]).await?;
                Ok(Fired::Done)
            }
        })
        .await
}
