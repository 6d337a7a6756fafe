//! What happens to received events: one unit holds position, inbox, effects and new events; poison is parked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::feed::Backoff;
use super::fits::Fits;
use super::inbox::{self, Arrival, InboxRow, Place};
use super::offsets::{self, Slice};
use super::{Envelope, Fault, Reaction};
use crate::store::{Scope, Store, StoreError, Tx, WriteError};
use crate::telemetry::{Name, Role, Span, key};

/// How long a passing trouble with one event is sat out before the event is parked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// How often the event is tried.
    pub(crate) tries: u32,
    /// The wait after the first try; each later one is twice as long …
    pub(crate) first: Duration,
    /// … up to this.
    pub(crate) most: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { tries: 10, first: Duration::from_millis(20), most: Duration::from_secs(5) }
    }
}

/// Why events could not be taken at all. It says nothing about the events.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Halt {
    #[error("the position was moved by somebody else")]
    Fenced,
    #[error("own database: {0}")]
    Store(String),
    #[error("shutting down")]
    Shutdown,
}

/// Why a unit of received events refused itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    #[error("the position was moved by somebody else")]
    Fenced,
    #[error("own database: {0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Fault(Fault),
}

/// Handles events in the given unit: each takes effect once, and none overtakes a parked one of its aggregate.
pub(crate) async fn handle(tx: &Tx, reactions: &[Reaction], events: &[Envelope]) -> Result<(), Stop> {
    for envelope in events {
        let Some(aggregate) = aggregate_of(reactions, envelope) else { continue };
        match inbox::receive(tx, &InboxRow::of(envelope, aggregate, tx.now())).await? {
            Arrival::Fresh => react(tx, reactions, envelope).await.map_err(Stop::Fault)?,
            Arrival::Seen => {}
            Arrival::HeldUp => inbox::park(tx, envelope, "an earlier event of the same thing is parked").await?,
        }
    }
    Ok(())
}

fn hearing<'a>(reactions: &'a [Reaction], envelope: &'a Envelope) -> impl Iterator<Item = &'a Reaction> {
    reactions.iter().filter(|r| r.def.name == envelope.kind && r.def.publisher == envelope.source)
}

/// The aggregate type of an event that this service hears.
pub(crate) fn aggregate_of(reactions: &[Reaction], envelope: &Envelope) -> Option<&'static str> {
    hearing(reactions, envelope).next().map(|r| r.def.aggregate)
}

/// Runs every reaction to one event, in the event's trace.
pub(crate) async fn react(tx: &Tx, reactions: &[Reaction], envelope: &Envelope) -> Result<(), Fault> {
    let Some(def) = hearing(reactions, envelope).next().map(|reaction| reaction.def) else { return Ok(()) };
    let mut span = Span::after(&envelope.traceparent, Role::Consumer, Name("process", def.name));
    if span.is_kept() {
        span.set(key::MESSAGING_OPERATION_TYPE, "process");
        span.set(key::MESSAGING_OPERATION_NAME, def.name);
        span.set(key::MESSAGING_DESTINATION_NAME, def.topic);
        span.set(key::MESSAGING_MESSAGE_ID, envelope.id.to_string());
    }
    let all = async {
        for reaction in hearing(reactions, envelope) {
            tx.enter(envelope.orgid);
            let reacting = async { reaction.react(tx.share(), envelope).await };
            Scope::org(envelope.orgid).around(reacting).await?;
        }
        Ok(())
    };
    let look = |span: &mut Span, done: &Result<(), Fault>| match done {
        Ok(()) => {}
        Err(Fault::Retry(_)) => span.fail("retry"),
        Err(Fault::Park(_)) => span.fail("park"),
    };
    span.watch(all, look).await
}

/// What a step moves on in its unit.
#[derive(Clone)]
pub(crate) enum Mark {
    /// The position in the publisher's outbox.
    Position,
    /// The offset in a partition of a topic.
    Offset(Arc<Slice>),
}

/// A stretch of one publisher's events on its way into this service's database.
#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) publisher: &'static str,
    pub(crate) mark: Mark,
    pub(crate) from: Place,
    pub(crate) to: i64,
    pub(crate) events: Vec<Envelope>,
}

impl Step {
    /// Moves the mark on. False means that somebody else moved it: the rest of the unit must not happen.
    async fn advance(&self, tx: &Tx) -> Result<bool, StoreError> {
        match &self.mark {
            Mark::Position => inbox::advance(tx, self.publisher, &self.from, self.to).await,
            Mark::Offset(slice) => {
                let last = self.events.last().map_or(0, |event| event.position);
                let reached = if self.to == slice.to { slice.reached } else { last };
                offsets::advance(tx, slice, &self.from, self.to, reached).await
            }
        }
    }

