//! A service reduced to its place on the bus: a database, an outbox on a real socket, and what it hears.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::events::wire::proto;
use crate::events::{self, BusHealth, Consumer, Envelope, Link, Patience, Reaction, relay};
use crate::registry::Directory;
use crate::store::{Migration, Options, Store};
use crate::telemetry;

const ASSERTION: &str = "x-internal-assertion";

/// A service on the bus. Dropping it is the end of a process without a goodbye; [`Station::stop`] says goodbye.
pub struct Station {
    name: &'static str,
    /// Its database.
    pub store: Store,
    /// Where its outbox can be followed.
    pub address: SocketAddr,
    /// How its consumer fares.
    pub health: BusHealth,
    #[cfg(feature = "kafka")]
    kafka: Option<events::kafka::Connection>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

fn proof(name: &'static str) -> events::Authorize {
    Arc::new(move |_| {
        HeaderMap::from_iter([(http::HeaderName::from_static(ASSERTION), HeaderValue::from_static(name))])
    })
}

impl Station {
    /// Opens the database and serves its outbox at `listen`; port 0 takes any.
    ///
    /// # Errors
    /// What opening the database or the port says.
    pub async fn start(
        name: &'static str,
        options: Options,
        migrations: &[Migration],
        listen: SocketAddr,
    ) -> Result<Self, String> {
        let store = Store::open(options, migrations).await.map_err(|e| e.to_string())?;
        let listener = TcpListener::bind(listen).await.map_err(|e| format!("{listen}: {e}"))?;
        let address = listener.local_addr().map_err(|e| e.to_string())?;
        let stop = CancellationToken::new();
        let verify = |headers: &HeaderMap| match headers.get(ASSERTION).and_then(|v| v.to_str().ok()) {
            Some(caller) => Ok(caller.to_owned()),
            None => Err("no internal assertion".to_owned()),
        };
        let routes = events::outbox_service(store.clone(), Arc::new(verify), stop.clone());
        let mut tasks = JoinSet::new();
        let drained = stop.clone().cancelled_owned();
        tasks.spawn(async move {
            let served = axum::serve(listener, routes.into_axum_router()).with_graceful_shutdown(drained).await;
            served.expect("a server on an open port does not fail");
        });
        // One writer's outbox numbers are positions already; elsewhere the relay gives them.
        let owner = format!("{name}-{}-{}", std::process::id(), crate::ids::fresh().simple());
        tasks.spawn(relay::run(store.clone(), owner, stop.clone()));
        let health = BusHealth::default();
        Ok(Self {
            name,
            store,
            address,
            health,
            #[cfg(feature = "kafka")]
            kafka: None,
            stop,
            tasks,
        })
    }

    /// Sends its events to Kafka from now on, beside its outbox that can still be followed, and hears others there.
    #[cfg(feature = "kafka")]
    pub fn on_kafka(&mut self, connection: &events::kafka::Connection, publishes: &[events::EventDef]) {
        self.kafka = Some(connection.clone());
        let relay = events::kafka::Relay {
            service: self.name,
            store: self.store.clone(),
            connection: connection.clone(),
            events: publishes.to_vec(),
            // The same in its next life: a clock that stands still lets no lease run out.
            owner: self.name.to_owned(),
            health: self.health.clone(),
        };
        self.tasks.spawn(relay.run(self.stop.clone()));
    }

    /// Hears Kafka for whatever its database says comes by that road.
    #[cfg(feature = "kafka")]
    fn hear_on_kafka(&mut self, connection: events::kafka::Connection, reactions: Vec<Reaction>, patience: Patience) {
        let group = events::kafka::GroupConsumer {
            name: self.name,
            store: self.store.clone(),
            connection,
            reactions: reactions.into(),
            instance: format!("{}-{}", self.name, self.address),
            health: self.health.clone(),
            patience,
        };
        self.tasks.spawn(telemetry::in_service(self.name, group.run(self.stop.clone())));
    }

    /// Starts to hear others; a passing trouble is sat out for `tries` short tries.
    pub fn hear(&mut self, directory: &Directory, reactions: Vec<Reaction>, tries: u32) {
        let consumer = Consumer {
            name: self.name,
            store: self.store.clone(),
            directory: directory.clone(),
            reactions,
            authorize: proof(self.name),
            health: self.health.clone(),
        };
        let patience = Patience { tries, first: Duration::from_millis(2), most: Duration::from_millis(20) };
        #[cfg(feature = "kafka")]
        if let Some(connection) = self.kafka.clone() {
            self.hear_on_kafka(connection, consumer.reactions.clone(), patience);
        }
        let stop = self.stop.clone();
        self.tasks.spawn(telemetry::in_service(self.name, async move { consumer.run_with(patience, stop).await }));
    }

