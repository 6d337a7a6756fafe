//! A member of the group: partitions come and go, each has its lane, and where they stand is the database's word.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{Message as _, OwnedMessage};
use rdkafka::topic_partition_list::Offset;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::PATIENCE;
use super::client::Connection;
use super::group::{Ended, GroupConsumer, Heard};
use super::lane::{Lane, Queued, Told, What};
use super::membership::{Change, Membership};
use crate::events::apply::Applier;
use crate::events::feed::Backoff;
use crate::events::offsets::{self, OffsetRow};
use crate::events::{PartitionHealth, inbox};
use crate::telemetry;

/// How long lanes may take to end their unit when their partitions go elsewhere. Beyond that the offset fences them.
const GRACE: Duration = Duration::from_secs(5);
/// How often offsets are told to Kafka, whose tools show them; nothing here reads them.
const COMMIT: Duration = Duration::from_secs(1);
/// Between looks whether somebody has decided about a refusal.
const LOOK: Duration = Duration::from_secs(2);

/// A partition that is read.
struct Open {
    records: mpsc::UnboundedSender<OwnedMessage>,
    queued: Queued,
    paused: bool,
}

type Key = (Arc<str>, i32);
/// How many partitions of a publisher wait to go over to another outbox, or to be read from their beginning.
type State = usize;

/// A member of the group, from joining to leaving.
pub(super) struct Member<'a> {
    group: &'a GroupConsumer,
    heard: Heard,
    client: Membership,
    changed: mpsc::UnboundedReceiver<Change>,
    told: mpsc::UnboundedSender<Told>,
    tells: mpsc::UnboundedReceiver<Told>,
    lanes: HashMap<Key, Open>,
    tasks: JoinSet<()>,
    stop: CancellationToken,
    uncommitted: BTreeMap<Key, i64>,
    refused: BTreeMap<&'static str, State>,
}

