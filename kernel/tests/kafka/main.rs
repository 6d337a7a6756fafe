//! What only a real broker can show: topics, records as others see them, replay by time, brokers that freeze.
#![cfg(feature = "kafka")]

mod frozen;
mod kept;
mod records;
mod topics;

use std::net::SocketAddr;
use std::time::Duration;

use kernel::clock::Clock;
use kernel::events::kafka::{Connection, ensure_topics, remove_topics};
use kernel::events::{
    Event as _, EventDef, Fault, KafkaSettings, Payload, Reaction, Received, Road, Subject, move_edge,
};
use kernel::registry::Directory;
use kernel::secrets::Secrets;
use kernel::store::{Engine, Migration, Options, Scalar, Store, Tx};
use kernel::testing::station::Station;
use kernel::{ids, params, sql};
use uuid::Uuid;

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Thing {
    pub org: Uuid,
    pub id: Uuid,
    pub version: i64,
    pub note: String,
}

impl Payload for Thing {
    fn subject(&self) -> Subject {
        Subject { org: self.org, id: self.id, version: self.version }
    }
}

kernel::events! {
    publisher "alpha", topic "alpha.events", aggregate "thing";
    /// A thing has changed.
    "thing.changed" v 1 [] => ThingChanged(Thing);
}

const STEPS: &[Migration] =
    &[Migration { name: "001_things", sql: "CREATE TABLE effect (id UUID NOT NULL, version BIGINT NOT NULL);" }];

#[expect(clippy::disallowed_methods, reason = "where the engines are is told by the environment of the test run")]
fn told(name: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        let required = std::env::var("FX_TEST_REQUIRE_ENGINES").is_ok_and(|required| required == "1");
        assert!(!required, "{name} is not set");
        println!("skipped: {name} is not set");
    }
    value
}

/// Settings with topics of their own, at the broker of this test run.
pub(crate) fn settings() -> Option<KafkaSettings> {
    let prefix = format!("k{}.", ids::fresh().simple());
    Some(KafkaSettings {
        brokers: told("FX_TEST_KAFKA")?,
        prefix,
        session_timeout_ms: 2000,
        ..KafkaSettings::default()
    })
}

pub(crate) struct City {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) settings: KafkaSettings,
    pub(crate) directory: Directory,
    pub(crate) clock: Clock,
}

impl City {
    /// A city whose topics are made.
    pub(crate) async fn with(settings: KafkaSettings) -> Self {
        let clock = Clock::manual("2026-01-01T12:00:00Z".parse().unwrap());
        let city = Self { folder: tempfile::tempdir().unwrap(), settings, directory: Directory::default(), clock };
        ensure_topics(&city.connection("admin"), EVENTS).await.unwrap();
        city
    }

    pub(crate) fn connection(&self, user: &str) -> Connection {
        let secrets = Secrets::open(&self.folder.path().join("secrets")).unwrap();
        Connection::new(&self.settings, user, &secrets).unwrap()
    }

    async fn station(&self, name: &'static str, publishes: &[EventDef]) -> Station {
        let engine = Engine::Sqlite { path: self.folder.path().join(format!("{name}.db")) };
        let claims = EVENTS.iter().map(|e| e.name).collect();
        let options = Options { claims, ..Options::new(engine, self.clock.clone()) };
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut station = Station::start(name, options, STEPS, any).await.unwrap();
        station.on_kafka(&self.connection(name), publishes);
        self.directory.set(name, vec![station.address]);
        station
    }

    pub(crate) async fn alpha(&self) -> Station {
        self.station("alpha", EVENTS).await
    }

    /// A consumer that notes every change, by Kafka.
    pub(crate) async fn beta(&self) -> Station {
        let mut beta = self.station("beta", &[]).await;
        move_edge(&beta.store, &beta.health, "alpha", Road::Kafka, 4).await.unwrap();
        beta.hear(&self.directory, vec![noting()], 3);
        beta
    }
}

impl Drop for City {
    /// Others use this broker too.
    fn drop(&mut self) {
        let left = async { remove_topics(&self.connection("admin"), EVENTS).await };
        let left = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(left));
        left.err().into_iter().for_each(|why| println!("topics stay: {why}"));
    }
}

fn noting() -> Reaction {
    Reaction::new(|tx: Tx, event: Received<ThingChanged>| async move {
        let sql = sql!("INSERT INTO effect (id, version) VALUES ($1, $2)");
        tx.run(sql, params![event.subject, event.version]).await.map(drop).map_err(Fault::from)
    })
}

pub(crate) async fn emit(store: &Store, id: Uuid, version: i64, note: &str) {
    let note = note.to_owned();
    let unit = move |tx: Tx| {
        let note = note.clone();
        async move { tx.emit(ThingChanged::from_payload(Thing { org: Uuid::from_u128(7), id, version, note })) }
    };
    store.write(unit).await.unwrap();
}

pub(crate) async fn effects(store: &Store) -> i64 {
    let sql = sql!(Scalar<i64>, "SELECT COUNT(*) AS value FROM effect");
    store.read().one(sql, params![]).await.unwrap().0
}

pub(crate) async fn until<F: AsyncFnMut() -> bool>(what: &str, mut so: F) {
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(waited.await.is_ok(), "not within 60 s: {what}");
}
