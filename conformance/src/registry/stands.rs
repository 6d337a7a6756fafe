//! The registries as the cases meet them: each behind a wire that may be cut.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use kernel::clock::Clock;
use kernel::http::Signer;
use kernel::http::server::{Limits, serve};
use kernel::registry::{Backend, Consul, Dns, Etcd, Instance, Own, Registrar};
use kernel::task::Tasks;
use kernel::testing::registry::{Cut, NameServer, Stand};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;

fn address(url: &str) -> SocketAddr {
    url.trim_start_matches("http://").trim_end_matches('/').parse().expect("the address of an engine is http://IP:PORT")
}

/// Our own registrar, asked over HTTP.
pub(crate) struct Registered {
    wire: Cut,
    port: SocketAddr,
    signer: Signer,
    served: Mutex<Tasks>,
}

impl Registered {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let (port, signer) = (listener.local_addr().expect("it is bound"), Signer::new(b"a secret of the suite"));
        let served = Mutex::new(open(listener, &signer));
        Self { wire: Cut::before(port).await, port, signer, served }
    }
}

fn open(listener: TcpListener, signer: &Signer) -> Tasks {
    let (tasks, router) = (Tasks::new(), Registrar::new().router(signer.clone(), Clock::system()));
    let limits = Limits { handler: None, ..Limits::default() };
    tasks.spawn("registrar", serve(listener, router, limits, tasks.stopping()));
    tasks
}

impl Stand for Registered {
    fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(Own::new(self.wire.address, self.signer.clone(), Clock::system()))
    }

    fn cut(&self, cut: bool) {
        self.wire.cut(cut);
    }

    /// The supervisor was killed and started again.
    fn wipe(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            *self.served.lock() = Tasks::new();
            let listener = loop {
                // The old port is free once the dropped tasks are gone.
                match TcpListener::bind(self.port).await {
                    Ok(listener) => break listener,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            };
            *self.served.lock() = open(listener, &self.signer);
        })
    }
}

/// DNS, where the platform enters instances.
pub(crate) struct Named(NameServer);

impl Named {
    pub(crate) async fn start() -> Self {
        Self(NameServer::start().await)
    }
}

impl Stand for Named {
    fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(Dns::new(&self.0.settings()).expect("settings of a test"))
    }

    fn cut(&self, cut: bool) {
        self.0.silence(cut);
    }

    fn wipe(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    fn enter(&self, who: &Instance) {
        self.0.enter(who);
    }

    fn remove(&self, who: &Instance) {
        self.0.remove(who);
    }
}

/// A real Consul.
pub(crate) struct InConsul {
    wire: Cut,
    url: String,
    prefix: String,
}

impl InConsul {
    pub(crate) async fn start(url: &str) -> Self {
        let prefix = format!("t{}", kernel::ids::fresh().simple());
        Self { wire: Cut::before(address(url)).await, url: url.trim_end_matches('/').to_owned(), prefix }
    }
}

impl Stand for InConsul {
    fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(Consul::new(&format!("http://{}", self.wire.address), &self.prefix, None))
    }

    /// Consul keeps the time to live of the first announcement: it has to be longer than the news of a withdrawal may take,
    /// or nobody could tell the one from the other.
    fn ttl(&self) -> Duration {
        Duration::from_secs(5)
    }

    fn cut(&self, cut: bool) {
        self.wire.cut(cut);
    }

    /// What it knows of us is gone, and the wire was down for it: others use the same engine.
    fn wipe(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.wire.cut(true);
            let http = reqwest::Client::new();
            let told = http.get(format!("{}/v1/agent/services", self.url)).send().await.expect("Consul answers");
            let all: Value = told.json().await.expect("Consul speaks JSON");
            for id in all.as_object().expect("services by their ids").keys().filter(|id| id.starts_with(&self.prefix)) {
                http.put(format!("{}/v1/agent/service/deregister/{id}", self.url))
                    .send()
                    .await
                    .expect("Consul answers");
            }
            tokio::time::sleep(self.ttl() / 2).await;
            self.wire.cut(false);
        })
    }
}

/// A real etcd.
pub(crate) struct InEtcd {
    wire: Cut,
    url: String,
    prefix: String,
}

impl InEtcd {
    pub(crate) async fn start(url: &str) -> Self {
        let prefix = format!("t{}", kernel::ids::fresh().simple());
        Self { wire: Cut::before(address(url)).await, url: url.trim_end_matches('/').to_owned(), prefix }
    }
}

impl Stand for InEtcd {
    fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(Etcd::new(&format!("http://{}", self.wire.address), &self.prefix))
    }

    fn cut(&self, cut: bool) {
        self.wire.cut(cut);
    }

    fn wipe(&self) -> BoxFuture<'_, ()> {
        use base64::Engine as _;
        Box::pin(async move {
            self.wire.cut(true);
            let coded = |text: String| base64::engine::general_purpose::STANDARD.encode(text);
            let range =
                json!({ "key": coded(format!("{}/", self.prefix)), "range_end": coded(format!("{}0", self.prefix)) });
            let gone = reqwest::Client::new().post(format!("{}/v3/kv/deleterange", self.url)).json(&range).send().await;
            gone.and_then(reqwest::Response::error_for_status).expect("etcd answers");
            tokio::time::sleep(self.ttl() / 2).await;
            self.wire.cut(false);
        })
    }
}
