//! Following topics without any effect, for people.

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::topic_partition_list::Offset;

use super::client::{Connection, Quiet};
use super::record::{self, Reading};
use crate::events::{Envelope, EventDef};

/// Calls `each` for every event of a publisher on Kafka after a position of its outbox, until the connection ends.
///
/// # Errors
/// Why the brokers cannot be read.
pub async fn tail(
    connection: &Connection,
    publisher: &str,
    events: &[EventDef],
    after: i64,
    mut each: impl FnMut(&Envelope) + Send,
) -> Result<(), String> {
    let settings = connection.settings();
    // Without subscribing there is no group to join; the name only has to be there.
    let mut properties = connection.consumer("tail");
    properties.retain(|(name, _)| !["group.instance.id", "statistics.interval.ms"].contains(name));
    properties.push(("group.id", format!("{}tail", settings.prefix)));
    let consumer: StreamConsumer<Quiet> = connection.make(properties, Quiet)?;
    let mut list = TopicPartitionList::new();
    for topic in events.iter().map(|event| settings.topic(event)).collect::<std::collections::BTreeSet<_>>() {
        for part in 0..settings.partitions {
            list.add_partition_offset(&topic, part, Offset::Beginning).map_err(|e| e.to_string())?;
        }
    }
    consumer.assign(&list).map_err(|e| e.to_string())?;
    loop {
        let message = consumer.recv().await.map_err(|e| settings.nobody_answers(&e))?;
        if let Reading::Event(envelope, _) = record::read(&message.detach(), publisher, settings.max_message_bytes)
            && envelope.position > after
        {
            each(&envelope);
        }
    }
}
