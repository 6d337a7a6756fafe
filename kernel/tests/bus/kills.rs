//! kill -9 of each process of a chain in mid-stream: nothing lost, made up, doubled or out of order at the end.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kernel::clock::Clock;
use kernel::registry::Directory;
use kernel::store::Store;
use kernel::testing::bus::{self, Difference};
use kernel::testing::station::Station;

use crate::{
    CHANGED, COPIED, STEPS, any_port, change, check, copying, differ, engine, keeping, options, postgres, things, until,
};

const ROLES: [&str; 3] = ["alpha", "beta", "gamma"];
const TEST: &str = "kills::a_chain_survives_kill_9_of_each_of_its_processes";

/// What a child needs to know; it comes in one environment variable.
struct Post {
    role: &'static str,
    folder: PathBuf,
    postgres: Option<String>,
    ports: Vec<u16>,
    /// Brokers, and what stands before the topics of this run.
    kafka: Option<String>,
}

impl Post {
    #[expect(clippy::disallowed_methods, reason = "a child of this very test is told its part by its parent")]
    fn of_this_process() -> Option<Self> {
        let text = std::env::var("BUS_TEST_POST").ok()?;
        let parts: Vec<&str> = text.split('|').collect();
        let role = ROLES.into_iter().find(|role| *role == parts[0]).unwrap();
        let ports = parts[3].split(',').map(|p| p.parse().unwrap()).collect();
        Some(Self {
            role,
            folder: parts[1].into(),
            postgres: Some(parts[2].to_owned()).filter(|p| !p.is_empty()),
            ports,
            kafka: Some(parts[4].to_owned()).filter(|k| !k.is_empty()),
        })
    }

    fn text(&self) -> String {
        let ports: Vec<String> = self.ports.iter().map(u16::to_string).collect();
        let url = self.postgres.as_deref().unwrap_or("");
        let kafka = self.kafka.as_deref().unwrap_or("");
        format!("{}|{}|{url}|{}|{kafka}", self.role, self.folder.display(), ports.join(","))
    }

    fn address(&self, role: &str) -> SocketAddr {
        let at = ROLES.iter().position(|r| *r == role).unwrap();
        SocketAddr::from(([127, 0, 0, 1], self.ports[at]))
    }

    /// The child's whole life: it serves and hears, alpha also writes, until it is killed.
    async fn man(self) {
        let directory = Directory::default();
        for role in ROLES {
            directory.set(role, vec![self.address(role)]);
        }
        let made = options(engine(&self.folder, self.postgres.as_deref(), self.role), Clock::system());
        let mut station = Station::start(self.role, made, STEPS, self.address(self.role)).await.unwrap();
        #[cfg(feature = "kafka")]
        if let Some(kafka) = &self.kafka {
            on_kafka(&mut station, &self.folder, kafka, self.role).await;
        }
        match self.role {
            "beta" => station.hear(&directory, vec![copying()], 3),
            "gamma" => station.hear(&directory, vec![keeping()], 3),
            _ => write(&station.store, &self.folder).await,
        }
        std::future::pending::<()>().await;
    }
}

#[cfg(feature = "kafka")]
fn connection(folder: &Path, kafka: &str, role: &str) -> kernel::events::kafka::Connection {
    let (brokers, prefix) = kafka.split_once('/').unwrap();
    let settings = kernel::events::KafkaSettings {
        brokers: brokers.to_owned(),
        prefix: prefix.to_owned(),
        session_timeout_ms: 2000,
        ..Default::default()
    };
    let secrets = kernel::secrets::Secrets::open(&folder.join("secrets")).unwrap();
    kernel::events::kafka::Connection::new(&settings, role, &secrets).unwrap()
}

/// Has a station of the chain write to Kafka and hear the one before it there.
#[cfg(feature = "kafka")]
async fn on_kafka(station: &mut Station, folder: &Path, kafka: &str, role: &'static str) {
    use kernel::events::{Road, move_edge};
    let (publishes, hears) = match role {
        "alpha" => (crate::alpha::EVENTS, None),
        "beta" => (crate::beta::EVENTS, Some("alpha")),
        _ => (&[][..], Some("beta")),
    };
    station.on_kafka(&connection(folder, kafka, role), publishes);
    if let Some(publisher) = hears {
        move_edge(&station.store, &station.health, publisher, Road::Kafka, 4).await.unwrap();
    }
}

