//! The settings of the bus: by which road events travel, and everything about Kafka that an operator may choose.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::EventDef;
use super::outbox::SHARDS;
use crate::config::Settings;

/// How a publisher's events reach a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Road {
    /// The consumer follows the publisher's outbox over gRPC; there is no broker.
    Stream,
    /// The publisher's relay writes to Kafka, and a consumer group reads there.
    Kafka,
}

impl Road {
    /// Its word in settings, tables and commands.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Kafka => "kafka",
        }
    }

    pub(crate) fn of_word(word: &str) -> Self {
        if word == Self::Kafka.word() { Self::Kafka } else { Self::Stream }
    }
}

impl std::str::FromStr for Road {
    type Err = String;
    fn from_str(word: &str) -> Result<Self, String> {
        let roads = [Self::Stream, Self::Kafka];
        let found = roads.into_iter().find(|road| road.word() == word);
        found.ok_or_else(|| format!("{word}: the bus is either stream or kafka"))
    }
}

/// Which road each pair of publisher and consumer uses: the table `[bus]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BusSettings {
    /// The road of the whole city, `stream` or `kafka`. Unset, each pair stays where `bus move` put it; a new one takes the stream.
    #[schemars(extend("x-restart" = true))]
    pub kind: Option<Road>,
    /// The same for all that one service hears, by the service's name.
    #[schemars(extend("x-restart" = true))]
    pub services: BTreeMap<String, Road>,
    /// The same for one pair, written `publisher>consumer`.
    #[schemars(extend("x-restart" = true))]
    pub edges: BTreeMap<String, Road>,
}

impl BusSettings {
    /// The road that settings ask for; none if they leave it to `bus move`.
    pub fn wanted(&self, publisher: &str, consumer: &str) -> Option<Road> {
        let edge = self.edges.get(&format!("{publisher}>{consumer}"));
        edge.or_else(|| self.services.get(consumer)).copied().or(self.kind)
    }
}

/// To which topics events go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Routing {
    /// One topic per domain, such as `orders.events`.
    #[default]
    Streams,
    /// Those, and beside them a topic per event type under the names of the first source, such as `order.created`.
    Literal,
}

/// How connections to the brokers are protected. TLS needs a build of the client that this program does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Protection {
    /// Not at all: a private network.
    #[default]
    #[serde(rename = "PLAINTEXT")]
    Plaintext,
    /// User and password by SASL PLAIN.
    #[serde(rename = "SASL_PLAINTEXT")]
    SaslPlaintext,
}

