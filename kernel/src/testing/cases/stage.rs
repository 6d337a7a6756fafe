//! Where the cases play: a publisher, its consumers, a store, one kind of bus, and the faults that can be planted.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tempfile::TempDir;
use uuid::Uuid;

use crate::clock::Clock;
use crate::events::{
    Event, EventDef, Fault, KafkaSettings, Payload, Reaction, Received, Road, Subject, move_edge, parked_count,
};
use crate::ids;
use crate::registry::Directory;
use crate::store::{Engine, Migration, Options, Scalar, Store, StoreError, Tx, WriteError};
use crate::telemetry;
use crate::testing::bus::{self, Difference};
use crate::testing::scratch;
use crate::testing::station::Station;
use crate::{params, sql};

/// A thing that changes.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Thing {
    pub(super) org: Uuid,
    pub(super) id: Uuid,
    pub(super) version: i64,
    pub(super) note: String,
}

impl Payload for Thing {
    fn subject(&self) -> Subject {
        Subject { org: self.org, id: self.id, version: self.version }
    }
}

/// What a publisher with a bug sends under the same name.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Odd {
    pub(super) org: Uuid,
    pub(super) id: Uuid,
    pub(super) version: i64,
    pub(super) note: serde_json::Value,
    #[serde(skip)]
    pub(super) told_org: Uuid,
}

impl Payload for Odd {
    fn subject(&self) -> Subject {
        Subject { org: self.told_org, id: self.id, version: self.version }
    }
}

crate::events! {
    publisher "alpha", topic "alpha.events", aggregate "thing";
    /// A thing has changed.
    "thing.changed" v 1 [] => ThingChanged(Thing);
    /// A thing was looked at, which nobody hears.
    "thing.touched" v 1 [] => ThingTouched(Thing);
}

#[expect(dead_code, reason = "the list of its only event is read by nobody")]
pub(super) mod odd {
    crate::events! {
        publisher "alpha", topic "alpha.events", aggregate "thing";
        /// A thing has changed, as told by a bug.
        "thing.changed" v 1 [] => ThingChanged(super::Odd);
    }
}

const STEPS: &[Migration] = &[Migration {
    name: "001_things",
    sql: "CREATE TABLE thing (id UUID NOT NULL PRIMARY KEY, version BIGINT NOT NULL);\nCREATE TABLE effect (id UUID NOT NULL, version BIGINT NOT NULL);",
}];

/// The organisation of everything here.
pub(super) const ORG: Uuid = Uuid::from_u128(7);
/// How often a passing trouble is tried.
pub(super) const TRIES: u32 = 5;

/// Enough to be read side by side, and few enough for a small broker.
const PARTITIONS: i32 = 2;

/// A place for one case.
pub struct Stage {
    folder: TempDir,
    postgres: Option<String>,
    directory: Directory,
    clock: Clock,
    patience: Duration,
    /// The bus that is played on.
    pub(super) road: Road,
    /// Whether the case has to plant its fault and to fail.
    pub(super) seeded: bool,
    #[cfg(feature = "kafka")]
    kafka: Option<crate::events::kafka::Connection>,
}

