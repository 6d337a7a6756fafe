//! `migrate`: brings every service's database and the topics up to this program, before anything runs.

use anyhow::{Context as _, Result};
use kernel::clock::Clock;
use kernel::store::{Options, Store};
use serde_json::json;

use crate::city::DataFolder;
use crate::output::Output;
use crate::services;

pub(super) async fn run(data: &DataFolder, out: Output) -> Result<()> {
    let _lock = data.lock()?;
    let mut migrated = Vec::new();
    for service in services::all() {
        let name = service.manifest().name;
        let options = Options::new(data.engine(name), Clock::system());
        let store =
            Store::open(options, service.migrations()).await.with_context(|| format!("the database of {name}"))?;
        store.close().await;
        out.say(format!("{name}: {} steps of its own", service.migrations().len()));
        migrated.push(name);
    }
    let topics = topics(data, out).await?;
    out.result(&json!({"migrated": migrated, "topics": topics}));
    Ok(())
}

/// Makes the topics, where a Kafka is set. One that is there otherwise is named; nothing that exists is changed.
#[cfg(feature = "kafka")]
async fn topics(data: &DataFolder, out: Output) -> Result<serde_json::Value> {
    use kernel::events::kafka;

    let settings = data.kafka()?;
    if !settings.is_on() {
        return Ok(serde_json::Value::Null);
    }
    let connection =
        kafka::Connection::new(&settings, "admin", &data.own_secrets().await?).map_err(anyhow::Error::msg)?;
    let manifests = services::manifests();
    let events = manifests.iter().flat_map(|manifest| &manifest.publishes);
    let topics = kafka::ensure_topics(&connection, events).await.map_err(anyhow::Error::msg)?;
    topics.made.iter().for_each(|topic| out.say(format!("topic {topic}: made")));
    topics.kept.iter().for_each(|topic| out.say(format!("topic {topic}: as it should be")));
    anyhow::ensure!(topics.differ.is_empty(), "topics differ from the settings:\n{}", topics.differ.join("\n"));
    if settings.security_protocol == kernel::events::Protection::SaslPlaintext {
        out.say("rights of the services: `foodexpress bus acl` prints the lines for Kafka's own kafka-acls".to_owned());
    }
    Ok(json!(topics))
}

#[cfg(not(feature = "kafka"))]
async fn topics(_: &DataFolder, _: Output) -> Result<serde_json::Value> {
    Ok(serde_json::Value::Null)
}
