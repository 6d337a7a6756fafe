//! Which bus carries what to and from one service: read from the settings, held against what the database says.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::parking::plain;
use super::{BusHealth, BusSettings, EventDef, KafkaSettings, Reaction, Road, inbox, move_edge, replay};
#[cfg(feature = "kafka")]
use super::{Patience, kafka};
use crate::clock::Timestamp;
use crate::config::Configuration;
use crate::secrets::Secrets;
use crate::store::{Scalar, Store, StoreError, Tx};
use crate::{params, sql};

/// The bus of one service as its settings describe it. Clones share it.
#[derive(Clone)]
pub(crate) struct Carrier(Arc<Inner>);

struct Inner {
    service: &'static str,
    bus: BusSettings,
    settings: KafkaSettings,
    #[cfg(feature = "kafka")]
    connection: Option<kafka::Connection>,
}

impl Carrier {
    /// Reads `[bus]` and `[kafka]`.
    ///
    /// # Errors
    /// Settings that do not read, and Kafka in a program without it.
    pub(crate) fn load(
        service: &'static str,
        configuration: &Configuration,
        secrets: &Secrets,
    ) -> Result<Self, String> {
        let bus = configuration.settings("bus").map_err(|e| e.to_string())?;
        let settings: KafkaSettings = configuration.settings("kafka").map_err(|e| e.to_string())?;
        #[cfg(feature = "kafka")]
        let connection = settings.is_on().then(|| kafka::Connection::new(&settings, service, secrets)).transpose()?;
        #[cfg(not(feature = "kafka"))]
        if settings.is_on() {
            let _: &Secrets = secrets;
            return Err("kafka.brokers is set, but this program was built without the feature `kafka`".to_owned());
        }
        Ok(Self(Arc::new(Inner {
            service,
            bus,
            settings,
            #[cfg(feature = "kafka")]
            connection,
        })))
    }