impl Stage {
    /// A stage on SQLite, or on PostgreSQL at this address; `seeded` plants each case's fault.
    ///
    /// # Errors
    /// No temporary folder.
    pub fn on_stream(postgres: Option<String>, seeded: bool) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let noon = "2026-01-01T12:00:00Z".parse().expect("a time as everybody writes it");
        Ok(Self {
            folder,
            postgres,
            directory: Directory::default(),
            clock: Clock::manual(noon),
            // A fault that shows by nothing happening is waited for this long only.
            patience: Duration::from_secs(if seeded { 6 } else { 60 }),
            road: Road::Stream,
            seeded,
            #[cfg(feature = "kafka")]
            kafka: None,
        })
    }

    /// The same on Kafka at these addresses, with topics of its own.
    ///
    /// # Errors
    /// No broker answers.
    #[cfg(feature = "kafka")]
    pub async fn on_kafka(postgres: Option<String>, brokers: &str, seeded: bool) -> Result<Self, String> {
        let mut stage = Self::on_stream(postgres, seeded)?;
        let prefix = format!("t{}.", ids::fresh().simple());
        let settings = KafkaSettings {
            brokers: brokers.to_owned(),
            prefix,
            partitions: PARTITIONS,
            session_timeout_ms: 2000,
            ..KafkaSettings::default()
        };
        let secrets = crate::secrets::Secrets::open(&stage.folder.path().join("secrets")).map_err(|e| e.to_string())?;
        let connection = crate::events::kafka::Connection::new(&settings, "admin", &secrets)?;
        crate::events::kafka::ensure_topics(&connection, EVENTS).await?;
        stage.kafka = Some(connection);
        stage.road = Road::Kafka;
        Ok(stage)
    }

    /// Leaves nothing on a broker that others use too.
    pub(super) async fn leave(&self) {
        #[cfg(feature = "kafka")]
        if let Some(connection) = &self.kafka
            && let Err(why) = crate::events::kafka::remove_topics(connection, EVENTS).await
        {
            tracing::warn!(%why, "topics of a case stay on the broker");
        }
    }

    fn engine(&self, database: &str) -> Engine {
        match &self.postgres {
            None => Engine::Sqlite { path: self.folder.path().join(format!("{database}.db")) },
            Some(url) => {
                let unique = self.folder.path().file_name().map(|n| n.to_string_lossy().to_lowercase());
                let unique = unique.unwrap_or_default().replace(['.', '-'], "_");
                let schema = format!("case{unique}_{database}");
                scratch::postgres(url, url, &schema)
            }
        }
    }

    pub(super) fn options(&self, database: &str) -> Options {
        let claims = EVENTS.iter().map(|event| event.name).collect();
        Options { claims, ..Options::new(self.engine(database), self.clock.clone()) }
    }

    /// Starts the publisher on a database of this name.
    pub(super) async fn publisher(&self, database: &str) -> Station {
        let station = self.station("alpha", self.options(database), EVENTS).await;
        self.directory.set("alpha", vec![station.address]);
        station
    }

    /// Starts a consumer that does this about changes.
    pub(super) async fn consumer(&self, name: &'static str, reactions: Vec<Reaction>) -> Station {
        self.consumer_with(name, self.options(name), reactions).await
    }

    pub(super) async fn consumer_with(
        &self,
        name: &'static str,
        options: Options,
        reactions: Vec<Reaction>,
    ) -> Station {
        let mut station = self.station(name, options, &[]).await;
        if position_of(&station.store).await.is_none() {
            self.take(&station, self.road).await;
        }
        station.hear(&self.directory, reactions, TRIES);
        station
    }

    /// Lets a consumer read the publisher by this bus.
    pub(super) async fn take(&self, station: &Station, road: Road) -> bool {
        let slices = usize::try_from(PARTITIONS).expect("a small number");
        move_edge(&station.store, &station.health, "alpha", road, slices).await.expect("its database is there")
    }

    async fn station(&self, name: &'static str, options: Options, publishes: &[EventDef]) -> Station {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        #[cfg_attr(not(feature = "kafka"), expect(unused_mut, reason = "only Kafka changes it"))]
        let mut station = Station::start(name, options, STEPS, any).await.expect("a station starts");
        #[cfg(feature = "kafka")]
        if let Some(connection) = &self.kafka {
            let own = crate::events::kafka::Connection::renamed(connection, name);
            station.on_kafka(&own, publishes);
        }
        #[cfg(not(feature = "kafka"))]
        let _: &[EventDef] = publishes;
        station
    }

    /// Waits until something is so.
    pub(super) async fn until<F: AsyncFnMut() -> bool>(&self, what: &str, mut so: F) {
        let waited = tokio::time::timeout(self.patience, async {
            while !so().await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        assert!(waited.await.is_ok(), "not within {:?}: {what}", self.patience);
    }

    /// Whether this stage has a second bus to move to.
    pub(super) fn has_kafka(&self) -> bool {
        self.road == Road::Kafka
    }
}

async fn position_of(store: &Store) -> Option<i64> {
    let sql = sql!(Scalar<i64>, "SELECT position AS value FROM bus_position WHERE publisher = 'alpha'");
    let found = store.read().maybe(sql, params![]).await.expect("the database answers");
    found.map(|Scalar(position)| position)
}

/// Changes a thing: its version moves on in the unit that publishes.
pub(super) async fn change<E: Event<Payload = Thing>>(store: &Store, id: Uuid, note: &str) {
    emit(store, id, note, |thing| E::from_payload(thing)).await;
}

pub(super) async fn changed(store: &Store, id: Uuid, note: &str) {
    change::<ThingChanged>(store, id, note).await;
}

/// Changes a thing and publishes what `wrap` makes of it.
pub(super) async fn emit<E: Event>(store: &Store, id: Uuid, note: &str, wrap: fn(Thing) -> E) {
    let note = note.to_owned();
    let unit = move |tx: Tx| {
        let note = note.clone();
        async move {
            let sql = sql!(
                Scalar<i64>,
                "INSERT INTO thing (id, version) VALUES ($1, 1) ON CONFLICT (id) DO UPDATE SET version = thing.version + 1 RETURNING version AS value"
            );
            let Scalar(version) = tx.one(sql, params![id]).await?;
            tx.emit(wrap(Thing { org: ORG, id, version, note }))
        }
    };
    // Writers of one thing wait for each other, on a busy machine for longer than a lock is waited for.
    let mut tries = 1;
    loop {
        match store.write(unit.clone()).await {
            Ok(()) => return,
            Err(WriteError::Unit(StoreError::LockTimeout)) if tries < 20 => tries += 1,
            Err(error) => panic!("a change is written: {error}"),
        }
    }
}

/// Runs one statement against a database behind the bus's back.
pub(super) async fn tamper(store: &Store, sql: fn() -> crate::store::Sql<()>) {
    let unit = move |tx: Tx| async move { tx.run(sql(), params![]).await };
    store.write(unit).await.map_err(|e: WriteError<_>| e.to_string()).expect("it is tampered with");
}

async fn note_effect(tx: &Tx, event: &Received<ThingChanged>) -> Result<(), Fault> {
    let sql = sql!("INSERT INTO effect (id, version) VALUES ($1, $2)");
    tx.run(sql, params![event.subject, event.version]).await?;
    Ok(())
}

/// A consumer that notes every change.
pub(super) fn noting() -> Reaction {
    Reaction::new(|tx: Tx, event: Received<ThingChanged>| async move { note_effect(&tx, &event).await })
}

/// One that notes for which service and in which trace it works, too.
pub(super) fn tracing(seen: &Arc<Mutex<Vec<Seen>>>) -> Reaction {
    let seen = seen.clone();
    Reaction::new(move |tx: Tx, event: Received<ThingChanged>| {
        seen.lock()
            .push((telemetry::current_service().as_deref().map(str::to_owned), telemetry::current_trace().trace_id));
        async move { note_effect(&tx, &event).await }
    })
}

/// The service that an event was handled for, and the trace.
pub(super) type Seen = (Option<String>, [u8; 16]);

/// One that waits at a gate first, or takes its time.
pub(super) fn waiting(open: &Arc<AtomicBool>, pause: Duration) -> Reaction {
    let open = open.clone();
    Reaction::new(move |tx: Tx, event: Received<ThingChanged>| {
        let open = open.clone();
        async move {
            if !open.load(Ordering::SeqCst) {
                return Err(Fault::Retry("the gate is closed".to_owned()));
            }
            tokio::time::sleep(pause).await;
            note_effect(&tx, &event).await
        }
    })
}

/// One with moods: what the event's note says happens until it is cured.
pub(super) fn moody(cured: &Arc<AtomicBool>) -> Reaction {
    let (cured, shaken) = (cured.clone(), Arc::new(AtomicU32::new(0)));
    Reaction::new(move |tx: Tx, event: Received<ThingChanged>| {
        let (cured, shaken) = (cured.load(Ordering::SeqCst), shaken.clone());
        async move {
            note_effect(&tx, &event).await?;
            match event.note.as_str() {
                _ if cured => Ok(()),
                "poison" => Err(Fault::Park("poisoned".to_owned())),
                "never" => Err(Fault::Retry("not yet".to_owned())),
                "shaky" if shaken.fetch_add(1, Ordering::SeqCst) < 3 => Err(Fault::Retry("not yet".to_owned())),
                _ => Ok(()),
            }
        }
    })
}

pub(super) async fn effects(store: &Store) -> usize {
    let sql = sql!(Scalar<i64>, "SELECT COUNT(*) AS value FROM effect");
    let Scalar(count) = store.read().one(sql, params![]).await.expect("the database answers");
    usize::try_from(count).expect("a count")
}

pub(super) async fn parked(store: &Store) -> i64 {
    let all: BTreeMap<String, i64> = parked_count(&store.read()).await.expect("the database answers");
    all.get("alpha").copied().unwrap_or(0)
}

/// The versions of a thing that took effect, in the order they did.
pub(super) async fn handled(store: &Store, thing: Uuid) -> Vec<i64> {
    let applied = bus::applied(store, "alpha").await.expect("the database answers");
    applied.iter().filter(|fact| fact.aggregate_id == thing).map(|fact| fact.aggregate_version).collect()
}

/// Nothing lost, nothing made up, nothing twice, and order; gives how many events were published.
pub(super) async fn check(publisher: &Store, consumer: &Store) -> usize {
    let types = vec![ThingChanged::DEF.name.to_owned()];
    let received = bus::received(consumer, "alpha").await.expect("the database answers");
    let published = bus::published(publisher, &types).await.expect("the database answers");
    assert_eq!(bus::compare(&published, &received), Difference::default(), "lost or made up");
    let applied = bus::applied(consumer, "alpha").await.expect("the database answers");
    assert_eq!(bus::disorder(&applied), Vec::<String>::new(), "order");
    assert_eq!(effects(consumer).await, applied.len(), "an effect for each receipt, and no other");
    published.len()
}

pub(super) fn things(count: usize) -> Vec<Uuid> {
    (0..count).map(|_| ids::fresh()).collect()
}
