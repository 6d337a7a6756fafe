//! The writer thread: units run one after another as savepoints of one transaction, and are answered after its COMMIT.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::runtime::Handle;

use crate::events::Outgoing;
use crate::events::wire::proto;
use crate::store::AfterCommit;
use crate::store::db::{Conn, TxShared};
use crate::store::error::StoreError;
use crate::store::job::{End, Job, Ran, Running};
use crate::store::scope::ScopeCell;
use crate::store::space::Space;

use super::line::Line;
use super::open_writer;
use super::queue::Queue;
use super::unit::SqliteUnit;

/// A batch ends after this many units …
const BATCH_UNITS: usize = 64;
/// … or this long, whichever is first; or at once when nobody waits.
const BATCH_TIME: Duration = Duration::from_millis(2);

/// What a batch has done so far.
#[derive(Default)]
struct Batch {
    ended: Vec<(Box<dyn Job>, End)>,
    events: Vec<proto::Event>,
    wakes: Vec<&'static str>,
    /// Set when the outer transaction itself is gone: then nothing of the batch is durable.
    broken: Option<StoreError>,
}

pub(super) struct Writer {
    path: PathBuf,
    line: Arc<Mutex<Line>>,
    deadline: Duration,
    after: Arc<AfterCommit>,
    space: Arc<Space>,
    runtime: Handle,
    /// Set while nothing is known about the connection and there was no room to open another.
    stale: bool,
}

impl Writer {
    pub(super) fn new(
        path: PathBuf,
        connection: Connection,
        deadline: Duration,
        (after, space): (Arc<AfterCommit>, Arc<Space>),
        runtime: Handle,
    ) -> Self {
        let line = Arc::new(Mutex::new(Line::new(connection)));
        Self { path, line, deadline, after, space, runtime, stale: false }
    }

    pub(super) fn run(mut self, mut queue: Queue) {
        while let Some(first) = queue.wait() {
            self.batch(first, &mut queue);
        }
        let (late, done) = queue.close();
        late.into_iter().for_each(|job| job.finish(End::Store(StoreError::Ended)));
        drop(self);
        // Whoever asked may have gone away; the store is closed all the same.
        done.map(|done| done.send(()));
    }

    /// Runs one batch to its commit.
    fn batch(&mut self, first: Box<dyn Job>, queue: &mut Queue) {
        let mut batch = Batch::default();
        if let Err(error) = self.prepare() {
            return first.finish(End::Store(error));
        }
        if let Err(error) = self.say("BEGIN IMMEDIATE") {
            let error = self.space.explain(error);
            first.finish(End::Store(error));
            self.reopen();
            return;
        }
        let began = Instant::now();
        let mut next = Some(first);
        while let Some(job) = next.take() {
            self.unit(job, &mut batch);
            if batch.broken.is_some() || batch.ended.len() >= BATCH_UNITS || began.elapsed() >= BATCH_TIME {
                break;
            }
            next = queue.next();
        }
        self.commit(batch);
    }

    /// Refuses units while there is no room for them, but for one at each step that looks whether there is some again.
    fn prepare(&mut self) -> Result<(), StoreError> {
        self.space.admit()?;
        if self.stale {
            self.reopen();
        }
        if self.stale { Err(self.space.no_room()) } else { Ok(()) }
    }

    fn say(&self, control: &str) -> Result<(), StoreError> {
        self.line.lock().say(control)
    }

    /// Runs one unit inside its savepoint; the first of a batch has the transaction to itself and needs none.
    fn unit(&self, job: Box<dyn Job>, batch: &mut Batch) {
        let alone = batch.ended.is_empty();
        if !alone && let Err(error) = self.say("SAVEPOINT unit") {
            batch.broken = Some(error.clone());
            batch.ended.push((job, End::Store(error)));
            return;
        }
        let unit = Arc::new(SqliteUnit::new(self.line.clone()));
        let (running, shared) = job.run(Conn::SqliteUnit(unit.clone()), ScopeCell::new(job.scope()));
        let ran = self.drive(running);
        let sealed = unit.end();
        self.space.heed(sealed.as_ref());
        let end = End::early(ran, sealed.as_ref(), Arc::strong_count(&unit) > 1);
        let end = end.unwrap_or_else(|| self.write_events(&shared, batch).map_or_else(End::Store, |()| End::Committed));
        self.close_unit(alone, &end, batch);
        if matches!(end, End::Committed) {
            batch.wakes.append(&mut shared.collected.lock().wakes);
        }
        batch.ended.push((job, end));
    }

