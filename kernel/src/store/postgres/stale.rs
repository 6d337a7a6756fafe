//! Reads from a standby, as long as it is known how old its answers are.
//!
//! A mark says at what time the primary stood where. A standby that has replayed up to a mark holds everything that
//! was committed when the mark was made, so its answer is as old as the newest mark it has reached. This needs no
//! clock of the server, and a standby that has lost its primary grows older instead of looking fresh.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join4;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::store::error::StoreError;
use crate::store::row::ColumnShape;
use crate::store::scope::Scope;
use crate::store::text;
use crate::store::value::Value;

use super::cells;
use super::engine_error;
use super::lane::{Answer, Settings};
use super::pool::{Loan, Pool};
use super::reader::PgRead;

/// Between two marks, while anybody wants them.
const PACE: Duration = Duration::from_millis(100);
/// Marks go on this long after the last read that wanted one.
const LINGER: Duration = Duration::from_secs(5);
/// Marks that are kept: a minute's. Nothing older is called fresh.
const KEPT: usize = 600;

const PRIMARY_AT: &str = "SELECT CAST(pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0') AS BIGINT) AS at";
const STANDBY_AT: &str = "SELECT CAST(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, '0/0') AS BIGINT) AS at";

/// What is known of the primary's progress.
pub(super) struct Marks {
    made: Mutex<VecDeque<(Instant, i64)>>,
    wanted: Notify,
    last_wanted: Mutex<Option<Instant>>,
}

impl Marks {
    fn want(&self) {
        let resting = self.last_wanted.lock().replace(Instant::now()).is_none_or(|last| last.elapsed() > LINGER / 2);
        if resting {
            self.wanted.notify_one();
        }
    }

    /// How old what stands at this place is.
    fn age(&self, at: i64) -> Option<Duration> {
        self.made.lock().iter().rev().find(|(_, mark)| *mark <= at).map(|(when, _)| when.elapsed())
    }

    fn make(&self, when: Instant, at: i64) {
        let mut made = self.made.lock();
        made.push_back((when, at));
        if made.len() > KEPT {
            made.pop_front();
        }
    }
}

/// A standby beside the primary.
pub(super) struct Standby {
    pool: Arc<Pool>,
    settings: Arc<Settings>,
    deadline: Duration,
    marks: Arc<Marks>,
    marking: tokio::task::AbortHandle,
}

impl Drop for Standby {
    fn drop(&mut self) {
        self.marking.abort();
    }
}

impl Standby {
    pub(super) fn new(pool: Arc<Pool>, primary: Arc<Pool>, settings: Arc<Settings>, deadline: Duration) -> Self {
        let marks = Arc::new(Marks { made: Mutex::default(), wanted: Notify::new(), last_wanted: Mutex::default() });
        let marking = spawn_marking(primary, settings.clone(), marks.clone());
        Self { pool, settings, deadline, marks, marking }
    }

    pub(super) async fn close(&self) {
        self.marking.abort();
        self.pool.close().await;
    }

    /// The standby's answer if it is known to be fresh enough.
    async fn answer(&self, text: &str, params: &[Value], scope: &Scope, max_age: Duration) -> Option<Answer> {
        self.marks.want();
        // Without any mark this young nothing the standby says can be called fresh.
        self.marks.age(i64::MAX).filter(|age| *age <= max_age)?;
        match tokio::time::timeout(self.deadline, self.ask(text, params, scope)).await {
            Ok(Ok((answer, at))) => {
                let age = self.marks.age(at);
                age.is_some_and(|age| age <= max_age).then_some(answer)
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "the standby did not answer a read; the primary does");
                None
            }
            Err(_) => None,
        }
    }

    async fn ask(&self, text: &str, params: &[Value], scope: &Scope) -> Result<(Answer, i64), StoreError> {
        let loan = Loan::take(&self.pool).await?;
        let lane = loan.lane();
        // The place is read before the statement's snapshot is taken, so the answer is at least that new.
        let begin = lane.begin("BEGIN READ ONLY", &self.settings, scope);
        let (at, answer, end) =
            (lane.ask(STANDBY_AT, &[]), lane.ask(text, params), lane.client.batch_execute("COMMIT"));
        let (began, at, answer, ended) = join4(begin, at, answer, end).await;
        ended.map_err(|e| engine_error(&e))?;
        loan.give_back();
        began?;
        Ok((answer?, place(&at?)?))
    }
}

