//! One service on real sockets with a database of its own (SQLite, or PostgreSQL by `FX_TEST_STORE=postgres`), callers who come as from the gateway, and neighbours whose events it hears.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::net::TcpListener;
use uuid::Uuid;

use super::scratch;
use super::station::Station;
use super::visitor::{Door, Visitor};
use crate::clock::Clock;
use crate::config::Sources;
use crate::events::{self, Event, EventDef, Outgoing, Payload as _, Subject};
use crate::http::{Identity, Signer};
use crate::registry::Directory;
use crate::secrets::Secrets;
use crate::service::{self, Declared, Running, Surroundings};
use crate::store::{Engine, Options, Scalar, Store, StoreError, Tx};
use crate::{params, sql};

/// A Thursday noon, when everything is open.
const START: &str = "2026-01-01T12:00:00Z";
/// How long anything in a test may take before it counts as never.
const NEVER: Duration = Duration::from_secs(20);
/// Between two looks at whether it has happened.
const LOOK: Duration = Duration::from_millis(5);

/// A service at work. Leave it by [`Room::finish`], which looks at what is left over.
pub struct Room {
    /// Its time; stands still unless the room was opened otherwise.
    pub clock: Clock,
    /// Where others listen.
    pub directory: Directory,
    pub(super) declared: Declared,
    running: Option<Running>,
    pub(super) signer: Signer,
    pub(super) client: reqwest::Client,
    neighbours: BTreeMap<&'static str, Station>,
    restless: Vec<(&'static str, &'static str)>,
    _folder: TempDir,
}

/// What a room is opened with, where the usual will not do.
#[derive(Clone, Debug)]
pub struct Furnishing {
    /// Its time.
    pub clock: Clock,
    /// Where its settings come from.
    pub sources: Sources,
    /// Its secrets; random ones of its own if none are given.
    pub secrets: Option<Secrets>,
    /// Columns that a second delivery may change, as table and column: locks that are counted up.
    pub restless: Vec<(&'static str, &'static str)>,
}

impl Default for Furnishing {
    fn default() -> Self {
        let clock = Clock::manual(START.parse().expect("a time as RFC 3339 has it"));
        Self { clock, sources: Sources::default(), secrets: None, restless: Vec::new() }
    }
}

impl Room {
    /// Opens the service on a free port; its time stands still and its settings are the defaults.
    pub async fn start(declared: &Declared) -> Self {
        Self::furnished(declared, Furnishing::default()).await
    }

