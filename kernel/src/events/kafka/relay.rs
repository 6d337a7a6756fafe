//! The relay: what the service committed goes to Kafka in its order; a failed delivery stops it and it begins anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesOrdered;
use rdkafka::producer::future_producer::{DeliveryFuture, FutureProducer, FutureRecord};
use rdkafka::producer::{Producer as _, PurgeConfig};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::client::{Connection, Quiet};
use super::cursor::{self, Share};
use super::record::{self, Stamp};
use super::{PATIENCE, topics};
use crate::events::feed::Backoff;
use crate::events::outbox::shard;
use crate::events::wire::Stored;
use crate::events::{BusHealth, EventDef, RelayHealth, source};
use crate::jobs::Lease;
use crate::store::Store;

/// How long a relay that has gone silent keeps the others waiting. An idle one lets its lease run out and keeps its term.
const LIFE: Duration = Duration::from_secs(3);
/// How often one that is not in charge looks whether the one that is has died, while events wait.
const LOOK: Duration = Duration::from_millis(250);
/// Between attempts after a failure.
const WAITS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// What sends one service's events to Kafka.
pub(crate) struct Relay {
    /// The publishing service.
    pub(crate) service: &'static str,
    /// Its database.
    pub(crate) store: Store,
    /// The way to the brokers.
    pub(crate) connection: Connection,
    /// What it publishes.
    pub(crate) events: Vec<EventDef>,
    /// This instance's name among those of the service.
    pub(crate) owner: String,
    /// Where it tells how it fares.
    pub(crate) health: BusHealth,
}

/// Where each event type goes.
struct Routes {
    stream: BTreeMap<&'static str, String>,
    literal: BTreeMap<&'static str, String>,
    all: Vec<String>,
    partitions: i32,
}

/// The right to send, and since when it is known to be ours.
struct Held {
    lease: Lease,
    since: Instant,
}

enum Ended {
    Shutdown,
    Broken(String),
}

impl Relay {
    /// Sends until `shutdown`: one loop for each share of the aggregates.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let shares = self.connection.settings().relays;
        let relay = &self;
        let loops = (0..shares).map(|rest| relay.follow(Share { of: shares, rest }, &shutdown));
        futures::future::join_all(loops).await;
    }

    async fn follow(&self, share: Share, shutdown: &CancellationToken) {
        let mut backoff = Backoff::new(WAITS.0, WAITS.1);
        let mut told = String::new();
        while !shutdown.is_cancelled() {
            let Ended::Broken(why) = self.session(share, shutdown, &mut backoff).await else { return };
            if told != why {
                tracing::warn!(service = self.service, relay = share.rest, %why, "events wait for Kafka; their relay begins anew");
            }
            self.health.relayed(share.rest, |stands| stands.last_error = Some(why.clone()));
            told = why;
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep(backoff.wait()) => {}
            }
        }
    }

    /// One producer's life.
    async fn session(&self, share: Share, shutdown: &CancellationToken, backoff: &mut Backoff) -> Ended {
        let opened = tokio::select! {
            () = shutdown.cancelled() => return Ended::Shutdown,
            opened = self.open(share) => opened,
        };
        let mut sending = match opened {
            Ok(sending) => sending,
            Err(why) => return Ended::Broken(why),
        };
        let ended = sending.run(shutdown, backoff).await;
        sending.outlet.end().await;
        ended
    }

    async fn open(&self, share: Share) -> Result<Sending<'_>, String> {
        let own = |e: &dyn std::fmt::Display| format!("own database: {e}");
        let opened = self.store.write(|tx| async move { cursor::open(&tx).await }).await;
        opened.map_err(|e| own(&e))?;
        let outbox = source::identity(&self.store).await.map_err(|e| own(&e))?.epoch;
        let routes = Arc::new(self.routes());
        // Before the first event: a producer's first idempotent answer takes half a second.
        let outlet = Outlet::open(&self.connection, share.rest, routes.clone()).await?;
        let upto = cursor::upto(&self.store, share).await.map_err(|e| own(&e))?;
        self.health.relayed(share.rest, |stands| {
            *stands = RelayHealth { upto, producers: stands.producers + 1, last_error: None };
        });
        Ok(Sending { relay: self, share, outlet, routes, outbox, upto, held: None })
    }

    fn routes(&self) -> Routes {
        let settings = self.connection.settings();
        let literal = self.events.iter().filter_map(|e| Some((e.name, settings.literal_topic(e)?)));
        Routes {
            stream: self.events.iter().map(|e| (e.name, settings.topic(e))).collect(),
            literal: literal.collect(),
            all: settings.topics(&self.events).into_iter().collect(),
            partitions: settings.partitions,
        }
    }
}

