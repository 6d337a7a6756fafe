//! The consumer's side of the bus: one loop per publisher, which follows its outbox and survives everything but a stop.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::apply::{Applier, Halt, Mark, Patience, Step};
use super::feed::{Authorize, Backoff, Feed, FeedError, Link, Stretch};
use super::fits::{MERGE, MERGE_BYTES, SKIP};
use super::health::BusHealth;
use super::inbox::{self, Place};
use super::{Envelope, Reaction, Road};
use crate::registry::Directory;
use crate::store::{Store, WriteError};

/// Between attempts to connect.
const FIRST_WAIT: Duration = Duration::from_millis(20);
const LONGEST_WAIT: Duration = Duration::from_millis(500);
/// Between questions whether a publisher still refuses: only a hand can change that.
const REFUSED_WAIT: Duration = Duration::from_secs(2);

/// A publisher that is back by then was only started anew, or the whole city stops: nobody needs to hear of it.
const UNTOLD: Duration = Duration::from_secs(3);

/// After this long in silence a position that was only read is written down; far below the time that events are kept.
const REMEMBER: Duration = Duration::from_secs(60);

/// Everything that one service hears, from whomever.
pub(crate) struct Consumer {
    /// The reading service.
    pub(crate) name: &'static str,
    /// Its database.
    pub(crate) store: Store,
    /// Where publishers listen.
    pub(crate) directory: Directory,
    /// What it does about events.
    pub(crate) reactions: Vec<Reaction>,
    /// Proof of who is calling.
    pub(crate) authorize: Authorize,
    /// Where it tells how it fares.
    pub(crate) health: BusHealth,
}

/// A consumer at work.
struct Following {
    link: Link,
    store: Store,
    reactions: Arc<[Reaction]>,
    patience: Patience,
    health: BusHealth,
}

/// How one connection ended.
enum Ended {
    Shutdown,
    Away(String),
    Broken(String),
    Refused(String),
}

impl From<FeedError> for Ended {
    fn from(error: FeedError) -> Self {
        match error {
            FeedError::Refused(why) => Self::Refused(why),
            FeedError::Away(why) => Self::Away(why),
            FeedError::Broken(why) => Self::Broken(why),
        }
    }
}

impl From<Halt> for Ended {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::Shutdown => Self::Shutdown,
            other => Self::Broken(other.to_string()),
        }
    }
}

impl Consumer {
    /// Follows every publisher until `shutdown` is cancelled.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        self.run_with(Patience::default(), shutdown).await;
    }

    /// The same with another patience towards passing troubles.
    pub(crate) async fn run_with(self, patience: Patience, shutdown: CancellationToken) {
        let link = Link { consumer: self.name, directory: self.directory, authorize: self.authorize };
        let publishers: BTreeSet<&'static str> = self.reactions.iter().map(|r| r.def.publisher).collect();
        let reactions = self.reactions.into();
        let following = Following { link, store: self.store, reactions, patience, health: self.health };
        let mut loops: FuturesUnordered<_> =
            publishers.into_iter().map(|p| following.supervise(p, &shutdown)).collect();
        while loops.next().await.is_some() {}
    }
}

impl Following {
    /// Keeps one publisher's loop going, also after a bug of ours in it.
    async fn supervise(&self, publisher: &'static str, shutdown: &CancellationToken) {
        self.health.waiting(publisher, None);
        while !shutdown.is_cancelled() {
            if AssertUnwindSafe(self.follow(publisher, shutdown)).catch_unwind().await.is_err() {
                tracing::error!(publisher, "the loop of a publisher panicked; it starts again");
                pause(LONGEST_WAIT, shutdown).await;
            }
        }
    }