    /// Opens it with these surroundings.
    pub async fn furnished(declared: &Declared, with: Furnishing) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (directory, signer) = (Directory::default(), Signer::new(b"a secret of this room"));
        let neighbours = neighbours(declared, &with.clock, &folder, &directory).await;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let own = || Secrets::open(&folder.path().join("secrets")).expect("a folder for secrets");
        let secrets = with.secrets.unwrap_or_else(own);
        let around = Surroundings {
            listener,
            engine: scratch::chosen(folder.path().join("room.db")),
            directory: directory.clone(),
            signer: signer.clone(),
            secrets,
            configuration: with.sources.into(),
            clock: with.clock.clone(),
            title: "Room",
        };
        let running = service::start(declared, around).await.expect("the service starts");
        Self {
            clock: with.clock,
            directory,
            declared: declared.clone(),
            running: Some(running),
            signer,
            client: reqwest::Client::new(),
            neighbours,
            restless: with.restless,
            _folder: folder,
        }
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("a room runs until it is finished")
    }

    /// The service's database.
    pub fn store(&self) -> &Store {
        &self.running().store
    }

    /// Where the service listens.
    pub fn address(&self) -> SocketAddr {
        self.running().address
    }

    /// Somebody with this role, as the gateway presents them.
    pub fn as_role(&self, role: &str, user: Uuid, orgs: &[Uuid]) -> Visitor<'_> {
        self.as_identity(&Identity {
            user_id: user,
            email: format!("{user}@example.org"),
            roles: vec![role.to_owned()],
            orgs: orgs.to_vec(),
            auth_time: self.clock.now().seconds(),
            session: None,
        })
    }

    /// This person, as the gateway presents them.
    pub fn as_identity(&self, identity: &Identity) -> Visitor<'_> {
        Visitor::new(self, Door::Gateway(Some(identity.clone())))
    }

    /// Somebody who has not signed in.
    pub fn as_guest(&self) -> Visitor<'_> {
        Visitor::new(self, Door::Gateway(None))
    }

    /// Another service of the city.
    pub fn as_service(&self, name: &'static str) -> Visitor<'_> {
        Visitor::new(self, Door::Service(name))
    }

    /// Somebody who found the port and comes past the gateway.
    pub fn as_stranger(&self) -> Visitor<'_> {
        Visitor::new(self, Door::None)
    }

    /// Has a neighbour publish this event, waits until it took effect, and delivers it once more as if nothing remembered the
    /// first time: the service must say nothing new and keep what it has.
    pub async fn hear<E: Event>(&self, event: E) {
        let subject = event.payload().subject();
        let body = serde_json::to_string(event.payload()).expect("a payload becomes JSON");
        if let Err(why) = self.hear_twice(E::DEF, subject, body).await {
            panic!("{}: {why}", E::DEF.name);
        }
    }

    /// The same with the event's type erased; says what went wrong.
    pub(super) async fn hear_twice(&self, def: EventDef, subject: Subject, body: String) -> Result<(), String> {
        let Some(neighbour) = self.neighbours.get(def.publisher).filter(|_| self.hears(&def)) else {
            return Err("this service does not hear it".into());
        };
        let emit = move |tx: Tx| {
            let event = Outgoing::new(&def, subject, body.clone(), tx.now(), tx.trace());
            tx.shared.collected.lock().events.push(event);
            std::future::ready(Ok::<(), StoreError>(()))
        };
        neighbour.store.write(emit).await.map_err(|e| e.to_string())?;
        let position = *neighbour.store.head().borrow();
        self.applied(def.publisher, position).await?;
        let before = self.settled().await;
        let store = self.store();
        let replayed = events::replay(store, &self.running().bus, def.publisher, position, true).await;
        replayed.map_err(|e| e.to_string())?;
        self.applied(def.publisher, position).await?;
        let after = self.settled().await;
        match before.iter().zip(&after).find(|(before, after)| before != after) {
            None => Ok(()),
            Some((before, after)) => Err(format!("a second delivery changed\n{before}\nto\n{after}")),
        }
    }

    fn hears(&self, def: &EventDef) -> bool {
        self.declared.manifest().hears.iter().any(|heard| heard.name == def.name)
    }

    /// Waits until the event at a position took effect.
    async fn applied(&self, publisher: &str, position: i64) -> Result<(), String> {
        let began = Instant::now();
        loop {
            self.nothing_parked().await?;
            let sql = sql!(Scalar<i64>, "SELECT COUNT(*) AS value FROM inbox WHERE publisher = $1 AND position = $2");
            let Scalar(there) =
                self.store().read().one(sql, params![publisher, position]).await.map_err(|e| e.to_string())?;
            if there > 0 {
                return Ok(());
            }
            if began.elapsed() > NEVER {
                return Err(format!("not applied after {NEVER:?}; the bus says {:?}", self.running().bus.publishers()));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn nothing_parked(&self) -> Result<(), String> {
        let parked = events::parked(&self.store().read(), 10).await.map_err(|e| e.to_string())?;
        match parked.first() {
            None => Ok(()),
            Some(first) => {
                Err(format!("{} events are parked; {} because: {}", parked.len(), first.event_type, first.reason))
            }
        }
    }

    /// What the service has said and what it keeps, once that stops changing: woken jobs end in their own time.
    async fn settled(&self) -> Vec<String> {
        let began = Instant::now();
        let mut seen = self.content().await;
        let mut quiet = 0;
        while quiet < 4 && began.elapsed() < NEVER {
            tokio::time::sleep(LOOK).await;
            let now = self.content().await;
            quiet = if now == seen { quiet + 1 } else { 0 };
            seen = now;
        }
        seen
    }

    /// Outbox and own tables as text, one table each.
    async fn content(&self) -> Vec<String> {
        let db = self.store().read();
        let server = !self.store().orders_by_insert();
        let said = if server { SAID_ON_SERVER } else { SAID_IN_FILE };
        let mut all = vec![format!("outbox:\n{}", whole(db.rows::<Scalar<String>>(said, Vec::new()).await))];
        for table in own_tables(&self.declared) {
            let steady = |name: &str| !self.restless.contains(&(table.as_str(), name));
            let dump = if server {
                let restless = self.restless.iter().filter(|(of, _)| *of == table);
                dump_on_server(&table, &restless.map(|(_, column)| *column).collect::<Vec<_>>())
            } else {
                let columns = format!("SELECT name AS value FROM pragma_table_info('{table}')");
                let columns = db.rows::<Scalar<String>>(&columns, Vec::new()).await.expect("a table of this service");
                let steady: Vec<String> = columns.into_iter().map(|c| c.0).filter(|c| steady(c)).collect();
                dump_in_file(&table, &steady)
            };
            all.push(format!("{table}:\n{}", whole(db.rows::<Scalar<String>>(&dump, Vec::new()).await)));
        }
        all
    }

    /// Moves the clock.
    pub fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    /// Waits until something is so.
    pub async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let began = Instant::now();
        while !holds().await {
            assert!(began.elapsed() < NEVER, "after {NEVER:?} still not: {what}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Names of the events that the service has published, in order.
    pub async fn published(&self) -> Vec<String> {
        let sql = sql!(Scalar<String>, "SELECT event_type AS value FROM outbox ORDER BY seq");
        let said = self.store().read().all(sql, params![]).await.expect("the outbox reads");
        said.into_iter().map(|Scalar(name)| name).collect()
    }

    /// Ends the service and its neighbours; nothing may be parked.
    pub async fn finish(self) {
        let leftover = self.nothing_parked().await;
        self.abandon().await;
        leftover.expect("nothing is left over");
    }

    /// Ends them without a look at what is left over.
    pub(super) async fn abandon(mut self) {
        if let Some(running) = self.running.take() {
            running.stop().await;
        }
        for (_, neighbour) in std::mem::take(&mut self.neighbours) {
            neighbour.stop().await;
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        assert!(
            self.running.is_none() || std::thread::panicking(),
            "a room is left by finish(), which looks at what is left over"
        );
    }
}

/// Everybody whom the service hears, each with an outbox of its own.
async fn neighbours(
    declared: &Declared,
    clock: &Clock,
    folder: &TempDir,
    directory: &Directory,
) -> BTreeMap<&'static str, Station> {
    let mut all = BTreeMap::new();
    for publisher in declared.manifest().hears.iter().map(|def| def.publisher) {
        if all.contains_key(publisher) {
            continue;
        }
        let engine = Engine::Sqlite { path: folder.path().join(format!("{publisher}.db")) };
        let anywhere = (Ipv4Addr::LOCALHOST, 0).into();
        let started = Station::start(publisher, Options::new(engine, clock.clone()), &[], anywhere).await;
        let neighbour = started.expect("a neighbour starts");
        directory.set(publisher, vec![neighbour.address]);
        all.insert(publisher, neighbour);
    }
    all
}

const SAID_IN_FILE: &str =
    "SELECT COALESCE(group_concat(event_type || ' ' || aggregate_version, char(10)), '') AS value FROM outbox";
const SAID_ON_SERVER: &str = "SELECT COALESCE(string_agg(event_type || ' ' || aggregate_version, chr(10) ORDER BY seq), '') AS value FROM outbox";

fn dump_in_file(table: &str, columns: &[String]) -> String {
    let line: Vec<String> = columns.iter().map(|name| format!("'{name}=' || quote({name})")).collect();
    let line = line.join(" || ' ' || ");
    format!(
        "SELECT COALESCE(group_concat(line, char(10)), '') AS value FROM (SELECT {line} AS line FROM {table} ORDER BY 1)"
    )
}

fn dump_on_server(table: &str, restless: &[&str]) -> String {
    let restless = restless.join("','");
    format!(
        "SELECT COALESCE(string_agg(line, chr(10) ORDER BY line), '') AS value FROM (SELECT CAST(to_jsonb(whole) - ARRAY['{restless}'] AS TEXT) AS line FROM {table} AS whole) AS lines"
    )
}

/// The tables that a service's own migrations make.
fn own_tables(declared: &Declared) -> Vec<String> {
    let texts = declared.migrations().iter().flat_map(|step| step.sql.split("CREATE TABLE ").skip(1));
    let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    texts.map(name).collect()
}

fn whole(rows: Result<Vec<Scalar<String>>, StoreError>) -> String {
    rows.expect("a table reads").into_iter().map(|Scalar(text)| text).collect()
}
