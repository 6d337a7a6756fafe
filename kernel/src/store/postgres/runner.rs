//! Running a unit from BEGIN to COMMIT, again if the database asks for it, with a connection that ends up clean.

use std::sync::Arc;
use std::time::Duration;

use crate::events::{Outgoing, RELAY};
use crate::store::AfterCommit;
use crate::store::db::{Conn, TxShared};
use crate::store::error::StoreError;
use crate::store::job::{End, Job, Ran};
use crate::store::row::Table as _;
use crate::store::scope::{Scope, ScopeCell};
use crate::store::space::Space;
use crate::store::value::Value;

use super::engine_error;
use super::lane::{Lane, Sent, Settings};
use super::pool::Pool;
use super::unit::{Ended, PgUnit};

/// How often one unit is tried before its conflict is the caller's to know.
const ATTEMPTS: u32 = 5;
/// The answer to COMMIT may take this much longer than a unit: to give up on it leaves the outcome unknown.
const COMMIT_WAIT: Duration = Duration::from_secs(5);

pub(super) struct Runner {
    pub(super) pool: Arc<Pool>,
    pub(super) settings: Arc<Settings>,
    pub(super) deadline: Duration,
    pub(super) after: Arc<AfterCommit>,
    pub(super) space: Arc<Space>,
}

/// How one attempt went.
enum Attempt {
    Over(End),
    /// Nothing of it is durable, and the reason may be gone next time.
    Again(End),
}

enum Commit {
    Done,
    Failed(StoreError),
    Unknown,
}

impl Runner {
    /// Runs a unit to its end and tells it.
    pub(super) async fn run(&self, job: Box<dyn Job>) {
        for attempt in 1.. {
            match self.attempt(&*job).await {
                Attempt::Again(_) if attempt < ATTEMPTS => {
                    let most = Duration::from_millis(20 << attempt);
                    tokio::time::sleep(rand::random_range(Duration::ZERO..most)).await;
                }
                Attempt::Again(end) | Attempt::Over(end) => return job.finish(end),
            }
        }
    }

    async fn attempt(&self, job: &dyn Job) -> Attempt {
        let lane = match self.pool.lane().await {
            Ok(lane) => lane,
            Err(error) if error.is_gone() => return Attempt::Again(End::Store(error)),
            Err(error) => return Attempt::Over(End::Store(error)),
        };
        let scope = ScopeCell::new(job.scope());
        let unit = Arc::new(PgUnit::new(lane.clone(), self.settings.clone(), scope.clone()));
        let (running, shared) = job.run(Conn::PostgresUnit(unit.clone()), scope);
        let ran = tokio::time::timeout(self.deadline, running).await.ok();
        let ended = unit.end();
        let kept = Arc::strong_count(&unit) > 1;
        drop(unit);
        self.space.heed(ended.sealed.as_ref());
        let passing = ended.sealed.as_ref().is_some_and(may_pass);
        let again = passing && matches!(ran, Some(Ran::Ok | Ran::Refused));
        let Some(end) = End::early(ran, ended.sealed.as_ref(), kept) else {
            return self.commit(lane, ended, &shared).await;
        };
        self.roll_back(lane, &ended).await;
        if again { Attempt::Again(end) } else { Attempt::Over(end) }
    }

    async fn roll_back(&self, lane: Arc<Lane>, ended: &Ended) {
        if matches!(ended.sealed, Some(StoreError::Engine(_))) {
            lane.forget_prepared();
        }
        if ended.sealed.as_ref().is_some_and(StoreError::is_gone) {
            // Also a server that answers but no longer takes writes: the next connection looks for the one that does.
            lane.cut();
        } else if ended.told.is_some() {
            self.pool.settle(lane, ended.busy).await;
        } else {
            self.pool.put(lane);
        }
    }