    async fn follow(&self, publisher: &'static str, shutdown: &CancellationToken) {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let mut told = String::new();
        let mut away_since: Option<Instant> = None;
        while !shutdown.is_cancelled() {
            let mut moved = self.health.moved();
            if let Ok(Some(Road::Kafka)) = inbox::road(&self.store.read(), publisher).await {
                // Another loop has this publisher, until somebody moves it back.
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = moved.wait() => continue,
                }
            }
            let mut session = Session::new(self, publisher, shutdown);
            let ended = session.run(&mut backoff).await;
            if session.heard {
                (told, away_since) = (String::new(), None);
            }
            let away = matches!(ended, Ended::Away(_)).then(|| *away_since.get_or_insert_with(Instant::now));
            let wait = match ended {
                Ended::Shutdown => return session.settle().await,
                Ended::Away(why) if away.is_some_and(|since| since.elapsed() < UNTOLD) => {
                    tracing::debug!(publisher, consumer = self.link.consumer, %why, "a publisher is away");
                    self.health.waiting(publisher, Some(why));
                    backoff.wait()
                }
                Ended::Away(why) | Ended::Broken(why) => {
                    if told != why {
                        tracing::warn!(publisher, consumer = self.link.consumer, %why, "lost a publisher; trying again");
                    }
                    self.health.waiting(publisher, Some(why.clone()));
                    told = why;
                    backoff.wait()
                }
                Ended::Refused(why) => {
                    if told != why {
                        tracing::error!(publisher, consumer = self.link.consumer, %why, "refused by a publisher; see `events adopt` and `events replay`");
                    }
                    self.health.refused(publisher, why.clone());
                    told = why;
                    REFUSED_WAIT
                }
            };
            session.settle().await;
            pause(wait, shutdown).await;
        }
    }
}

async fn pause(wait: Duration, shutdown: &CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = tokio::time::sleep(wait) => {}
    }
}

/// One connection's worth of following.
struct Session<'a> {
    consumer: &'a Following,
    publisher: &'static str,
    applier: Applier,
    /// What the own database says.
    stored: Place,
    /// How far the stream has been read; beyond `stored` there was nothing for us.
    reached: i64,
    /// Whether the publisher said anything that was understood.
    heard: bool,
}

impl<'a> Session<'a> {
    fn new(consumer: &'a Following, publisher: &'static str, shutdown: &CancellationToken) -> Self {
        let applier = Applier {
            store: consumer.store.in_background(),
            reactions: consumer.reactions.clone(),
            patience: consumer.patience,
            shutdown: shutdown.clone(),
            fits: Arc::default(),
        };
        Self {
            consumer,
            publisher,
            applier,
            stored: Place { epoch: Uuid::nil(), position: 0 },
            reached: 0,
            heard: false,
        }
    }

    async fn run(&mut self, backoff: &mut Backoff) -> Ended {
        let shutdown = self.applier.shutdown.clone();
        let mut moved = self.consumer.health.moved();
        match self.connect(&shutdown).await {
            Ok(mut feed) => loop {
                let stretch = tokio::select! {
                    () = shutdown.cancelled() => return Ended::Shutdown,
                    () = moved.wait() => return Ended::Broken("the position was set by hand".to_owned()),
                    () = tokio::time::sleep(REMEMBER), if self.reached > self.stored.position => {
                        if let Err(ended) = self.remember().await {
                            return ended;
                        }
                        continue;
                    }
                    stretch = feed.next() => stretch,
                };
                match self.take(stretch, &mut feed).await {
                    // Only work that was done says that the trouble is over; a connection alone does not.
                    Ok(events) if events > 0 => backoff.reset(),
                    Ok(_) => {}
                    Err(ended) => return ended,
                }
            },
            Err(ended) => ended,
        }
    }

    async fn connect(&mut self, shutdown: &CancellationToken) -> Result<Feed, Ended> {
        let place = inbox::place(&self.consumer.store.read(), self.publisher).await;
        self.stored = place.map_err(|e| Ended::Broken(format!("own database: {e}")))?;
        self.reached = self.stored.position;
        let hears = self.consumer.reactions.iter().filter(|r| r.def.publisher == self.publisher);
        let types: BTreeSet<&str> = hears.map(|r| r.def.name).collect();
        let types = types.into_iter().map(str::to_owned).collect();
        tokio::select! {
            () = shutdown.cancelled() => Err(Ended::Shutdown),
            feed = self.consumer.link.open(self.publisher, self.stored.epoch, self.stored.position, types) => Ok(feed?),
        }
    }

