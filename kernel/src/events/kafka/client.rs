//! Connections to the brokers: who we are there, and the properties of producers and consumers.

use std::fmt;
use std::sync::Arc;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::KafkaError;

use crate::events::{KafkaSettings, Protection};
use crate::secrets::{Secret, Secrets};

/// Between attempts to reach a broker, in milliseconds: short, because a restarted one is back in a second.
const RECONNECT: (&str, &str) = ("50", "1000");
/// What a consumer holds ready for each partition beyond what is being handled, in KiB and messages.
const PREFETCH: (&str, &str) = ("4096", "1000");
/// How often the client tells how far behind it is, in milliseconds.
const STATISTICS: &str = "2000";

/// What one service needs to speak to the brokers. Clones share it.
#[derive(Clone)]
pub struct Connection(Arc<Inner>);

struct Inner {
    settings: KafkaSettings,
    user: String,
    password: Option<Secret>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({} as {})", self.0.settings.brokers, self.0.user)
    }
}

/// A property of a client, as librdkafka names it.
type Property = (&'static str, String);

impl Connection {
    /// The connection of a service, or of the administrator `admin`.
    ///
    /// # Errors
    /// SASL is asked for and the secret `kafka-USER` cannot be read.
    pub fn new(settings: &KafkaSettings, user: &str, secrets: &Secrets) -> Result<Self, String> {
        let password = match settings.security_protocol {
            Protection::Plaintext => None,
            Protection::SaslPlaintext => {
                let name = format!("kafka-{user}");
                Some(secrets.get(&name).map_err(|e| format!("the secret {name}: {e}"))?)
            }
        };
        Ok(Self(Arc::new(Inner { settings: settings.clone(), user: user.to_owned(), password })))
    }

    /// The same way for another service of the same city, without a password of its own: for tests.
    pub fn renamed(&self, user: &str) -> Self {
        Self(Arc::new(Inner { settings: self.0.settings.clone(), user: user.to_owned(), password: None }))
    }

    /// What the operator chose.
    pub fn settings(&self) -> &KafkaSettings {
        &self.0.settings
    }

    /// The service that speaks.
    pub fn user(&self) -> &str {
        &self.0.user
    }

    fn common(&self) -> Vec<Property> {
        vec![
            ("bootstrap.servers", self.0.settings.brokers.clone()),
            ("client.id", self.0.user.clone()),
            ("reconnect.backoff.ms", RECONNECT.0.to_owned()),
            ("reconnect.backoff.max.ms", RECONNECT.1.to_owned()),
            ("socket.nagle.disable", "true".to_owned()),
        ]
    }

    /// The properties of the producer of one relay.
    pub fn producer(&self, relay: u32) -> Vec<Property> {
        let settings = &self.0.settings;
        let whole = settings.enable_idempotence.to_string();
        // Without the broker's own check only one request at a time keeps the order.
        let in_flight = if settings.enable_idempotence { "5" } else { "1" };
        let mut all = self.common();
        all.extend([
            ("enable.idempotence", whole.clone()),
            // An event that is given up must not be overtaken by those behind it.
            ("enable.gapless.guarantee", whole),
            ("acks", settings.acks.clone()),
            ("max.in.flight.requests.per.connection", in_flight.to_owned()),
            ("linger.ms", "0".to_owned()),
            ("message.timeout.ms", settings.message_timeout_ms.to_string()),
            // The first is what the broker may take to copy an event; only the second ends the wait for a silent one.
            ("request.timeout.ms", settings.request_timeout_ms.to_string()),
            ("socket.timeout.ms", settings.request_timeout_ms.to_string()),
            ("message.max.bytes", settings.max_message_bytes.saturating_add(1 << 16).to_string()),
        ]);
        if !settings.transactional_id_prefix.is_empty() {
            let id = format!("{}{}-{relay}", settings.transactional_id_prefix, self.0.user);
            all.push(("transactional.id", id));
            all.push(("transaction.timeout.ms", settings.message_timeout_ms.to_string()));
        }
        all
    }

    /// The properties of a member of the service's consumer group.
    pub fn consumer(&self, instance: &str) -> Vec<Property> {
        let settings = &self.0.settings;
        let mut all = self.common();
        all.extend([
            ("group.id", settings.group(&self.0.user)),
            // Static: an instance that comes back under its name takes its partitions up again without a rebalance.
            ("group.instance.id", instance.replace([':', '@', ' '], "-")),
            ("partition.assignment.strategy", "range".to_owned()),
            ("enable.auto.commit", settings.enable_auto_commit.to_string()),
            ("enable.auto.offset.store", "false".to_owned()),
            ("isolation.level", settings.isolation_level.clone()),
            // An offset that is gone is told, never guessed.
            ("auto.offset.reset", "error".to_owned()),
            ("session.timeout.ms", settings.session_timeout_ms.to_string()),
            ("heartbeat.interval.ms", (settings.session_timeout_ms / 4).to_string()),
            ("fetch.wait.max.ms", settings.fetch_wait_max_ms.to_string()),
            ("queued.max.messages.kbytes", PREFETCH.0.to_owned()),
            ("queued.min.messages", PREFETCH.1.to_owned()),
            ("statistics.interval.ms", STATISTICS.to_owned()),
        ]);
        all
    }

    /// Makes a client with these properties.
    pub(super) fn make<C: ClientContext, T: FromClientConfigAndContext<C>>(
        &self,
        properties: Vec<Property>,
        context: C,
    ) -> Result<T, String> {
        let mut config = ClientConfig::new();
        for (name, value) in properties {
            config.set(name, value);
        }
        if let Some(password) = &self.0.password {
            config.set("security.protocol", "SASL_PLAINTEXT").set("sasl.mechanism", "PLAIN");
            config.set("sasl.username", &self.0.user).set("sasl.password", password.reveal_text());
        }
        config.set_log_level(RDKafkaLogLevel::Warning);
        config.create_with_context(context).map_err(|e| format!("a Kafka client: {e}"))
    }

    /// A client that only asks.
    pub(super) fn asking<T: FromClientConfigAndContext<Quiet>>(&self) -> Result<T, String> {
        self.make(self.common(), Quiet)
    }

    /// Runs something that waits for brokers, off the threads that others need.
    pub(super) async fn wait<T: Send + 'static>(
        work: impl FnOnce() -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(format!("asking Kafka: {e}")))
    }
}

