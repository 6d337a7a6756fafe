//! One partition's way into the database: records are read, merged and applied in their order, whatever else goes on.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rdkafka::message::{Message as _, OwnedMessage};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::record::{self, Reading};
use crate::events::apply::{Applier, Halt, Mark, Step, aggregate_of};
use crate::events::feed::Backoff;
use crate::events::fits::{MERGE, MERGE_BYTES, SKIP};
use crate::events::inbox::Place;
use crate::events::offsets::{self, Met, OffsetRow, Slice};
use crate::events::parking::plain;
use crate::events::{Envelope, inbox};
use crate::store::{Store, Tx};

/// While the own database is away.
const WAITS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

/// What a lane tells its group.
pub(super) struct Told {
    pub(super) topic: Arc<str>,
    pub(super) part: i32,
    pub(super) what: What,
}

pub(super) enum What {
    /// Everything below this offset is done.
    At(i64),
    /// The own database is away; what has arrived is kept.
    Waits(String),
    /// The offset was moved by somebody else: the partition must be taken up anew.
    Fenced,
    /// Nothing goes on here until somebody decides.
    Refused(String),
}

/// Records that have been handed to a lane and not been taken by it.
#[derive(Clone, Default)]
pub(super) struct Queued(Arc<(AtomicUsize, AtomicUsize)>);

impl Queued {
    fn weight(message: &OwnedMessage) -> usize {
        message.payload().map_or(0, <[u8]>::len)
    }

    pub(super) fn add(&self, message: &OwnedMessage) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
        self.0.1.fetch_add(Self::weight(message), Ordering::Relaxed);
    }

    fn take(&self, message: &OwnedMessage) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
        self.0.1.fetch_sub(Self::weight(message), Ordering::Relaxed);
    }

    /// Whether the broker should be asked for no more for now.
    pub(super) fn is_full(&self) -> bool {
        self.0.0.load(Ordering::Relaxed) >= 2 * MERGE || self.0.1.load(Ordering::Relaxed) >= MERGE_BYTES
    }
}

pub(super) struct Lane {
    pub(super) publisher: &'static str,
    pub(super) topic: Arc<str>,
    pub(super) part: i32,
    /// What the own database says.
    pub(super) stored: OffsetRow,
    /// Below this position of that outbox everything took effect by the stream.
    pub(super) floor: Place,
    pub(super) applier: Applier,
    pub(super) largest: i32,
    pub(super) records: mpsc::UnboundedReceiver<OwnedMessage>,
    pub(super) queued: Queued,
    pub(super) told: mpsc::UnboundedSender<Told>,
    pub(super) stop: CancellationToken,
}

/// Why a lane stops.
enum Stop {
    Fenced,
    Refused(String),
    Shutdown,
}

/// Records on their way into one unit.
#[derive(Default)]
struct Batch {
    events: Vec<Envelope>,
    ends: HashMap<Uuid, i64>,
    bytes: usize,
    /// The offset behind the last of them, and the highest position seen.
    to: Option<i64>,
    reached: i64,
}

impl Lane {
    pub(super) async fn run(mut self) {
        let mut batch = Batch::default();
        let stop = loop {
            let message = tokio::select! {
                biased;
                () = self.stop.cancelled() => break Stop::Shutdown,
                message = self.records.recv() => message,
            };
            let Some(message) = message else { break Stop::Shutdown };
            if let Err(stop) = self.take(message, &mut batch).await {
                break stop;
            }
        };
        match stop {
            Stop::Shutdown => drop(self.flush(&mut batch).await),
            Stop::Fenced => self.tell(What::Fenced),
            Stop::Refused(why) => self.tell(What::Refused(why)),
        }
    }

    fn tell(&self, what: What) {
        // Nobody listens any more when the group has ended.
        drop(self.told.send(Told { topic: self.topic.clone(), part: self.part, what }));
    }

    /// Takes a record, and with it whatever else has arrived meanwhile.
    async fn take(&mut self, first: OwnedMessage, batch: &mut Batch) -> Result<(), Stop> {
        let mut next = Some(first);
        while let Some(message) = next.take() {
            self.queued.take(&message);
            self.add(message, batch).await?;
            if batch.events.len() < MERGE && batch.bytes < MERGE_BYTES {
                next = self.records.try_recv().ok();
            }
        }
        let skipped = batch.to.unwrap_or(0) - self.stored.next_offset;
        if batch.events.is_empty() && skipped < SKIP {
            // Remembered with the next event; told at once, because it is no lag.
            batch.to.into_iter().for_each(|to| self.tell(What::At(to)));
            return Ok(());
        }
        self.flush(batch).await
    }