    /// Where the mark stands behind one of its events.
    fn behind(&self, event: &Envelope) -> i64 {
        match &self.mark {
            Mark::Position => event.position,
            Mark::Offset(slice) => slice.ends.get(&event.id).copied().unwrap_or(self.from.position),
        }
    }

    /// Its first `events` events, and what comes after them.
    fn split(mut self, events: usize) -> (Self, Option<Self>) {
        if self.events.len() <= events.max(1) {
            return (self, None);
        }
        let later = self.events.split_off(events.max(1));
        let middle = self.events.last().map_or(self.from.position, |event| self.behind(event));
        let from = Place { epoch: self.from.epoch, position: middle };
        let later = Self { publisher: self.publisher, mark: self.mark.clone(), from, to: self.to, events: later };
        self.to = middle;
        (self, Some(later))
    }

    /// The two halves as one again.
    fn join(mut self, later: Option<Self>) -> Self {
        if let Some(later) = later {
            self.to = later.to;
            self.events.extend(later.events);
        }
        self
    }
}

/// How it went to handle several events in one unit.
enum Together {
    Done,
    /// They do not fit into a unit's time; fewer may.
    TooLong,
    Not,
}

/// What to do after a unit failed.
enum Verdict {
    Again(String),
    Park(String),
    Halt(Halt),
}

fn judge(error: WriteError<Stop>) -> Verdict {
    match error {
        WriteError::Unit(Stop::Fenced) => Verdict::Halt(Halt::Fenced),
        WriteError::Unit(Stop::Fault(Fault::Retry(why))) => Verdict::Again(why),
        WriteError::Unit(Stop::Fault(Fault::Park(why))) => Verdict::Park(why),
        WriteError::Panicked(why) => Verdict::Park(format!("the reaction panicked: {why}")),
        WriteError::Deadline => Verdict::Again("the reaction took longer than a unit may".to_owned()),
        WriteError::Unit(Stop::Store(error)) | WriteError::Store(error) => match error {
            // The database is away or busy: no event is to blame, so none is parked for it.
            StoreError::Lost(_) | StoreError::LockTimeout | StoreError::Conflict(_) | StoreError::Ended => {
                Verdict::Halt(Halt::Store(error.to_string()))
            }
            StoreError::Engine(why) => Verdict::Again(why),
            other => Verdict::Park(other.to_string()),
        },
        // Only a fresh look at the position tells whether it happened.
        error @ (WriteError::Unknown | WriteError::Closed) => Verdict::Halt(Halt::Store(error.to_string())),
    }
}

/// Applies steps to a store.
#[derive(Clone)]
pub(crate) struct Applier {
    pub(crate) store: Store,
    pub(crate) reactions: Arc<[Reaction]>,
    pub(crate) patience: Patience,
    pub(crate) shutdown: CancellationToken,
    pub(crate) fits: Arc<Fits>,
}

impl Applier {
    /// Applies a step: in one unit if that works, else event by event, so that only what cannot be handled is parked.
    pub(crate) async fn apply(&self, step: Step) -> Result<(), Halt> {
        let mut rest = Some(step);
        while let Some(step) = rest.take() {
            let (first, later) = step.split(self.fits.get());
            let first = Arc::new(first);
            match self.together(&first).await? {
                Together::Done => rest = later,
                Together::TooLong => {
                    self.fits.too_many(first.events.len());
                    rest = Some(Arc::unwrap_or_clone(first).join(later));
                }
                Together::Not => {
                    self.one_by_one(Arc::unwrap_or_clone(first)).await?;
                    rest = later;
                }
            }
        }
        Ok(())
    }

    async fn together(&self, step: &Arc<Step>) -> Result<Together, Halt> {
        if step.events.len() < 2 {
            return Ok(Together::Not);
        }
        match self.unit(step.clone()).await {
            Ok(()) => Ok(Together::Done),
            Err(WriteError::Deadline) => Ok(Together::TooLong),
            Err(error) => match judge(error) {
                Verdict::Halt(halt) => Err(halt),
                Verdict::Again(_) | Verdict::Park(_) => Ok(Together::Not),
            },
        }
    }

    async fn one_by_one(&self, step: Step) -> Result<(), Halt> {
        if step.events.is_empty() {
            return self.single(Arc::new(step)).await;
        }
        let mut rest = Some(step);
        while let Some(step) = rest.take() {
            // The last event's unit also moves over what the filter left out behind it.
            let (first, later) = step.split(1);
            self.single(Arc::new(first)).await?;
            rest = later;
        }
        Ok(())
    }

