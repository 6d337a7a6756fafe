//! A service in its consumer group: it joins for what comes by Kafka, and begins anew whenever that changes or breaks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use tokio_util::sync::CancellationToken;

use super::client::Connection;
use super::member::Member;
use super::membership::Membership;
use super::{PATIENCE, topics};
use crate::events::apply::Patience;
use crate::events::feed::Backoff;
use crate::events::parking::plain;
use crate::events::{BusHealth, Reaction, Road, inbox, offsets};
use crate::store::{Store, Tx};

/// Between attempts to join.
const WAITS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Everything one service hears by Kafka.
pub(crate) struct GroupConsumer {
    /// The reading service.
    pub(crate) name: &'static str,
    /// Its database.
    pub(crate) store: Store,
    /// The way to the brokers.
    pub(crate) connection: Connection,
    /// What it does about events.
    pub(crate) reactions: Arc<[Reaction]>,
    /// This instance's name in the group; two must not share one.
    pub(crate) instance: String,
    /// Where it tells how it fares.
    pub(crate) health: BusHealth,
    /// How long a passing trouble with one event is sat out.
    pub(crate) patience: Patience,
}

/// How a membership ended.
pub(super) enum Ended {
    Shutdown,
    /// Somebody moved a position or a road by hand.
    Moved,
    Broken(String),
}

/// Publishers that are read on Kafka, and the topics they write to.
pub(super) type Heard = BTreeMap<&'static str, Vec<String>>;

impl GroupConsumer {
    /// Reads until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut backoff = Backoff::new(WAITS.0, WAITS.1);
        let mut told = String::new();
        while !shutdown.is_cancelled() {
            let wait = match self.member(&shutdown, &mut backoff).await {
                Ended::Shutdown => return,
                Ended::Moved => Duration::ZERO,
                Ended::Broken(why) => {
                    if told != why {
                        tracing::warn!(consumer = self.name, %why, "not in its group on Kafka; trying again");
                    }
                    self.for_heard(|publisher| self.health.waiting(publisher, Some(why.clone()))).await;
                    told = why;
                    backoff.wait()
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn for_heard(&self, act: impl Fn(&'static str)) {
        self.heard().await.unwrap_or_default().keys().for_each(|publisher| act(publisher));
    }

    async fn heard(&self) -> Result<Heard, String> {
        let mut heard = BTreeMap::<&'static str, BTreeSet<String>>::new();
        for reaction in self.reactions.iter() {
            heard.entry(reaction.def.publisher).or_default().insert(self.connection.settings().topic(&reaction.def));
        }
        let mut on_kafka = Heard::new();
        for (publisher, topics) in heard {
            let road = inbox::road(&self.store.read(), publisher).await;
            if road.map_err(|e| format!("own database: {e}"))? == Some(Road::Kafka) {
                on_kafka.insert(publisher, topics.into_iter().collect());
            }
        }
        Ok(on_kafka)
    }

    /// One membership in the group.
    async fn member(&self, shutdown: &CancellationToken, backoff: &mut Backoff) -> Ended {
        let mut moved = self.health.moved();
        let heard = match self.heard().await {
            Ok(heard) => heard,
            Err(why) => return Ended::Broken(why),
        };
        if heard.is_empty() {
            tokio::select! {
                () = shutdown.cancelled() => return Ended::Shutdown,
                () = moved.wait() => return Ended::Moved,
            }
        }
        let joined = tokio::select! {
            () = shutdown.cancelled() => return Ended::Shutdown,
            joined = self.join(&heard) => joined,
        };
        let mut member = match joined {
            Ok(member) => member,
            Err(why) => return Ended::Broken(why),
        };
        let ended = tokio::select! {
            () = shutdown.cancelled() => Ended::Shutdown,
            () = moved.wait() => Ended::Moved,
            ended = member.run(backoff) => ended,
        };
        member.leave().await;
        ended
    }

    async fn join(&self, heard: &Heard) -> Result<Member<'_>, String> {
        let settings = self.connection.settings().clone();
        for (publisher, topics) in heard {
            let (publisher, topics, parts) = (*publisher, Arc::new(topics.clone()), settings.partitions);
            let unit = move |tx: Tx| {
                let topics = topics.clone();
                async move { offsets::ensure(&tx, publisher, &topics, parts).await }
            };
            self.store.write(unit).await.map_err(plain).map_err(|e| format!("own database: {e}"))?;
        }
        let (client, changed) = Membership::open(&self.connection, &self.instance, &self.health)?;
        let topics: Vec<String> = heard.values().flatten().cloned().collect();
        let asked = client.shared();
        let names = topics.clone();
        Connection::wait(move || {
            for topic in &names {
                let metadata = asked.fetch_metadata(Some(topic), PATIENCE);
                let metadata = metadata.map_err(|e| settings.nobody_answers(&e))?;
                topics::check_partitions(&settings, topic, &metadata)?;
            }
            Ok(())
        })
        .await?;
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        client.consumer().subscribe(&names).map_err(|e| format!("subscribing: {e}"))?;
        Ok(Member::new(self, heard.clone(), client, changed))
    }
}