/// What a client has to say goes to our log, where it does not drown everything else.
#[derive(Clone, Copy)]
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        say(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "a Kafka client has trouble");
    }
}

impl rdkafka::consumer::ConsumerContext for Quiet {}

pub(super) fn say(level: RDKafkaLogLevel, facility: &str, message: &str) {
    // A lost connection is news for whoever looks into it: what comes of it is told by relay and consumer.
    tracing::debug!(level = ?level, facility, message, "librdkafka");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(all: &[Property], name: &str) -> String {
        all.iter().find(|(n, _)| *n == name).map(|(_, value)| value.clone()).unwrap_or_default()
    }

    #[test]
    fn the_settings_of_the_sources_are_set() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::open(folder.path()).unwrap();
        let mut settings = KafkaSettings { brokers: "b:9092".into(), prefix: "t.".into(), ..KafkaSettings::default() };
        let plain = Connection::new(&settings, "payments", &secrets).unwrap();
        let producer = plain.producer(0);
        for (name, wanted) in [
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("linger.ms", "0"),
            ("socket.timeout.ms", "30000"),
            ("transactional.id", ""),
        ] {
            assert_eq!(value(&producer, name), wanted, "{name}");
        }
        let consumer = plain.consumer("payments@127.0.0.1:8087");
        for (name, wanted) in [
            ("enable.auto.commit", "false"),
            ("isolation.level", "read_committed"),
            ("group.id", "t.payments"),
            ("group.instance.id", "payments-127.0.0.1-8087"),
        ] {
            assert_eq!(value(&consumer, name), wanted, "{name}");
        }
        settings.transactional_id_prefix = "payment-tx-".into();
        let own = Connection::new(&settings, "payments", &secrets).unwrap();
        assert_eq!(value(&own.producer(1), "transactional.id"), "payment-tx-payments-1", "never shared");
        settings.security_protocol = Protection::SaslPlaintext;
        let sasl = Connection::new(&settings, "payments", &secrets).unwrap();
        assert_eq!(format!("{sasl:?}"), "Connection(b:9092 as payments)");
    }
}