/// A relay at work.
struct Sending<'a> {
    relay: &'a Relay,
    share: Share,
    outlet: Outlet,
    routes: Arc<Routes>,
    outbox: Uuid,
    upto: i64,
    held: Option<Held>,
}

impl Sending<'_> {
    async fn run(&mut self, shutdown: &CancellationToken, backoff: &mut Backoff) -> Ended {
        let mut head = self.relay.store.head();
        loop {
            // Marked seen before the table is read: a commit in between wakes us once more instead of being missed.
            let seen = *head.borrow_and_update();
            if seen <= self.upto {
                tokio::select! {
                    () = shutdown.cancelled() => return Ended::Shutdown,
                    changed = head.changed() => if changed.is_err() { return Ended::Shutdown },
                }
                continue;
            }
            let stepped = tokio::select! {
                () = shutdown.cancelled() => return Ended::Shutdown,
                stepped = self.step(seen) => stepped,
            };
            match stepped {
                Ok(true) => backoff.reset(),
                Ok(false) => tokio::select! {
                    () = shutdown.cancelled() => return Ended::Shutdown,
                    () = sleep(LOOK) => {}
                },
                Err(why) => return Ended::Broken(why),
            }
        }
    }

    /// Sends the next batch; false if another instance is in charge.
    async fn step(&mut self, head: i64) -> Result<bool, String> {
        let store = &self.relay.store;
        if !self.hold().await? {
            // The one in charge moves the mark; what it has sent is not ours to send.
            self.upto = cursor::upto(store, self.share).await.map_err(|e| format!("own database: {e}"))?;
            return Ok(false);
        }
        let read = cursor::batch(store, self.share, self.upto, head).await;
        let (events, upto) = read.map_err(|e| format!("own database: {e}"))?;
        let sent = self.send(&events).await;
        let (to, trouble) = match sent {
            Ok(()) => (upto, None),
            // What was acknowledged in front of the failure need not go out again.
            Err((acknowledged, why)) => (acknowledged.unwrap_or(self.upto), Some(why)),
        };
        self.mark(to).await?;
        trouble.map_or(Ok(true), Err)
    }

    async fn mark(&mut self, to: i64) -> Result<(), String> {
        if to <= self.upto {
            return Ok(());
        }
        let Some(held) = &self.held else { return Ok(()) };
        if !cursor::mark(&self.relay.store, &held.lease, self.share, to).await? {
            self.held = None;
            return Err("another instance took over".to_owned());
        }
        self.upto = to;
        self.relay.health.relayed(self.share.rest, |stands| {
            stands.upto = to;
            stands.last_error = None;
        });
        Ok(())
    }

    /// Makes sure that the term is ours; a new one begins where the last one's mark stands.
    async fn hold(&mut self) -> Result<bool, String> {
        let store = &self.relay.store;
        if let Some(held) = &mut self.held {
            if held.since.elapsed() < LIFE / 3 || held.renew(store).await? {
                return Ok(true);
            }
            self.held = None;
        }
        let name = format!("kafka-relay-{}-of-{}", self.share.rest, self.share.of);
        let since = Instant::now();
        let taken = Lease::acquire(store, &name, &self.relay.owner, LIFE).await;
        let Some(lease) = taken.map_err(|e| format!("own database: {e}"))? else { return Ok(false) };
        self.upto = cursor::upto(store, self.share).await.map_err(|e| format!("own database: {e}"))?;
        self.held = Some(Held { lease, since });
        Ok(true)
    }

    /// Sends events and waits until all are acknowledged. A failure tells the last position in front of it.
    async fn send(&mut self, events: &[Stored]) -> Result<(), (Option<i64>, String)> {
        let Some(held) = &mut self.held else { return Err((None, "not in charge".to_owned())) };
        if events.is_empty() {
            return Ok(());
        }
        let stamp = Stamp { publisher: self.relay.service, outbox: self.outbox, term: held.lease.epoch() };
        self.outlet.begin().map_err(|why| (None, why))?;
        let mut flying = FuturesOrdered::new();
        for event in events {
            for topic in self.routes.of(&event.event_type) {
                let delivery = self.outlet.send(topic, self.routes.partition(event), event, &stamp);
                let delivery = delivery.map_err(|why| (None, format!("event {}: {why}", event.id)))?;
                flying.push_back(async move { (event.position, delivery.await) });
            }
        }
        let mut acknowledged = None;
        loop {
            let next = tokio::select! {
                next = flying.next() => next,
                kept = held.keep(&self.relay.store) => {
                    kept.map_err(|why| (acknowledged, why))?;
                    continue;
                }
            };
            match next {
                None => break,
                Some((position, Ok(Ok(_)))) => acknowledged = Some(position),
                Some((position, Ok(Err((error, _))))) => {
                    // With two topics per event the one before may have only half of its copies out.
                    let before = acknowledged.filter(|last| *last < position && !self.outlet.transactional);
                    return Err((before, format!("position {position} was not taken: {error}")));
                }
                Some((_, Err(_))) => return Err((None, "the producer ended".to_owned())),
            }
        }
        self.outlet.commit().await.map_err(|why| (None, why))
    }
}

