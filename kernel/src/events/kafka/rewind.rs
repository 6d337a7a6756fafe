//! Reading again from a time: the offsets of that time come from the brokers, the position from the publisher.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::Offset;
use uuid::Uuid;

use super::PATIENCE;
use super::client::{Connection, Quiet};
use crate::clock::Timestamp;
use crate::events::inbox::{self, Place};
use crate::events::parking::plain;
use crate::events::{BusHealth, offsets};
use crate::store::{Store, StoreError, Tx};
use crate::{params, sql};

/// Topics tell when a broker took an event, which is after its own time unless clocks differ: so much earlier reading begins.
const MARGIN: Duration = Duration::from_secs(60);
/// Between two questions of a client that does not know its brokers yet.
const AGAIN: Duration = Duration::from_millis(100);

/// Reads a publisher's topics again from `position` on, which had come at `time`. False if the road is not Kafka.
///
/// Without `again` nothing has a second effect. The broker says where that time begins; what comes before the position
/// is skipped, so a time that is a little early costs reading only.
///
/// # Errors
/// No broker answers, or the own database does not.
pub async fn replay_since(
    store: &Store,
    health: &BusHealth,
    connection: &Connection,
    publisher: &str,
    (time, position): (Timestamp, i64),
    again: bool,
) -> Result<bool, String> {
    let own = |e: StoreError| format!("own database: {e}");
    let rows = offsets::of(&store.read(), publisher).await.map_err(own)?;
    if rows.is_empty() {
        return Ok(false);
    }
    let parts: Vec<(String, i64)> = rows.into_iter().map(|row| (row.topic, row.part)).collect();
    let starts = Arc::new(offsets_at(connection, parts, time.minus(MARGIN)).await?);
    let publisher: Arc<str> = publisher.into();
    let unit = move |tx: Tx| {
        let (starts, publisher) = (starts.clone(), publisher.clone());
        async move { rewind(&tx, &publisher, &starts, position, again).await }
    };
    store.write(unit).await.map_err(plain).map_err(own)?;
    health.look_again();
    Ok(true)
}

async fn rewind(
    tx: &Tx,
    publisher: &str,
    starts: &BTreeMap<(String, i64), i64>,
    position: i64,
    again: bool,
) -> Result<(), StoreError> {
    inbox::hold(tx, publisher).await?;
    for ((topic, part), offset) in starts {
        offsets::rewind_to(tx, topic, *part, *offset).await?;
    }
    if again {
        let sql = sql!("DELETE FROM inbox WHERE publisher = $1 AND position >= $2");
        tx.run(sql, params![publisher, position]).await?;
    }
    let epoch: Uuid = inbox::place(tx, publisher).await?.epoch;
    inbox::set_place(tx, publisher, &Place { epoch, position: (position - 1).max(0) }).await.map(drop)
}

/// A client that has just begun may know an older leader than the broker does, or none: it is asked again until it does.
fn times_known(consumer: &BaseConsumer<Quiet>, asked: &TopicPartitionList) -> KafkaResult<TopicPartitionList> {
    let began = Instant::now();
    loop {
        let found = consumer.offsets_for_times(asked.clone(), PATIENCE);
        if found.is_ok() || began.elapsed() >= PATIENCE {
            return found;
        }
        std::thread::sleep(AGAIN);
    }
}

/// The first offset of each partition that is not older than `time`; the end where nothing is.
async fn offsets_at(
    connection: &Connection,
    parts: Vec<(String, i64)>,
    time: Timestamp,
) -> Result<BTreeMap<(String, i64), i64>, String> {
    let connection = connection.clone();
    Connection::wait(move || {
        let properties = connection.consumer("rewind").into_iter().filter(|(name, _)| *name != "group.instance.id");
        let consumer: BaseConsumer<Quiet> = connection.make(properties.collect(), Quiet)?;
        let mut asked = TopicPartitionList::new();
        for (topic, part) in &parts {
            let part = i32::try_from(*part).unwrap_or(-1);
            asked.add_partition_offset(topic, part, Offset::Offset(time.millis())).map_err(|e| e.to_string())?;
        }
        let found = times_known(&consumer, &asked).map_err(|e| format!("offsets at {time}: {e}"))?;
        let mut starts = BTreeMap::new();
        for element in found.elements() {
            let (topic, part) = (element.topic().to_owned(), element.partition());
            let offset = match element.offset() {
                Offset::Offset(offset) => offset,
                _ => consumer.fetch_watermarks(&topic, part, PATIENCE).map_err(|e| e.to_string())?.1,
            };
            starts.insert((topic, i64::from(part)), offset);
        }
        Ok(starts)
    })
    .await
}