    fn close_unit(&self, alone: bool, end: &End, batch: &mut Batch) {
        let said = match (alone, matches!(end, End::Committed)) {
            (true, true) => Ok(()),
            (true, false) => self.say("ROLLBACK").and_then(|()| self.say("BEGIN IMMEDIATE")),
            (false, true) => self.say("RELEASE unit"),
            (false, false) => self.say("ROLLBACK TO unit").and_then(|()| self.say("RELEASE unit")),
        };
        // A disk error or OR ROLLBACK ends the outer transaction: later statements would commit by themselves.
        if let Err(error) = said {
            batch.broken = Some(error);
        } else if self.line.lock().connection.is_autocommit() {
            batch.broken = Some(StoreError::Engine("a statement ended the transaction of its batch".into()));
        }
    }

    /// Polls the unit; almost always one poll is enough, because its statements run on this very thread.
    fn drive(&self, mut running: Running) -> Option<Ran> {
        // The first poll may already set a timer, which needs the runtime around it.
        let _entered = self.runtime.enter();
        let mut once = Context::from_waker(Waker::noop());
        if let Poll::Ready(ran) = Pin::new(&mut running).poll(&mut once) {
            return Some(ran);
        }
        self.runtime.block_on(async { tokio::time::timeout(self.deadline, running).await.ok() })
    }

    fn write_events(&self, shared: &TxShared, batch: &mut Batch) -> Result<(), StoreError> {
        let events = std::mem::take(&mut shared.collected.lock().events);
        let mut line = self.line.lock();
        // Told only when all are in: the number of an event that is rolled back is given out again.
        let mut published = Vec::with_capacity(events.len());
        for event in events {
            // One writer: the commit itself is the publication.
            let row = event.row(Some(shared.now));
            line.execute(Outgoing::INSERT, &crate::store::Table::to_values(&row))?;
            published.push(row.at(line.connection.last_insert_rowid()).into());
        }
        batch.events.append(&mut published);
        Ok(())
    }

    fn commit(&mut self, batch: Batch) {
        // A broken batch certainly did not commit; of a failed COMMIT nobody can say.
        let known = batch.broken.is_some();
        let outcome = batch.broken.map_or_else(|| self.say("COMMIT"), Err);
        match outcome {
            Ok(()) => {
                self.after.published(batch.events);
                self.after.committed(None, &batch.wakes);
                batch.ended.into_iter().for_each(|(job, end)| job.finish(end));
            }
            Err(error) => {
                let error = self.space.explain(error);
                if !error.is_full() {
                    tracing::error!(%error, database = %self.path.display(), "a batch of units did not commit");
                }
                self.reopen();
                for (job, end) in batch.ended {
                    let lost = || if known { End::Store(error.clone()) } else { End::Unknown };
                    // A refusal may rest on what an earlier unit of this batch wrote, and that is gone too.
                    job.finish(if matches!(end, End::Committed | End::Refused) { lost() } else { end });
                }
            }
        }
    }

    /// After a failed end nothing is known about the old connection; a new one starts from what is durable.
    fn reopen(&mut self) {
        match open_writer(&self.path) {
            Ok(connection) => {
                self.line = Arc::new(Mutex::new(Line::new(connection)));
                self.stale = false;
            }
            // Nothing is written with what there is of a connection: the next unit is let in when another can be had.
            Err(error) if self.space.explain(error.clone()).is_full() => self.stale = true,
            Err(error) => {
                tracing::error!(%error, "the database cannot be opened again");
                // Going on after a disk error can lose what was acknowledged. The supervisor starts us anew.
                std::process::exit(1);
            }
        }
    }
}