    /// Applies a step of at most one event; in the end the event has taken effect or is parked.
    async fn single(&self, step: Arc<Step>) -> Result<(), Halt> {
        let mut backoff = Backoff::new(self.patience.first, self.patience.most);
        let mut tries = 1;
        loop {
            let why = match self.unit(step.clone()).await.map_err(judge) {
                Ok(()) => return Ok(()),
                Err(Verdict::Halt(halt)) => return Err(halt),
                Err(Verdict::Park(why)) => return self.park(Arc::unwrap_or_clone(step), why).await,
                Err(Verdict::Again(why)) => why,
            };
            if tries >= self.patience.tries {
                return self.park(Arc::unwrap_or_clone(step), format!("{why} (tried {tries} times)")).await;
            }
            tries += 1;
            tokio::select! {
                () = self.shutdown.cancelled() => return Err(Halt::Shutdown),
                () = tokio::time::sleep(backoff.wait()) => {}
            }
        }
    }

    async fn unit(&self, step: Arc<Step>) -> Result<(), WriteError<Stop>> {
        let (reactions, fits) = (self.reactions.clone(), self.fits.clone());
        let unit = move |tx: Tx| {
            let (step, reactions, fits, began) = (step.clone(), reactions.clone(), fits.clone(), Instant::now());
            async move {
                // First, because it also holds off everybody else who moves this position.
                if !step.advance(&tx).await? {
                    return Err(Stop::Fenced);
                }
                handle(&tx, &reactions, &step.events).await?;
                if tx.has_the_database_to_itself() && !step.events.is_empty() {
                    fits.kept_the_writer(step.events.len(), began.elapsed());
                }
                Ok(())
            }
        };
        self.store.write(unit).await
    }

    pub(crate) async fn park(&self, step: Step, reason: String) -> Result<(), Halt> {
        for event in &step.events {
            tracing::error!(
                event = %event.id, kind = %event.kind, publisher = %event.source, subject = %event.subject, %reason,
                "parked an event; later ones of the same thing wait behind it"
            );
        }
        let shared = Arc::new((step, reason));
        let unit = move |tx: Tx| {
            let shared = shared.clone();
            async move {
                let (step, reason) = &*shared;
                if !step.advance(&tx).await? {
                    return Err(Stop::Fenced);
                }
                for event in &step.events {
                    inbox::park(&tx, event, reason).await?;
                }
                Ok(())
            }
        };
        self.store.write(unit).await.map_err(|error: WriteError<Stop>| match judge(error) {
            Verdict::Halt(halt) => halt,
            Verdict::Again(why) | Verdict::Park(why) => Halt::Store(why),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::ids;
    use crate::store::{Engine, Options};

    #[test]
    fn a_step_that_is_split_covers_the_same_range_without_a_hole() {
        let event = |position| Envelope {
            specversion: "1.0".into(),
            id: ids::fresh(),
            source: "publisher".into(),
            kind: "thing.changed".into(),
            subject: ids::fresh(),
            time: Clock::system().now(),
            dataschema: "thing.changed.v1".into(),
            orgid: ids::fresh(),
            version: 1,
            traceparent: String::new(),
            position,
            data: serde_json::value::to_raw_value(&()).unwrap(),
        };
        let from = Place { epoch: ids::fresh(), position: 3 };
        let mark = Mark::Position;
        let whole = Step { publisher: "publisher", mark, from, to: 20, events: [5, 8, 9].map(event).to_vec() };
        let (first, later) = whole.clone().split(2);
        let rest = later.clone().unwrap();
        assert_eq!((first.from.position, first.to, first.events.len()), (3, 8, 2));
        assert_eq!((rest.from.position, rest.to, rest.events.len()), (8, 20, 1));
        let joined = first.join(later);
        assert_eq!((joined.to, joined.events.len()), (20, 3));
        assert!(whole.split(3).1.is_none());
    }

    #[tokio::test]
    async fn a_step_from_where_this_service_no_longer_stands_does_not_happen() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::Sqlite { path: folder.path().join("fence.db") };
        let store = Store::open(Options::new(engine, Clock::system()), &[]).await.unwrap();
        let epoch = ids::fresh();
        let take = move |tx: Tx| async move { inbox::take_epoch(&tx, "publisher", epoch).await };
        assert!(store.write(take).await.unwrap());
        assert!(!store.write(take).await.unwrap(), "an outbox that is taken is not taken again");
        let applier = Applier {
            store: store.clone(),
            reactions: Arc::new([]),
            patience: Patience::default(),
            shutdown: CancellationToken::new(),
            fits: Arc::default(),
        };
        let step = |epoch, position, to| {
            let from = Place { epoch, position };
            applier.apply(Step { publisher: "publisher", mark: Mark::Position, from, to, events: Vec::new() })
        };
        step(epoch, 0, 5).await.unwrap();
        assert!(matches!(step(epoch, 0, 6).await, Err(Halt::Fenced)));
        assert!(matches!(step(ids::fresh(), 5, 6).await, Err(Halt::Fenced)));
        assert_eq!(inbox::place(&store.read(), "publisher").await.unwrap(), Place { epoch, position: 5 });
    }
}