impl Held {
    async fn renew(&mut self, store: &Store) -> Result<bool, String> {
        let asked = Instant::now();
        let kept = self.lease.renew(store, LIFE).await.map_err(|e| format!("own database: {e}"))?;
        if kept {
            self.since = asked;
        }
        Ok(kept)
    }

    /// Renews at a third of the life while events are under way; at two thirds without an answer they are called back.
    async fn keep(&mut self, store: &Store) -> Result<(), String> {
        tokio::time::sleep_until(self.since + LIFE / 3).await;
        match timeout_at(self.since + LIFE * 2 / 3, self.renew(store)).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err("another instance took over".to_owned()),
            Ok(Err(why)) => Err(why),
            Err(_) => Err("the lease could not be renewed in time".to_owned()),
        }
    }
}

impl Routes {
    /// The topics of an event type: first the one that keeps its order.
    fn of(&self, kind: &str) -> impl Iterator<Item = &str> {
        // A type that is no longer declared goes where the others go.
        let stream = self.stream.get(kind).or_else(|| self.stream.values().next());
        stream.into_iter().chain(self.literal.get(kind)).map(String::as_str)
    }

    /// The shard decides, so that one relay feeds a partition and positions only rise in it.
    fn partition(&self, event: &Stored) -> i32 {
        i32::try_from(shard(event.aggregate_id)).unwrap_or(0) % self.partitions.max(1)
    }
}

/// A producer.
struct Outlet {
    producer: FutureProducer<Quiet>,
    transactional: bool,
}

impl Outlet {
    /// A producer that has met its broker.
    async fn open(connection: &Connection, relay: u32, routes: Arc<Routes>) -> Result<Self, String> {
        let connection = connection.clone();
        Connection::wait(move || {
            let settings = connection.settings();
            let producer: FutureProducer<Quiet> = connection.make(connection.producer(relay), Quiet)?;
            for topic in &routes.all {
                let metadata = producer.client().fetch_metadata(Some(topic), PATIENCE);
                let metadata = metadata.map_err(|e| settings.nobody_answers(&e))?;
                topics::check_partitions(settings, topic, &metadata)?;
            }
            let transactional = !settings.transactional_id_prefix.is_empty();
            if transactional {
                producer.init_transactions(PATIENCE).map_err(|e| format!("transactions: {e}"))?;
            }
            Ok(Self { producer, transactional })
        })
        .await
    }

    fn send(&self, topic: &str, partition: i32, event: &Stored, stamp: &Stamp<'_>) -> Result<DeliveryFuture, String> {
        let key = event.aggregate_id.to_string();
        let record = FutureRecord::to(topic)
            .partition(partition)
            .key(&key)
            .payload(&event.payload)
            .headers(record::headers(event, stamp));
        self.producer.send_result(record).map_err(|(error, _)| error.to_string())
    }

    fn begin(&self) -> Result<(), String> {
        if !self.transactional {
            return Ok(());
        }
        self.producer.begin_transaction().map_err(|e| format!("a transaction: {e}"))
    }

    /// Only once nothing is in flight: waiting for deliveries inside the client steps in tenths of a second.
    async fn commit(&self) -> Result<(), String> {
        if !self.transactional {
            return Ok(());
        }
        let producer = self.producer.clone();
        Connection::wait(move || producer.commit_transaction(PATIENCE).map_err(|e| format!("a transaction: {e}"))).await
    }

    /// Calls back what is under way: it stays unpublished, and the next producer sends it.
    async fn end(self) {
        let ended = Connection::wait(move || {
            self.producer.purge(PurgeConfig::default().queue().inflight());
            drop(self);
            Ok(())
        });
        drop(ended.await);
    }
}