    /// Takes a stretch, and with it whatever else has arrived meanwhile.
    async fn take(&mut self, first: Result<Stretch, FeedError>, feed: &mut Feed) -> Result<usize, Ended> {
        let mut events = Vec::new();
        let mut next = Some(first);
        // Trouble behind good stretches waits until those are in.
        let mut trouble = None;
        let (mut upto, mut head, mut bytes) = (self.reached, 0, 0);
        while let Some(stretch) = next.take() {
            match self.check(stretch, upto).await {
                Ok(stretch) => {
                    (upto, head) = (stretch.upto, stretch.head);
                    bytes += stretch.events.iter().map(|event| event.data.get().len()).sum::<usize>();
                    events.extend(stretch.events);
                }
                Err(ended) => trouble = Some(ended),
            }
            if trouble.is_none() && events.len() < MERGE && bytes < MERGE_BYTES {
                next = feed.received();
            }
        }
        let count = events.len();
        self.step(events, upto).await?;
        if let Some(ended) = trouble {
            Err(ended)
        } else {
            self.heard = true;
            self.consumer.health.at(self.publisher, self.reached, head);
            Ok(count)
        }
    }

    /// Refuses a stretch of another outbox, and one that does not begin where the last one ended.
    async fn check(&mut self, stretch: Result<Stretch, FeedError>, reached: i64) -> Result<Stretch, Ended> {
        let stretch = stretch?;
        if self.stored.epoch.is_nil() {
            self.take_epoch(stretch.epoch).await?;
        }
        if stretch.epoch != self.stored.epoch {
            let (publisher, got, known) = (self.publisher, stretch.epoch, self.stored.epoch);
            return Err(Ended::Refused(format!("{publisher} sends the outbox {got}, this service has read {known}")));
        }
        if stretch.after != reached || stretch.upto < stretch.after {
            let (after, upto) = (stretch.after, stretch.upto);
            return Err(Ended::Broken(format!("a hole: ({after}, {upto}] came where {reached} was reached")));
        }
        Ok(stretch)
    }

    async fn take_epoch(&mut self, epoch: Uuid) -> Result<(), Ended> {
        let publisher = self.publisher;
        let unit = move |tx: crate::store::Tx| async move { inbox::take_epoch(&tx, publisher, epoch).await };
        let taken = self.consumer.store.write(unit).await;
        let taken = taken.map_err(|e: WriteError<_>| Ended::Broken(format!("own database: {e}")))?;
        if !taken {
            return Err(Ended::Broken("another instance took an outbox first".to_owned()));
        }
        self.stored = Place { epoch, position: 0 };
        Ok(())
    }

    async fn step(&mut self, events: Vec<Envelope>, upto: i64) -> Result<(), Ended> {
        self.reached = upto;
        if events.is_empty() && upto - self.stored.position < SKIP {
            return Ok(());
        }
        let step =
            Step { publisher: self.publisher, mark: Mark::Position, from: self.stored.clone(), to: upto, events };
        let applied = self.applier.apply(step).await;
        if let Err(halt) = applied {
            // What is stored now only the database knows; the next session asks it.
            self.reached = self.stored.position;
            return Err(halt.into());
        }
        self.stored.position = upto;
        Ok(())
    }

    /// Writes down how far a quiet publisher was read, so that its purge never overtakes what we know of ourselves.
    async fn remember(&mut self) -> Result<(), Ended> {
        if self.stored.epoch.is_nil() {
            return Ok(());
        }
        let step = Step {
            publisher: self.publisher,
            mark: Mark::Position,
            from: self.stored.clone(),
            to: self.reached,
            events: Vec::new(),
        };
        self.applier.apply(step).await?;
        self.stored.position = self.reached;
        Ok(())
    }

    /// Writes down what was read without an effect, so that the next session does not read it again.
    async fn settle(self) {
        if self.reached > self.stored.position && !self.stored.epoch.is_nil() {
            let step = Step {
                publisher: self.publisher,
                mark: Mark::Position,
                from: self.stored,
                to: self.reached,
                events: Vec::new(),
            };
            if let Err(halt) = self.applier.apply(step).await {
                tracing::debug!(%halt, "the last empty stretch is read once more");
            }
        }
    }
}