    async fn commit(&self, lane: Arc<Lane>, ended: Ended, shared: &TxShared) -> Attempt {
        let collected = std::mem::take(&mut *shared.collected.lock());
        // Each event was judged when it was emitted, but a consumer's unit has moved on since.
        let narrow = |told: &Scope| collected.events.iter().any(|event| !told.admits(event.org()));
        let ahead = match &ended.told {
            None => Some(Ahead::Begin),
            Some(told) => narrow(told).then_some(Ahead::Widen),
        };
        let rows: Vec<Vec<Value>> = collected.events.into_iter().map(|event| event.row(None).to_values()).collect();
        let mut wakes = collected.wakes;
        if !rows.is_empty() {
            wakes.push(RELAY);
        }
        let outcome = if ended.told.is_none() && rows.is_empty() {
            Ok(Commit::Done)
        } else {
            let wait = self.deadline + COMMIT_WAIT;
            tokio::time::timeout(wait, last_flight(&lane, &self.settings, ahead, &rows)).await
        };
        match outcome {
            Ok(Commit::Done) => {
                self.pool.put(lane);
                self.after.committed(None, &wakes);
                Attempt::Over(End::Committed)
            }
            Ok(Commit::Failed(error)) => {
                // BEGIN itself met a server that is not the primary: nothing was written, and another may be.
                self.space.heed(Some(&error));
                let again = may_pass(&error);
                if error.is_gone() {
                    lane.cut();
                } else {
                    self.pool.settle(lane, false).await;
                }
                let end = End::Store(error);
                if again { Attempt::Again(end) } else { Attempt::Over(end) }
            }
            Ok(Commit::Unknown) | Err(_) => {
                lane.cut();
                Attempt::Over(End::Unknown)
            }
        }
    }
}

/// Whether the same unit may do better at once. On a full disk it would not.
fn may_pass(error: &StoreError) -> bool {
    matches!(error, StoreError::Conflict(_)) || error.is_gone()
}

/// What goes ahead of the last flight.
#[derive(Clone, Copy)]
enum Ahead {
    Begin,
    Widen,
}

/// The unit's events and COMMIT in one round trip.
async fn last_flight(lane: &Lane, settings: &Settings, ahead: Option<Ahead>, rows: &[Vec<Value>]) -> Commit {
    let begin = Sent::now(async {
        match ahead {
            Some(Ahead::Begin) => lane.begin("BEGIN", settings, &Scope::Everybody).await,
            Some(Ahead::Widen) => lane.tell(&Scope::Everybody).await,
            None => Ok(()),
        }
    })
    .await;
    let mut inserts = Vec::with_capacity(rows.len());
    for row in rows {
        let insert = Sent::now(lane.ask(Outgoing::INSERT, row)).await;
        // What could not even be sent must not be followed by COMMIT.
        if let Sent::Answered(Err(error)) = insert {
            return Commit::Failed(error);
        }
        inserts.push(insert);
    }
    let commit = Sent::now(lane.client.batch_execute("COMMIT")).await;
    let mut first = begin.answer().await;
    for insert in inserts {
        let inserted = insert.answer().await;
        first = first.and(inserted.map(drop));
    }
    match (first, commit.answer().await) {
        (Ok(()), Ok(())) => Commit::Done,
        // COMMIT had left when the connection was lost.
        (Err(error), _) if error.is_gone() => Commit::Unknown,
        (Err(error), _) => Commit::Failed(error),
        (Ok(()), Err(error)) if refused_by_server(&error) => Commit::Failed(engine_error(&error)),
        (Ok(()), Err(_)) => Commit::Unknown,
    }
}

/// Whether the server itself said that it did not commit. A connection it ends may have committed before.
fn refused_by_server(error: &tokio_postgres::Error) -> bool {
    use tokio_postgres::error::Severity;
    error
        .as_db_error()
        .is_some_and(|said| said.parsed_severity() == Some(Severity::Error) && !said.code().code().starts_with("08"))
}
