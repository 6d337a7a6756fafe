//! The brokerless bus over real sockets: three services, alpha → beta → gamma, on every engine there is.

mod copies;
mod flow;
mod forged;
mod kills;
mod parking;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use kernel::clock::Clock;
use kernel::events::{Event as _, EventDef, Fault, Payload, Reaction, Received, Subject, keep};
use kernel::ids;
use kernel::registry::Directory;
use kernel::store::{Engine, Migration, Options, Scalar, Store, Tx, WriteError};
use kernel::testing::bus::{self, Difference};
use kernel::testing::scratch;
use kernel::testing::station::Station;
use kernel::{params, sql};
use uuid::Uuid;

/// A thing of alpha's.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
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

pub(crate) mod alpha {
    kernel::events! {
        publisher "alpha", topic "alpha.events", aggregate "thing";
        /// A thing has changed.
        "thing.changed" v 1 [] => ThingChanged(super::Thing);
        /// A thing was looked at, which nobody hears.
        "thing.touched" v 1 [] => ThingTouched(super::Thing);
        /// A thing is gone.
        "thing.gone" v 1 [] => ThingGone(super::Thing);
    }
}

pub(crate) mod beta {
    kernel::events! {
        publisher "beta", topic "beta.events", aggregate "copy";
        /// Beta has seen a change.
        "copy.made" v 1 [] => CopyMade(super::Thing);
    }
}

const STEPS: &[Migration] = &[Migration {
    name: "001_things",
    sql: "CREATE TABLE thing (id UUID NOT NULL PRIMARY KEY, version BIGINT NOT NULL);\nCREATE TABLE effect (id UUID NOT NULL, version BIGINT NOT NULL);\nCREATE TABLE latest (id UUID NOT NULL PRIMARY KEY, note TEXT NOT NULL);",
}];

/// One engine and a folder: databases, addresses and a clock for a few services.
pub(crate) struct City {
    folder: tempfile::TempDir,
    postgres: Option<String>,
    pub(crate) directory: Directory,
    pub(crate) clock: Clock,
}

impl City {
    /// A city on each engine at hand: SQLite always, PostgreSQL where `FX_TEST_POSTGRES` names one.
    pub(crate) fn on_each_engine() -> Vec<Self> {
        [None, postgres()]
            .into_iter()
            .enumerate()
            .filter(|(at, p)| *at == 0 || p.is_some())
            .map(|(_, p)| Self::on(p))
            .collect()
    }

    fn on(postgres: Option<String>) -> Self {
        let clock = Clock::manual("2026-01-01T12:00:00Z".parse().unwrap());
        Self { folder: tempfile::tempdir().unwrap(), postgres, directory: Directory::default(), clock }
    }

    pub(crate) fn engine(&self, database: &str) -> Engine {
        engine(self.folder.path(), self.postgres.as_deref(), database)
    }

    pub(crate) fn on_postgres(&self) -> bool {
        self.postgres.is_some()
    }

    pub(crate) fn options(&self, database: &str) -> Options {
        options(self.engine(database), self.clock.clone())
    }

    /// Starts a service with a database of this name, and lists it.
    pub(crate) async fn start(&self, name: &'static str, database: &str) -> Station {
        let station = Station::start(name, self.options(database), STEPS, any_port()).await.unwrap();
        self.directory.set(name, vec![station.address]);
        station
    }

    /// Only a database.
    pub(crate) async fn store(&self, database: &str) -> Store {
        Store::open(self.options(database), STEPS).await.unwrap()
    }
}

fn postgres() -> Option<String> {
    scratch::address("FX_TEST_POSTGRES")
}

pub(crate) fn engine(folder: &Path, postgres: Option<&str>, database: &str) -> Engine {
    match postgres {
        None => Engine::Sqlite { path: folder.join(format!("{database}.db")) },
        Some(url) => {
            let unique = folder.file_name().unwrap().to_string_lossy().to_lowercase().replace(['.', '-'], "_");
            scratch::postgres(url, url, &format!("bus{unique}_{database}"))
        }
    }
}