impl<'a> Member<'a> {
    pub(super) fn new(
        group: &'a GroupConsumer,
        heard: Heard,
        client: Membership,
        changed: mpsc::UnboundedReceiver<Change>,
    ) -> Self {
        let (told, tells) = mpsc::unbounded_channel();
        let (lanes, tasks, stop) = (HashMap::new(), JoinSet::new(), CancellationToken::new());
        Self {
            group,
            heard,
            client,
            changed,
            told,
            tells,
            lanes,
            tasks,
            stop,
            uncommitted: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// Reads until something breaks or somebody has to decide.
    pub(super) async fn run(&mut self, backoff: &mut Backoff) -> Ended {
        let mut commit_at = Instant::now() + COMMIT;
        let mut look_at = Instant::now() + LOOK;
        loop {
            let turned = tokio::select! {
                Some(change) = self.changed.recv() => self.change(change).await,
                Some(told) = self.tells.recv() => {
                    if matches!(told.what, What::At(_)) {
                        backoff.reset();
                    }
                    self.hear(told).await
                }
                () = tokio::time::sleep_until(commit_at), if !self.uncommitted.is_empty() => {
                    self.commit();
                    commit_at = Instant::now() + COMMIT;
                    Ok(())
                }
                () = tokio::time::sleep_until(look_at), if !self.refused.is_empty() => {
                    look_at = Instant::now() + LOOK;
                    self.look().await
                }
                message = self.client.next() => match message {
                    Ok(message) => {
                        self.hand_on(message);
                        Ok(())
                    }
                    Err(error) => Self::trouble(&error),
                },
            };
            if let Err(ended) = turned {
                return ended;
            }
        }
    }

    /// What the client says beside records: most of it passes by itself.
    fn trouble(error: &KafkaError) -> Result<(), Ended> {
        use rdkafka::error::RDKafkaErrorCode as Code;
        match error {
            KafkaError::MessageConsumption(Code::AutoOffsetReset | Code::OffsetOutOfRange) => {
                // Looked at closely when the partitions are taken up anew, which then says what is to be done.
                Err(Ended::Broken(format!("an offset is not there any more: {error}")))
            }
            KafkaError::MessageConsumption(
                Code::TopicAuthorizationFailed | Code::GroupAuthorizationFailed | Code::UnknownTopicOrPartition,
            )
            | KafkaError::MessageConsumptionFatal(_) => Err(Ended::Broken(error.to_string())),
            _ => Ok(()),
        }
    }

    async fn change(&mut self, change: Change) -> Result<(), Ended> {
        self.stop_lanes().await;
        let consumer = self.client.consumer();
        match change {
            Change::Revoked => {
                consumer.unassign().map_err(|e| Ended::Broken(e.to_string()))?;
                self.heard.keys().for_each(|publisher| self.group.health.waiting(publisher, None));
                Ok(())
            }
            Change::Assigned(parts) => self.take_up(parts).await,
        }
    }

    /// Begins reading partitions where the own database says that this service stands in them.
    async fn take_up(&mut self, parts: Vec<(String, i32)>) -> Result<(), Ended> {
        let broken = |why: String| Ended::Broken(why);
        let ends = self.ends(parts).await.map_err(broken)?;
        let mut list = TopicPartitionList::new();
        for (publisher, topics) in self.heard.clone() {
            let db = self.group.store.read();
            let rows = offsets::of(&db, publisher).await.map_err(|e| broken(format!("own database: {e}")))?;
            let floor = inbox::place(&db, publisher).await.map_err(|e| broken(format!("own database: {e}")))?;
            let (mut known, mut refused) = (BTreeMap::new(), None);
            for row in rows.into_iter().filter(|row| topics.contains(&row.topic)) {
                let part = i32::try_from(row.part).unwrap_or(-1);
                let Some(&(low, high)) = ends.get(&(row.topic.clone(), part)) else { continue };
                let from = match starts_at(&row, low, high) {
                    Ok(from) => from,
                    Err(why) => {
                        refused = Some(why);
                        continue;
                    }
                };
                list.add_partition_offset(&row.topic, part, Offset::Offset(from)).map_err(|e| broken(e.to_string()))?;
                known.insert((row.topic.clone(), part), PartitionHealth { next: from, end: high });
                self.open(publisher, part, row, floor.clone());
            }
            self.group.health.reads(publisher, known);
            if let Some(why) = refused {
                self.refuse(publisher, why).await?;
            }
        }
        let consumer = self.client.consumer();
        consumer.assign(&list).map_err(|e| broken(e.to_string()))?;
        // A partition that was paused for its former lane must not stay so for the new one.
        consumer.resume(&list).map_err(|e| broken(e.to_string()))
    }

    /// One publisher stands still until somebody decides; all others flow on.
    async fn refuse(&mut self, publisher: &'static str, why: String) -> Result<(), Ended> {
        tracing::error!(publisher, consumer = self.group.name, %why, "stands still on Kafka; see `events adopt` and `events replay`");
        self.group.health.refused(publisher, why);
        let state = self.state(publisher).await?;
        self.refused.insert(publisher, state);
        Ok(())
    }

    /// What somebody would change who decides about a refusal.
    async fn state(&self, publisher: &str) -> Result<State, Ended> {
        let rows = offsets::of(&self.group.store.read(), publisher).await;
        let rows = rows.map_err(|e| Ended::Broken(format!("own database: {e}")))?;
        Ok(rows.into_iter().filter(|row| row.adopts || row.next_offset == offsets::BEGINNING).count())
    }

    /// Looks whether somebody has decided, perhaps at another instance.
    async fn look(&self) -> Result<(), Ended> {
        for (publisher, then) in &self.refused {
            if self.state(publisher).await? != *then {
                return Err(Ended::Moved);
            }
        }
        Ok(())
    }

    /// The first and the next offset of each of these partitions.
    async fn ends(&self, parts: Vec<(String, i32)>) -> Result<HashMap<(String, i32), (i64, i64)>, String> {
        let consumer = self.client.shared();
        Connection::wait(move || {
            let mut ends = HashMap::new();
            for (topic, part) in parts {
                let marks = consumer.fetch_watermarks(&topic, part, PATIENCE);
                ends.insert((topic.clone(), part), marks.map_err(|e| format!("the ends of {topic}/{part}: {e}"))?);
            }
            Ok(ends)
        })
        .await
    }

    fn open(&mut self, publisher: &'static str, part: i32, stored: OffsetRow, floor: inbox::Place) {
        let topic: Arc<str> = stored.topic.as_str().into();
        let (records, received) = mpsc::unbounded_channel();
        let queued = Queued::default();
        let applier = Applier {
            store: self.group.store.in_background(),
            reactions: self.group.reactions.clone(),
            patience: self.group.patience,
            shutdown: self.stop.clone(),
            fits: Arc::default(),
        };
        let lane = Lane {
            publisher,
            topic: topic.clone(),
            part,
            stored,
            floor,
            applier,
            largest: self.group.connection.settings().max_message_bytes,
            records: received,
            queued: queued.clone(),
            told: self.told.clone(),
            stop: self.stop.clone(),
        };
        // For the same service as the member: its spans have no other way to their exporter.
        self.tasks.spawn(telemetry::carried(lane.run()));
        self.lanes.insert((topic, part), Open { records, queued, paused: false });
    }

    /// Ends the lanes: each ends or drops the unit it is in; one that does neither is fenced by its offset.
    async fn stop_lanes(&mut self) {
        self.stop.cancel();
        self.lanes.clear();
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, ended).await.is_err() {
            tracing::warn!(
                consumer = self.group.name,
                "a unit goes on although its partition went elsewhere; its offset will refuse it"
            );
            self.tasks.abort_all();
        }
        while let Ok(told) = self.tells.try_recv() {
            if let What::At(offset) = told.what {
                self.uncommitted.insert((told.topic, told.part), offset);
            }
        }
        self.commit();
        self.stop = CancellationToken::new();
    }

    fn hand_on(&mut self, message: OwnedMessage) {
        let key = (Arc::from(message.topic()), message.partition());
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        lane.queued.add(&message);
        drop(lane.records.send(message));
        if lane.queued.is_full() && !lane.paused {
            lane.paused = true;
            self.ask(&key, false);
        }
    }

    /// Tells the client to fetch more of a partition, or no more for now.
    fn ask(&self, key: &Key, more: bool) {
        let mut list = TopicPartitionList::new();
        list.add_partition(&key.0, key.1);
        let consumer = self.client.consumer();
        let done = if more { consumer.resume(&list) } else { consumer.pause(&list) };
        if let Err(error) = done {
            tracing::warn!(%error, topic = %key.0, partition = key.1, "a partition could not be paused or resumed");
        }
    }

    async fn hear(&mut self, told: Told) -> Result<(), Ended> {
        let key = (told.topic, told.part);
        match told.what {
            What::At(offset) => {
                self.group.health.partition(&key.0, key.1, |health, key| {
                    let stands = health.partitions.entry(key).or_default();
                    stands.next = offset;
                    stands.end = stands.end.max(offset);
                    health.last_error = None;
                });
                if let Some(lane) = self.lanes.get_mut(&key)
                    && lane.paused
                    && !lane.queued.is_full()
                {
                    lane.paused = false;
                    self.ask(&key, true);
                }
                self.uncommitted.insert(key, offset);
                Ok(())
            }
            What::Waits(why) => {
                self.group.health.partition(&key.0, key.1, |health, _| health.last_error = Some(why));
                Ok(())
            }
            What::Refused(why) => {
                self.ask(&key, false);
                let owner = self.heard.iter().find(|(_, topics)| topics.iter().any(|topic| **topic == *key.0));
                match owner.map(|(publisher, _)| *publisher) {
                    Some(publisher) => self.refuse(publisher, why).await,
                    None => Ok(()),
                }
            }
            What::Fenced => {
                // Whoever moved it may be ourselves before a lost answer: the database knows where to go on.
                let assigned = self.client.consumer().assignment().map_err(|e| Ended::Broken(e.to_string()))?;
                let parts = assigned.elements().iter().map(|e| (e.topic().to_owned(), e.partition())).collect();
                self.stop_lanes().await;
                self.take_up(parts).await
            }
        }
    }

    /// For the tools of Kafka only.
    fn commit(&mut self) {
        let mut list = TopicPartitionList::new();
        for ((topic, part), offset) in std::mem::take(&mut self.uncommitted) {
            // A partition that is not ours any more is refused, which is right.
            drop(list.add_partition_offset(&topic, part, Offset::Offset(offset)));
        }
        if list.count() > 0
            && let Err(error) = self.client.consumer().commit(&list, CommitMode::Async)
        {
            tracing::debug!(%error, "offsets were not told to Kafka; its lag looks too large until the next time");
        }
    }

    /// Ends its work and gives its partitions back.
    pub(super) async fn leave(mut self) {
        self.stop_lanes().await;
        drop(self.client.consumer().unassign());
    }
}

/// Where reading begins.
///
/// # Errors
/// The offset is not in the partition: something would be skipped or read as something else.
fn starts_at(row: &OffsetRow, low: i64, high: i64) -> Result<i64, String> {
    let (topic, part, next) = (&row.topic, row.part, row.next_offset);
    if next == offsets::BEGINNING {
        return Ok(low);
    }
    if next < low {
        return Err(format!(
            "{topic}/{part} begins at {low}, this service stands at {next}: events were dropped before they were read (kafka.retention_ms); a replay reads what is kept"
        ));
    }
    if next > high {
        return Err(format!(
            "{topic}/{part} ends at {high}, this service stands at {next}: the topic was made anew or set back; a replay reads it from its beginning"
        ));
    }
    Ok(next)
}