fn place(answer: &Answer) -> Result<i64, StoreError> {
    let row = answer.rows.first().ok_or(StoreError::NoRow)?;
    row.try_get(0).map_err(|e| StoreError::Decode(format!("the place in the log: {e}")))
}

#[expect(clippy::disallowed_methods, reason = "aborted when its store goes; without marks reads go to the primary")]
fn spawn_marking(primary: Arc<Pool>, settings: Arc<Settings>, marks: Arc<Marks>) -> tokio::task::AbortHandle {
    let work = async move {
        loop {
            let wanted = *marks.last_wanted.lock();
            if wanted.is_none_or(|last| last.elapsed() > LINGER) {
                marks.wanted.notified().await;
            }
            let when = Instant::now();
            match tokio::time::timeout(Duration::from_secs(2), primary_at(&primary, &settings)).await {
                Ok(Ok(at)) => marks.make(when, at),
                Ok(Err(StoreError::Ended)) => return,
                Ok(Err(error)) => tracing::debug!(%error, "the primary's progress could not be read"),
                Err(_) => tracing::debug!("the primary did not tell its progress in time"),
            }
            tokio::time::sleep(PACE).await;
        }
    };
    tokio::spawn(work).abort_handle()
}

async fn primary_at(primary: &Arc<Pool>, settings: &Settings) -> Result<i64, StoreError> {
    let loan = Loan::take(primary).await?;
    let lane = loan.lane();
    let nobody = Scope::Orgs([].into());
    let begin = lane.begin("BEGIN READ ONLY", settings, &nobody);
    let asked = futures::future::join3(begin, lane.ask(PRIMARY_AT, &[]), lane.client.batch_execute("COMMIT"));
    let (began, at, ended) = asked.await;
    ended.map_err(|e| engine_error(&e))?;
    loan.give_back();
    began?;
    place(&at?)
}

/// A read that may be somewhat old.
pub(crate) struct PgStale {
    pub(super) primary: Arc<PgRead>,
    pub(super) standby: Option<Arc<Standby>>,
    pub(super) max_age: Duration,
}

impl PgStale {
    pub(crate) async fn query(
        &self,
        text: &str,
        params: &[Value],
        shape: &'static [ColumnShape],
        scope: &Scope,
    ) -> Result<Vec<Vec<Value>>, StoreError> {
        text::check(text, params.len())?;
        if let Some(standby) = &self.standby
            && let Some(answer) = standby.answer(text, params, scope, self.max_age).await
        {
            return cells::decode(&answer, shape);
        }
        self.primary.query(text, params, shape, scope).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_as_old_as_the_newest_mark_it_has_reached() {
        let marks = Marks { made: Mutex::default(), wanted: Notify::new(), last_wanted: Mutex::default() };
        assert_eq!(marks.age(i64::MAX), None);
        let now = Instant::now();
        let ago = |ms| now.checked_sub(Duration::from_millis(ms)).expect("the machine runs longer than a second");
        marks.make(ago(900), 10);
        marks.make(ago(500), 20);
        marks.make(ago(100), 20);
        marks.make(ago(50), 30);
        assert_eq!(marks.age(9), None);
        let near =
            |age: Option<Duration>, ms: u64| age.is_some_and(|a| (ms..ms + 50).contains(&(a.as_millis() as u64)));
        assert!(near(marks.age(19), 900) && near(marks.age(20), 100) && near(marks.age(99), 50));
    }
}