/// Everything about Kafka: the table `[kafka]`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaSettings {
    /// Addresses of brokers, `host:port` with commas between. Empty: no Kafka.
    #[schemars(extend("x-restart" = true))]
    pub brokers: String,
    /// `PLAINTEXT`, or `SASL_PLAINTEXT` with one user per service, whose password is the secret `kafka-SERVICE`. This build has no TLS.
    #[schemars(extend("x-restart" = true))]
    pub security_protocol: Protection,
    /// Stands before every topic, group and transactional id, so that several cities can share a cluster.
    #[schemars(extend("x-restart" = true))]
    pub prefix: String,
    /// Whether services write their events to Kafka; consumers that follow the stream are served either way.
    #[schemars(extend("x-restart" = true))]
    pub relay: bool,
    /// Relays per service, each for its share of the aggregates: 1, 2, 4 or 8, not more than partitions.
    #[schemars(extend("x-restart" = true))]
    pub relays: u32,
    /// `streams`: a topic per domain. `literal`: beside those a topic per event type under the names of the first source.
    #[schemars(extend("x-restart" = true))]
    pub routing: Routing,
    /// Partitions of each topic: 1, 2, 4 or 8. Never changed afterwards: an aggregate's events would part.
    #[schemars(extend("x-restart" = true))]
    pub partitions: i32,
    /// Copies of each topic on different brokers.
    #[schemars(extend("x-restart" = true))]
    pub replication: i32,
    /// Copies that must have an event before it counts as published.
    #[schemars(extend("x-restart" = true))]
    pub min_insync_replicas: i32,
    /// How long topics keep events from when they were sent, in milliseconds.
    #[schemars(extend("x-restart" = true))]
    pub retention_ms: i64,
    /// The largest event that is sent or taken, in bytes.
    #[schemars(extend("x-restart" = true))]
    pub max_message_bytes: i32,
    /// Producer: the broker refuses what it has already. Off only to see what that costs.
    #[schemars(extend("x-restart" = true))]
    pub enable_idempotence: bool,
    /// Producer: must be `all`.
    #[schemars(extend("x-restart" = true))]
    pub acks: String,
    /// Producer: how long an event may wait for a broker before its relay starts anew, in milliseconds.
    #[schemars(extend("x-restart" = true))]
    pub message_timeout_ms: u32,
    /// Producer: how long a request may take before it is repeated, in milliseconds.
    #[schemars(extend("x-restart" = true))]
    pub request_timeout_ms: u32,
    /// Producer: set, such as `payment-tx-`, events go out in transactions of `PREFIX{service}-{relay}`; nothing here rests on them.
    #[schemars(extend("x-restart" = true))]
    pub transactional_id_prefix: String,
    /// Consumer: must be false; what counts is the offset in the service's own database.
    #[schemars(extend("x-restart" = true))]
    pub enable_auto_commit: bool,
    /// Consumer: `read_committed` or `read_uncommitted`.
    #[schemars(extend("x-restart" = true))]
    pub isolation_level: String,
    /// Consumer: after this long without a sign of life an instance's partitions go to others, in milliseconds.
    #[schemars(extend("x-restart" = true))]
    pub session_timeout_ms: u32,
    /// Consumer: how long a broker may hold an empty answer back, in milliseconds.
    #[schemars(extend("x-restart" = true))]
    pub fetch_wait_max_ms: u32,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            brokers: String::new(),
            security_protocol: Protection::default(),
            prefix: String::new(),
            relay: true,
            relays: 1,
            routing: Routing::default(),
            partitions: 4,
            replication: 1,
            min_insync_replicas: 1,
            retention_ms: 7 * 24 * 3600 * 1000,
            max_message_bytes: 1 << 20,
            enable_idempotence: true,
            acks: "all".to_owned(),
            message_timeout_ms: 300_000,
            request_timeout_ms: 30_000,
            transactional_id_prefix: String::new(),
            enable_auto_commit: false,
            isolation_level: "read_committed".to_owned(),
            session_timeout_ms: 10_000,
            fetch_wait_max_ms: 500,
        }
    }
}

impl Settings for BusSettings {}

impl Settings for KafkaSettings {
    /// Refuses values that would lose or reorder events.
    fn check(&self) -> Result<(), String> {
        let divides = |n: i64| n > 0 && i64::from(SHARDS) % n == 0;
        if !divides(i64::from(self.partitions)) {
            return Err(format!("kafka.partitions is {}: take 1, 2, 4 or 8", self.partitions));
        }
        if !divides(i64::from(self.relays)) || i64::from(self.relays) > i64::from(self.partitions) {
            return Err(format!("kafka.relays is {}: take 1, 2, 4 or 8, and not more than partitions", self.relays));
        }
        if self.acks != "all" {
            return Err(
                "kafka.acks must be all: an event counts as published when all copies in sync have it".to_owned()
            );
        }
        if self.enable_auto_commit {
            return Err("kafka.enable_auto_commit must be false: it acknowledges what had no effect yet".to_owned());
        }
        if !["read_committed", "read_uncommitted"].contains(&self.isolation_level.as_str()) {
            return Err("kafka.isolation_level is read_committed or read_uncommitted".to_owned());
        }
        if self.min_insync_replicas > self.replication || self.min_insync_replicas < 1 {
            return Err("kafka.min_insync_replicas goes from 1 up to kafka.replication".to_owned());
        }
        let patience = 100..=300_000;
        if !patience.contains(&self.request_timeout_ms) || self.message_timeout_ms < self.request_timeout_ms + 100 {
            return Err(
                "kafka.request_timeout_ms goes from 100 to 300000, and kafka.message_timeout_ms is at least 100 more"
                    .to_owned(),
            );
        }
        if !self.transactional_id_prefix.is_empty() && !self.enable_idempotence {
            return Err("kafka.transactional_id_prefix needs kafka.enable_idempotence = true".to_owned());
        }
        Ok(())
    }
}

