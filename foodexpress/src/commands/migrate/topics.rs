//! Topics: made where a Kafka is set; one that is there otherwise is named.

use anyhow::Result;
#[cfg(feature = "kafka")]
use serde_json::json;

use super::Ground;
#[cfg(feature = "kafka")]
use crate::services;

impl Ground<'_> {
    /// Makes the topics, where a Kafka is set. One that is there otherwise is named; nothing that exists is changed.
    #[cfg(feature = "kafka")]
    pub(in crate::commands) async fn topics(&self) -> Result<serde_json::Value> {
        use kernel::events::{KafkaSettings, Protection, kafka};

        let settings: KafkaSettings = self.configuration.settings("kafka")?;
        if !settings.is_on() {
            return Ok(serde_json::Value::Null);
        }
        let connection = kafka::Connection::new(&settings, "admin", &self.secrets).map_err(anyhow::Error::msg)?;
        let manifests = services::manifests();
        let events = manifests.iter().flat_map(|manifest| &manifest.publishes);
        let topics = kafka::ensure_topics(&connection, events).await.map_err(anyhow::Error::msg)?;
        topics.made.iter().for_each(|topic| self.out.say(format!("topic {topic}: made")));
        topics.kept.iter().for_each(|topic| self.out.say(format!("topic {topic}: as it should be")));
        anyhow::ensure!(topics.differ.is_empty(), "topics differ from the settings:\n{}", topics.differ.join("\n"));
        if settings.security_protocol == Protection::SaslPlaintext {
            self.out.say("rights of the services: `foodexpress bus acl` prints the lines for Kafka's own kafka-acls");
        }
        Ok(json!(topics))
    }

    #[cfg(not(feature = "kafka"))]
    #[expect(clippy::unused_async, reason = "the same call with and without the feature")]
    pub(in crate::commands) async fn topics(&self) -> Result<serde_json::Value> {
        Ok(serde_json::Value::Null)
    }
}