/// Topics of its own for one run, where there is a broker.
#[cfg(feature = "kafka")]
#[expect(clippy::disallowed_methods, reason = "where the engine is only the one who starts the tests knows")]
async fn kafka(folder: &Path) -> Option<String> {
    let brokers = std::env::var("FX_TEST_KAFKA").ok().filter(|brokers| !brokers.is_empty())?;
    let kafka = format!("{brokers}/c{}.", kernel::ids::fresh().simple());
    let events = crate::alpha::EVENTS.iter().chain(crate::beta::EVENTS);
    kernel::events::kafka::ensure_topics(&connection(folder, &kafka, "admin"), events).await.unwrap();
    Some(kafka)
}

#[cfg(not(feature = "kafka"))]
async fn kafka(_: &Path) -> Option<String> {
    None
}

/// Changes things until the parent asks for silence.
async fn write(store: &Store, folder: &Path) {
    let all = things(10);
    for turn in 0_usize.. {
        if folder.join("silence").exists() {
            return;
        }
        change::<crate::alpha::ThingChanged>(store, all[turn % all.len()], "under fire").await.unwrap();
    }
}

/// A child that does not outlive the test.
struct Manned(Child);

impl Manned {
    fn start(post: &Post) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args([TEST, "--exact", "--nocapture", "--test-threads=1"])
            .env("BUS_TEST_POST", post.text())
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    /// SIGKILL: no goodbye, no flush.
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Manned {
    fn drop(&mut self) {
        // It may be dead already, which is all that is wanted.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn free_ports() -> Vec<u16> {
    let held: Vec<TcpListener> = ROLES.iter().map(|_| TcpListener::bind(any_port()).unwrap()).collect();
    held.iter().map(|l| l.local_addr().unwrap().port()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_survives_kill_9_of_each_of_its_processes() {
    if let Some(post) = Post::of_this_process() {
        return post.man().await;
    }
    let stores = [Some(None), postgres().map(Some)].into_iter().flatten();
    for (postgres, by_kafka) in stores.flat_map(|postgres| [(postgres.clone(), false), (postgres, true)]) {
        let folder = tempfile::tempdir().unwrap();
        let ports = free_ports();
        let kafka = if by_kafka { kafka(folder.path()).await } else { None };
        if by_kafka && kafka.is_none() {
            println!("skipped on Kafka: FX_TEST_KAFKA is not set");
            continue;
        }
        let post = |role| Post {
            role,
            folder: folder.path().to_owned(),
            postgres: postgres.clone(),
            ports: ports.clone(),
            kafka: kafka.clone(),
        };
        let mut children: Vec<Manned> = ROLES.into_iter().map(|role| Manned::start(&post(role))).collect();
        let mut stores = Vec::new();
        for role in ROLES {
            stores.push(look(&post(role)).await);
        }
        let received = async || bus::received(&stores[2], "beta").await.unwrap().len();
        for round in 0..9_usize {
            let before = received().await;
            until("events reach the end of the chain", async || received().await >= before + 100).await;
            let victim = round % children.len();
            children[victim].kill();
            children[victim] = Manned::start(&post(ROLES[victim]));
        }
        std::fs::write(folder.path().join("silence"), "").unwrap();
        until("the chain has run dry", async || {
            let first = differ(&stores[0], "alpha", &stores[1], &[CHANGED]).await;
            let second = differ(&stores[1], "beta", &stores[2], &[COPIED]).await;
            (first, second) == (Difference::default(), Difference::default())
        })
        .await;
        // Alpha may have had one more change in hand when the silence came.
        tokio::time::sleep(Duration::from_millis(200)).await;
        check(&stores[0], "alpha", &stores[1], &[CHANGED]).await;
        check(&stores[1], "beta", &stores[2], &[COPIED]).await;
        assert!(bus::applied(&stores[2], "beta").await.unwrap().len() >= 900);
        drop(children);
        #[cfg(feature = "kafka")]
        if let Some(kafka) = &kafka {
            let events = crate::alpha::EVENTS.iter().chain(crate::beta::EVENTS);
            kernel::events::kafka::remove_topics(&connection(folder.path(), kafka, "admin"), events).await.unwrap();
        }
    }
}

/// The parent's own look into a child's database, as soon as the child has made it.
async fn look(post: &Post) -> Store {
    let engine = engine(&post.folder, post.postgres.as_deref(), post.role);
    until("the child serves", async || tokio::net::TcpStream::connect(post.address(post.role)).await.is_ok()).await;
    Store::open(options(engine, Clock::system()), STEPS).await.unwrap()
}