    fn publishers(reactions: &[Reaction]) -> BTreeSet<&'static str> {
        reactions.iter().map(|reaction| reaction.def.publisher).collect()
    }

    /// How many partitions carry what is heard of a publisher.
    fn slices(&self, reactions: &[Reaction], publisher: &str) -> usize {
        let defs = reactions.iter().map(|r| &r.def).filter(|def| def.publisher == publisher);
        let topics: BTreeSet<String> = defs.map(|def| self.0.settings.topic(def)).collect();
        topics.len() * usize::try_from(self.0.settings.partitions).unwrap_or(0)
    }

    /// Moves what the settings want on another road than it is, before anything is read.
    ///
    /// # Errors
    /// The database, or a road that leads nowhere because no broker is set.
    pub(crate) async fn settle(&self, store: &Store, health: &BusHealth, reactions: &[Reaction]) -> Result<(), String> {
        let own = |e: StoreError| e.to_string();
        for publisher in Self::publishers(reactions) {
            let wanted = self.0.bus.wanted(publisher, self.0.service);
            if let Some(road) = wanted {
                self.refuse_nowhere(publisher, road)?;
                move_edge(store, health, publisher, road, self.slices(reactions, publisher)).await.map_err(own)?;
            } else if let Some(road) = inbox::road(&store.read(), publisher).await.map_err(own)? {
                self.refuse_nowhere(publisher, road)?;
            }
        }
        if !(self.0.settings.is_on() && self.0.settings.relay) {
            no_relay(store).await.map_err(own)?;
        }
        Ok(())
    }

    fn refuse_nowhere(&self, publisher: &str, road: Road) -> Result<(), String> {
        if road == Road::Stream || self.0.settings.is_on() {
            return Ok(());
        }
        let service = self.0.service;
        Err(format!(
            "{service} reads {publisher} on Kafka, but kafka.brokers is not set; set it, or move it back with bus.services = {{ {service} = \"stream\" }}"
        ))
    }

    /// Moves what is heard, or one publisher's part of it, to the other bus while both run; gives what was moved.
    ///
    /// # Errors
    /// The settings say otherwise, no broker is set, or the database.
    pub(crate) async fn move_to(
        &self,
        store: &Store,
        health: &BusHealth,
        reactions: &[Reaction],
        publisher: Option<&str>,
        to: Road,
    ) -> Result<Vec<&'static str>, String> {
        let wanted = |name: &&'static str| publisher.is_none_or(|only| only == *name);
        let publishers: Vec<_> = Self::publishers(reactions).into_iter().filter(wanted).collect();
        if publishers.is_empty() {
            return Err(format!("{} hears nothing of {}", self.0.service, publisher.unwrap_or("anybody")));
        }
        for name in &publishers {
            self.refuse_nowhere(name, to)?;
            if let Some(pinned) = self.0.bus.wanted(name, self.0.service).filter(|road| *road != to) {
                return Err(format!(
                    "the settings [bus] keep {name}>{} on {}; change them, and it moves at its next start",
                    self.0.service,
                    pinned.word()
                ));
            }
        }
        let mut moved = Vec::new();
        for name in publishers {
            let slices = self.slices(reactions, name);
            if move_edge(store, health, name, to, slices).await.map_err(|e| e.to_string())? {
                moved.push(name);
            }
        }
        Ok(moved)
    }

    /// Reads a publisher again from a position; on Kafka, where that position's time is known, from that time's offsets.
    pub(crate) async fn replay(
        &self,
        store: &Store,
        health: &BusHealth,
        publisher: &str,
        (position, time): (i64, Option<Timestamp>),
        again: bool,
    ) -> Result<bool, String> {
        #[cfg(feature = "kafka")]
        if let (Some(connection), Some(time)) = (&self.0.connection, time)
            && kafka::replay_since(store, health, connection, publisher, (time, position), again).await?
        {
            return Ok(true);
        }
        #[cfg(not(feature = "kafka"))]
        let _: Option<Timestamp> = time;
        replay(store, health, publisher, position, again).await.map_err(|e| e.to_string())
    }

    /// What the settings make of it, without a secret.
    pub(crate) fn shown(&self) -> Value {
        let mut all = json!({"bus": self.0.bus, "kafka": self.0.settings});
        #[cfg(feature = "kafka")]
        if let Some(connection) = &self.0.connection {
            let text = |all: Vec<(&'static str, String)>| -> serde_json::Map<String, Value> {
                all.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect()
            };
            all["producer"] = Value::Object(text(connection.producer(0)));
            all["consumer"] = Value::Object(text(connection.consumer(self.0.service)));
        }
        all
    }

    /// Sends to Kafka and reads there, where that is asked for, until `stop`.
    pub(crate) async fn run(
        self,
        store: Store,
        health: BusHealth,
        (publishes, reactions): (Vec<EventDef>, Vec<Reaction>),
        instance: String,
        stop: CancellationToken,
    ) {
        #[cfg(feature = "kafka")]
        if let Some(connection) = self.0.connection.clone() {
            let relay = kafka::Relay {
                service: self.0.service,
                store: store.clone(),
                connection: connection.clone(),
                events: publishes,
                owner: instance.clone(),
                health: health.clone(),
            };
            let group = kafka::GroupConsumer {
                name: self.0.service,
                store,
                connection,
                reactions: reactions.into(),
                instance,
                health,
                patience: Patience::default(),
            };
            let relays = self.0.settings.relay && !relay.events.is_empty();
            let sending = async {
                if relays {
                    relay.run(stop.clone()).await;
                }
            };
            let reading = async {
                if !group.reactions.is_empty() {
                    group.run(stop.clone()).await;
                }
            };
            futures::join!(sending, reading);
        }
        #[cfg(not(feature = "kafka"))]
        drop((store, health, publishes, reactions, instance));
        stop.cancelled().await;
    }
}

/// Nothing waits for a relay any more, so that old events may be purged.
async fn no_relay(store: &Store) -> Result<(), StoreError> {
    let sql = sql!(Scalar<i64>, "SELECT COUNT(*) AS value FROM kafka_relay WHERE wanted");
    let Scalar(wanted) = store.read().one(sql, params![]).await?;
    if wanted == 0 {
        return Ok(());
    }
    let unit =
        |tx: Tx| async move { tx.run(sql!("UPDATE kafka_relay SET wanted = FALSE WHERE wanted"), params![]).await };
    store.write(unit).await.map(drop).map_err(plain)
}