    async fn add(&mut self, message: OwnedMessage, batch: &mut Batch) -> Result<(), Stop> {
        let behind = message.offset() + 1;
        if behind <= self.stored.next_offset {
            return Ok(());
        }
        match record::read(&message, self.publisher, self.largest) {
            Reading::Foreign(why) => {
                tracing::error!(topic = %self.topic, partition = self.part, offset = message.offset(), %why, "a record that is not the publisher's is left out");
                batch.to = Some(behind);
            }
            Reading::Broken(envelope, why) => {
                self.flush(batch).await?;
                batch.to = Some(behind);
                let step = self.step(batch, vec![*envelope]);
                self.park(step, why).await?;
                *batch = Batch::default();
            }
            Reading::Event(envelope, outbox) => {
                if outbox != self.stored.epoch {
                    self.flush(batch).await?;
                    self.change_outbox(outbox).await?;
                }
                batch.to = Some(behind);
                batch.reached = batch.reached.max(envelope.position);
                let done = self.floor.epoch == outbox && envelope.position <= self.floor.position;
                let heard = aggregate_of(&self.applier.reactions, &envelope).is_some();
                if heard && !done && batch.ends.insert(envelope.id, behind).is_none() {
                    batch.bytes += envelope.data.get().len();
                    batch.events.push(*envelope);
                }
            }
        }
        Ok(())
    }

    /// A position means something only in the outbox it was made for.
    async fn change_outbox(&mut self, outbox: Uuid) -> Result<(), Stop> {
        let mut backoff = Backoff::new(WAITS.0, WAITS.1);
        let row = Arc::new(self.stored.clone());
        loop {
            let row = row.clone();
            let unit = move |tx: Tx| {
                let row = row.clone();
                async move { offsets::take_epoch(&tx, &row, outbox).await }
            };
            match self.applier.store.write(unit).await.map_err(plain) {
                Ok(Met::Taken) => break,
                Ok(Met::Fenced) => return Err(Stop::Fenced),
                Ok(Met::Stranger) => {
                    let (publisher, known) = (self.publisher, self.read_floor().await?.epoch);
                    return Err(Stop::Refused(format!(
                        "{publisher} sends the outbox {outbox}, this service has read {known}: the publisher's database was made anew"
                    )));
                }
                Err(error) => self.wait(error.to_string(), &mut backoff).await?,
            }
        }
        self.stored.epoch = outbox;
        self.stored.adopts = false;
        self.floor = self.read_floor().await?;
        Ok(())
    }

    async fn read_floor(&mut self) -> Result<Place, Stop> {
        let mut backoff = Backoff::new(WAITS.0, WAITS.1);
        loop {
            match inbox::place(&self.applier.store.read(), self.publisher).await {
                Ok(place) => return Ok(place),
                Err(error) => self.wait(error.to_string(), &mut backoff).await?,
            }
        }
    }

    fn step(&self, batch: &mut Batch, events: Vec<Envelope>) -> Step {
        let to = batch.to.unwrap_or(self.stored.next_offset);
        let slice = Slice {
            topic: self.topic.to_string(),
            part: i64::from(self.part),
            ends: std::mem::take(&mut batch.ends),
            to,
            reached: batch.reached,
        };
        let from = Place { epoch: self.stored.epoch, position: self.stored.next_offset };
        Step { publisher: self.publisher, mark: Mark::Offset(Arc::new(slice)), from, to, events }
    }

    /// Brings what was gathered into the database; while that is away, it waits with everything in hand.
    async fn flush(&mut self, batch: &mut Batch) -> Result<(), Stop> {
        if batch.to.is_none_or(|to| to <= self.stored.next_offset) {
            return Ok(());
        }
        let events = std::mem::take(&mut batch.events);
        let step = self.step(batch, events);
        *batch = Batch::default();
        let applier = self.applier.clone();
        self.settle(step, |step| applier.apply(step)).await
    }

    async fn park(&mut self, step: Step, why: String) -> Result<(), Stop> {
        let applier = self.applier.clone();
        self.settle(step, |step| applier.park(step, why.clone())).await
    }

    async fn settle<F: Future<Output = Result<(), Halt>>>(
        &mut self,
        step: Step,
        apply: impl Fn(Step) -> F,
    ) -> Result<(), Stop> {
        let mut backoff = Backoff::new(WAITS.0, WAITS.1);
        let to = step.to;
        loop {
            match apply(step.clone()).await {
                Ok(()) => break,
                Err(Halt::Fenced) => return Err(Stop::Fenced),
                Err(Halt::Shutdown) => return Err(Stop::Shutdown),
                Err(Halt::Store(why)) => {
                    self.wait(why, &mut backoff).await?;
                    // Part of it may have happened, or all: only the database knows.
                    if self.stored_now().await != Some(self.stored.next_offset) {
                        return Err(Stop::Fenced);
                    }
                }
            }
        }
        self.stored.next_offset = to;
        self.tell(What::At(to));
        Ok(())
    }

    async fn stored_now(&self) -> Option<i64> {
        let store: &Store = &self.applier.store;
        let rows = offsets::of(&store.read(), self.publisher).await.ok()?;
        let ours = rows.iter().find(|row| *row.topic == *self.topic && row.part == i64::from(self.part));
        ours.map(|row| row.next_offset)
    }

    async fn wait(&self, why: String, backoff: &mut Backoff) -> Result<(), Stop> {
        self.tell(What::Waits(why));
        tokio::select! {
            () = self.stop.cancelled() => Err(Stop::Shutdown),
            () = tokio::time::sleep(backoff.wait()) => Ok(()),
        }
    }
}