impl KafkaSettings {
    /// Whether there is a Kafka at all.
    pub fn is_on(&self) -> bool {
        !self.brokers.trim().is_empty()
    }

    /// The error of a cluster that does not answer, with the setting that names it.
    pub(crate) fn nobody_answers(&self, error: &dyn std::fmt::Display) -> String {
        format!("kafka.brokers = {}: no broker answers: {error}", self.brokers)
    }

    /// The topic that carries an event type in its order.
    pub fn topic(&self, event: &EventDef) -> String {
        format!("{}{}", self.prefix, event.topic)
    }

    /// The further topic that carries an event type, where routing asks for one.
    pub fn literal_topic(&self, event: &EventDef) -> Option<String> {
        (self.routing == Routing::Literal).then(|| format!("{}{}", self.prefix, literal_name(event.name)))
    }

    /// Every topic that these events go to.
    pub fn topics<'a>(&self, events: impl IntoIterator<Item = &'a EventDef>) -> BTreeSet<String> {
        events.into_iter().flat_map(|e| [Some(self.topic(e)), self.literal_topic(e)]).flatten().collect()
    }

    /// The consumer group of a service.
    pub fn group(&self, service: &str) -> String {
        format!("{}{service}", self.prefix)
    }
}

/// Where the first source puts an event type: mostly under the type's own name.
pub fn literal_name(event: &str) -> &str {
    match event.split_once('.') {
        _ if matches!(event, "payment.success" | "payment.failed") => event,
        Some(("payment", _)) => "payment.events",
        Some(("notification", _)) => "notification.requests",
        Some(("audit", _)) => "audit.events",
        _ => event,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Sources};

    #[test]
    fn a_pair_goes_before_its_service_and_that_before_the_city() {
        let toml =
            "[bus]\nkind = \"kafka\"\nservices = { orders = \"stream\" }\nedges = { \"payments>orders\" = \"kafka\" }";
        let sources = Sources::new("FX").text("bus.toml", toml).unwrap();
        let bus: BusSettings = config::load("bus", &sources).unwrap();
        assert_eq!(bus.wanted("payments", "orders"), Some(Road::Kafka));
        assert_eq!(bus.wanted("ledger", "orders"), Some(Road::Stream));
        assert_eq!(bus.wanted("ledger", "delivery"), Some(Road::Kafka));
        assert_eq!(BusSettings::default().wanted("ledger", "delivery"), None);
    }

    #[test]
    fn settings_that_would_break_a_promise_are_refused_by_name() {
        for (toml, key) in [
            ("partitions = 6", "kafka.partitions"),
            ("relays = 8", "kafka.relays"),
            ("acks = \"1\"", "kafka.acks"),
            ("enable_auto_commit = true", "kafka.enable_auto_commit"),
            ("min_insync_replicas = 2", "kafka.min_insync_replicas"),
            ("isolation_level = \"dirty\"", "kafka.isolation_level"),
            ("request_timeout_ms = 0", "kafka.request_timeout_ms"),
            ("message_timeout_ms = 30000", "kafka.request_timeout_ms"),
        ] {
            let sources = Sources::new("FX").text("kafka.toml", &format!("[kafka]\n{toml}")).unwrap();
            let refused = config::load::<KafkaSettings>("kafka", &sources).unwrap_err().to_string();
            assert!(refused.starts_with(key), "{refused}");
        }
        assert!(config::load::<KafkaSettings>("kafka", &Sources::new("FX")).is_ok());
    }

    #[test]
    fn the_literal_names_are_those_of_the_paper() {
        for (event, topic) in [
            ("order.created", "order.created"),
            ("order.updated", "order.updated"),
            ("order.cancelled", "order.cancelled"),
            ("payment.success", "payment.success"),
            ("payment.failed", "payment.failed"),
            ("payment.refunded", "payment.events"),
            ("notification.sent", "notification.requests"),
            ("audit.recorded", "audit.events"),
        ] {
            assert_eq!(literal_name(event), topic);
        }
    }
}
