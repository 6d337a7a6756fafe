//! Topics: made once with their partitions, copies and retention; what is there otherwise is named, never changed.

use std::collections::{BTreeMap, BTreeSet};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;

use super::PATIENCE;
use super::client::{Connection, Quiet};
use crate::events::{EventDef, KafkaSettings};

/// What was found and made.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Topics {
    /// Made now.
    pub made: Vec<String>,
    /// There already, as the settings want them.
    pub kept: Vec<String>,
    /// There already, but otherwise than the settings want them: each with what is to be done.
    pub differ: Vec<String>,
}

/// Makes the topics of these events where they are missing. What differs is told; nothing that exists is changed.
///
/// # Errors
/// No broker answers, or one refuses.
pub async fn ensure_topics<'a>(
    connection: &Connection,
    events: impl IntoIterator<Item = &'a EventDef>,
) -> Result<Topics, String> {
    let settings = connection.settings();
    let wanted: BTreeSet<String> = settings.topics(events);
    let admin: AdminClient<Quiet> = connection.asking()?;
    let options = AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE));
    let configs = configs(settings);
    let new = wanted.iter().map(|topic| {
        let plain = NewTopic::new(topic, settings.partitions, TopicReplication::Fixed(settings.replication));
        configs.iter().fold(plain, |topic, (key, value)| topic.set(key, value))
    });
    let new: Vec<NewTopic<'_>> = new.collect();
    let answers = admin.create_topics(&new, &options).await.map_err(|e| unreachable(settings, &e.to_string()))?;
    let mut topics = Topics::default();
    for answer in answers {
        match answer {
            Ok(topic) => topics.made.push(topic),
            Err((topic, RDKafkaErrorCode::TopicAlreadyExists)) => topics.kept.push(topic),
            Err((topic, error)) => return Err(format!("the topic {topic} could not be made: {error}")),
        }
    }
    topics.differ = differences(connection, &admin, &options, &topics.kept, &configs).await?;
    topics.kept.retain(|topic| !topics.differ.iter().any(|told| told.starts_with(&format!("{topic}:"))));
    Ok(topics)
}

/// Removes the topics of these events with everything in them: for tests, and for a city that leaves its cluster.
///
/// # Errors
/// No broker answers.
pub async fn remove_topics<'a>(
    connection: &Connection,
    events: impl IntoIterator<Item = &'a EventDef>,
) -> Result<(), String> {
    let topics = connection.settings().topics(events);
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let admin: AdminClient<Quiet> = connection.asking()?;
    let options = AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE));
    let removed = admin.delete_topics(&names, &options).await;
    removed.map(drop).map_err(|e| unreachable(connection.settings(), &e.to_string()))
}

fn unreachable(settings: &KafkaSettings, why: &str) -> String {
    format!("kafka.brokers = {}: {why}; is the address right, and does a broker run there?", settings.brokers)
}

fn configs(settings: &KafkaSettings) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("retention.ms", settings.retention_ms.to_string()),
        ("min.insync.replicas", settings.min_insync_replicas.to_string()),
        ("max.message.bytes", settings.max_message_bytes.saturating_add(1 << 16).to_string()),
        ("cleanup.policy", "delete".to_owned()),
        // Kept from when it came here: a relay also sends what its outbox has had for longer than any topic keeps.
        ("message.timestamp.type", "LogAppendTime".to_owned()),
    ])
}

async fn differences(
    connection: &Connection,
    admin: &AdminClient<Quiet>,
    options: &AdminOptions,
    topics: &[String],
    wanted: &BTreeMap<&'static str, String>,
) -> Result<Vec<String>, String> {
    let settings = connection.settings();
    let mut told = Vec::new();
    for topic in topics {
        let metadata =
            admin.inner().fetch_metadata(Some(topic), PATIENCE).map_err(|e| unreachable(settings, &e.to_string()))?;
        let partitions = metadata.topics().first().map_or(&[][..], |t| t.partitions());
        if i32::try_from(partitions.len()).unwrap_or(0) != settings.partitions {
            told.push(format!(
                "{topic}: it has {} partitions, kafka.partitions says {}; set it to what is there, or take another kafka.prefix",
                partitions.len(), settings.partitions
            ));
        }
        let copies = partitions.iter().map(|p| p.replicas().len()).min().unwrap_or(0);
        if i32::try_from(copies).unwrap_or(0) != settings.replication {
            told.push(format!(
                "{topic}: it has {copies} copies, kafka.replication says {}; kafka-reassign-partitions changes what is there",
                settings.replication
            ));
        }
    }
    let specifiers: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    if specifiers.is_empty() {
        return Ok(told);
    }
    let found =
        admin.describe_configs(&specifiers, options).await.map_err(|e| unreachable(settings, &e.to_string()))?;
    for (topic, resource) in topics.iter().zip(found) {
        let resource = resource.map_err(|e| format!("{topic}: its configuration cannot be read: {e}"))?;
        for (key, value) in wanted {
            let is = resource.get(key).and_then(|entry| entry.value.clone()).unwrap_or_default();
            if is != *value {
                told.push(format!(
                    "{topic}: its {key} is {is}, the settings say {value}; kafka-configs --alter changes what is there"
                ));
            }
        }
    }
    Ok(told)
}

/// Refuses a topic that is missing or has other partitions than the settings say: events would go astray.
pub(super) fn check_partitions(
    settings: &KafkaSettings,
    topic: &str,
    metadata: &rdkafka::metadata::Metadata,
) -> Result<(), String> {
    let found = metadata.topics().iter().find(|t| t.name() == topic);
    let count = found.filter(|t| t.error().is_none()).map_or(0, |t| t.partitions().len());
    if count == 0 {
        return Err(format!("the topic {topic} is not there; `migrate` makes it"));
    }
    if i32::try_from(count).unwrap_or(0) != settings.partitions {
        return Err(format!(
            "the topic {topic} has {count} partitions, kafka.partitions says {}: an aggregate's events would part",
            settings.partitions
        ));
    }
    Ok(())
}