    /// Makes the copies of a publisher's things anew.
    ///
    /// # Errors
    /// What the connection or the publisher says.
    pub async fn rebuild(
        &self,
        directory: &Directory,
        reactions: &[Reaction],
        publisher: &str,
    ) -> Result<usize, String> {
        let link = link(self.name, directory);
        events::rebuild(&link, &self.store, reactions, publisher).await.map_err(|e| e.to_string())
    }

    /// Ends its consumer and its server; its database stays open.
    pub fn hang_up(&self) {
        self.stop.cancel();
    }

    /// Ends its consumer and its server, then closes the database.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.store.close().await;
    }
}

fn link(name: &'static str, directory: &Directory) -> Link {
    Link { consumer: name, directory: directory.clone(), authorize: proof(name) }
}

/// Everything in a publisher's outbox after a position, as its consumers get it.
///
/// # Errors
/// What the connection or the publisher says.
pub async fn log(directory: &Directory, publisher: &str, after: i64) -> Result<Vec<Envelope>, String> {
    let mut feed = events::tail(&link("log", directory), publisher, after).await.map_err(|e| e.to_string())?;
    let mut events = Vec::new();
    loop {
        let stretch = feed.next().await.map_err(|e| e.to_string())?;
        events.extend(stretch.events);
        if stretch.upto >= stretch.head {
            return Ok(events);
        }
    }
}

/// Subscribes without proof of who is calling, and gives what the publisher says to that.
pub async fn knock_unsigned(directory: &Directory, publisher: &str) -> Result<(), String> {
    let link = Link { consumer: "stranger", directory: directory.clone(), authorize: Arc::new(|_| HeaderMap::new()) };
    events::tail(&link, publisher, 0).await.map(drop).map_err(|e| e.to_string())
}

/// A batch that a scripted publisher sends, right or wrong.
#[derive(Clone, Debug)]
pub struct Scripted {
    /// The range it claims to tell of.
    pub range: (i64, i64),
    /// What it tells.
    pub events: Vec<Envelope>,
}

/// A publisher that sends what the test says: one list of batches per connection; then the connection stays silent.
pub struct Forger {
    /// Where it listens.
    pub address: SocketAddr,
    /// The positions that consumers asked for, connection by connection.
    pub asked: Arc<Mutex<Vec<i64>>>,
    /// How many batches it has handed to its connections.
    pub sent: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
}

struct Script {
    epoch: Uuid,
    connections: Mutex<VecDeque<Vec<Scripted>>>,
    asked: Arc<Mutex<Vec<i64>>>,
    sent: Arc<AtomicUsize>,
}

impl Forger {
    /// Serves the script at any port.
    ///
    /// # Errors
    /// No port.
    pub async fn start(epoch: Uuid, connections: Vec<Vec<Scripted>>) -> Result<Self, String> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(|e| e.to_string())?;
        let address = listener.local_addr().map_err(|e| e.to_string())?;
        let asked = Arc::new(Mutex::new(Vec::new()));
        let sent = Arc::<AtomicUsize>::default();
        let connections = Mutex::new(connections.into());
        let script = Script { epoch, connections, asked: asked.clone(), sent: sent.clone() };
        let routes = tonic::service::Routes::new(proto::outbox_server::OutboxServer::new(script));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let served = axum::serve(listener, routes.into_axum_router()).await;
            served.expect("a server on an open port does not fail");
        });
        Ok(Self { address, asked, sent, tasks })
    }

    /// Ends it.
    pub fn stop(mut self) {
        self.tasks.abort_all();
    }
}

#[tonic::async_trait]
impl proto::outbox_server::Outbox for Script {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<proto::Batch, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: Request<proto::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        self.asked.lock().push(request.get_ref().after);
        let batches = self.connections.lock().pop_front().unwrap_or_default();
        let epoch = self.epoch.to_string();
        let count = self.sent.clone();
        let sent = batches.into_iter().map(move |Scripted { range: (after, upto), events }| {
            count.fetch_add(1, Ordering::SeqCst);
            let events = events.iter().map(forged).collect();
            Ok(proto::Batch { epoch: epoch.clone(), after, upto, head: upto, events })
        });
        Ok(Response::new(Box::pin(futures::stream::iter(sent).chain(futures::stream::pending()))))
    }
}

fn forged(envelope: &Envelope) -> proto::Event {
    proto::Event {
        position: envelope.position,
        id: envelope.id.as_bytes().to_vec(),
        r#type: envelope.kind.clone(),
        schema_version: 1,
        org: envelope.orgid.as_bytes().to_vec(),
        subject: envelope.subject.as_bytes().to_vec(),
        version: envelope.version,
        time: envelope.time.micros(),
        traceparent: envelope.traceparent.clone(),
        data: envelope.data.get().to_owned(),
    }
}