pub(crate) fn options(engine: Engine, clock: Clock) -> Options {
    let claims = alpha::EVENTS.iter().chain(beta::EVENTS).map(|e| e.name).collect();
    Options { claims, ..Options::new(engine, clock) }
}

pub(crate) fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub(crate) type Written = Result<Thing, WriteError<kernel::store::StoreError>>;

/// Changes a thing: its version moves on in the unit that publishes the event `wrap` makes of it.
pub(crate) async fn change<E: kernel::events::Event<Payload = Thing>>(store: &Store, id: Uuid, note: &str) -> Written {
    let note = note.to_owned();
    let unit = move |tx: Tx| {
        let note = note.clone();
        async move {
            let sql = sql!(
                Scalar<i64>,
                "INSERT INTO thing (id, version) VALUES ($1, 1) ON CONFLICT (id) DO UPDATE SET version = thing.version + 1 RETURNING version AS value"
            );
            let Scalar(version) = tx.one(sql, params![id]).await?;
            let thing = Thing { org: Uuid::from_u128(7), id, version, note };
            tx.emit(E::from_payload(thing.clone()))?;
            Ok(thing)
        }
    };
    store.write(unit).await
}

pub(crate) async fn changed(store: &Store, id: Uuid, note: &str) -> Thing {
    change::<alpha::ThingChanged>(store, id, note).await.unwrap()
}

/// What beta does: an effect of its own, and an event of its own about the same version.
pub(crate) fn copying() -> Reaction {
    Reaction::new(|tx: Tx, event: Received<alpha::ThingChanged>| async move {
        note_effect(&tx, &event).await?;
        let thing = Thing { version: event.version, ..event.event.0.clone() };
        tx.emit(beta::CopyMade(thing)).map_err(Fault::from)
    })
}

pub(crate) async fn note_effect(tx: &Tx, event: &Received<alpha::ThingChanged>) -> Result<(), Fault> {
    let sql = sql!("INSERT INTO effect (id, version) VALUES ($1, $2)");
    tx.run(sql, params![event.subject, event.version]).await?;
    Ok(())
}

/// What gamma does.
pub(crate) fn keeping() -> Reaction {
    keep::<beta::CopyMade>()
}

pub(crate) async fn count_effects(store: &Store) -> i64 {
    let sql = sql!(Scalar<i64>, "SELECT COUNT(*) AS value FROM effect");
    store.read().one(sql, params![]).await.unwrap().0
}

pub(crate) async fn position(store: &Store, publisher: &str) -> i64 {
    let sql = sql!(Scalar<i64>, "SELECT position AS value FROM bus_position WHERE publisher = $1");
    store.read().maybe(sql, params![publisher]).await.unwrap().map_or(0, |Scalar(position)| position)
}

/// Waits until something is so; the suite has no other clock than what happens.
pub(crate) async fn until<F: AsyncFnMut() -> bool>(what: &str, mut so: F) {
    let waited = tokio::time::timeout(Duration::from_secs(60), async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "not within 60 s: {what}");
}

/// Nothing lost, nothing made up, and order, between a publisher and a consumer, for the types that this consumer hears.
pub(crate) async fn check(publisher: &Store, name: &str, consumer: &Store, hears: &[EventDef]) {
    let difference = differ(publisher, name, consumer, hears).await;
    assert_eq!(difference, Difference::default(), "lost or made up: {name}");
    let applied = bus::applied(consumer, name).await.unwrap();
    assert_eq!(bus::disorder(&applied), Vec::<String>::new(), "order: {name}");
}

pub(crate) async fn differ(publisher: &Store, name: &str, consumer: &Store, hears: &[EventDef]) -> Difference {
    // The consumer first: what is published while we look is not lost.
    let received = bus::received(consumer, name).await.unwrap();
    let types: Vec<String> = hears.iter().map(|def| def.name.to_owned()).collect();
    let published = bus::published(publisher, &types).await.unwrap();
    bus::compare(&published, &received)
}

pub(crate) fn things(count: u128) -> Vec<Uuid> {
    (0..count).map(|_| ids::fresh()).collect()
}

pub(crate) const CHANGED: EventDef = alpha::ThingChanged::DEF;
pub(crate) const COPIED: EventDef = beta::CopyMade::DEF;
