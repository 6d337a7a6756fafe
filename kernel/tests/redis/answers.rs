//! Answers at hand: a repeated request is answered from Redis, and from the database when Redis is not there.
//!
//! Two services of one name share a Redis and not their database: what the second one knows of the first one's requests, it
//! knows from Redis.

use std::sync::Arc;

use kernel::clock::Clock;
use kernel::config::Sources;
use kernel::http::{Body, Caller, Fail, Identity, Json, Routes, Signer};
use kernel::manifest::Access::SignedIn;
use kernel::registry::Directory;
use kernel::secrets::Secrets;
use kernel::service::{Declared, Kit, Running, Service, StartError, Surroundings, start};
use kernel::store::{Engine, Migration, Scalar, Store, Tx};
use kernel::testing::redis::Server;
use kernel::{params, sql};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

const STEPS: &[Migration] = &[Migration { name: "001_sales", sql: "CREATE TABLE sale (what TEXT NOT NULL);" }];

#[derive(Debug, Deserialize, JsonSchema, garde::Validate)]
struct Wanted {
    #[garde(skip)]
    what: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Sold {
    number: i64,
}

struct Till;

async fn sell(tx: Tx, _: Arc<Till>, _: Caller, Body(wanted): Body<Wanted>) -> Result<Json<Sold>, Fail> {
    tx.run(sql!("INSERT INTO sale (what) VALUES ($1)"), params![wanted.what]).await?;
    Ok(Json(Sold { number: count(&tx).await }))
}

async fn count(db: &kernel::store::Db) -> i64 {
    db.one(sql!(Scalar<i64>, "SELECT COUNT(*) AS value FROM sale"), params![]).await.unwrap().0
}

fn till() -> Declared {
    Service::<Till>::new("till", "sells")
        .migrations(STEPS)
        .routes(|| Routes::new().post("/sales", SignedIn, "Sell something", sell))
        .start_with(|_: Kit| Ok::<_, StartError>(Till))
}

/// A till with a database of its own.
struct Shop {
    running: Running,
    signer: Signer,
    _folder: tempfile::TempDir,
}

impl Shop {
    async fn open(server: &Server) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let signer = Signer::new(b"a secret of these shops");
        let settings = server.settings();
        let probe = settings.probe_ms.to_string();
        let around = Surroundings {
            listener: tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap(),
            engine: Engine::Sqlite { path: folder.path().join("till.db") },
            directory: Directory::default(),
            signer: signer.clone(),
            secrets: Secrets::clone(server.secrets()),
            configuration: Sources::new("TILL")
                .set("redis.url", settings.url)
                .set("redis.probe_ms", probe)
                .set("redis.answer_ms", settings.answer_ms.to_string())
                .into(),
            clock: Clock::system(),
            title: "A till",
        };
        Self { running: start(&till(), around).await.unwrap(), signer, _folder: folder }
    }

    fn store(&self) -> &Store {
        &self.running.store
    }

    /// Status, body, and whether it was an answer given before.
    async fn sell(&self, who: u128, key: &str, what: &str) -> (u16, String, bool) {
        let identity = Identity {
            user_id: Uuid::from_u128(who),
            email: "a@b.example".to_owned(),
            roles: vec![],
            orgs: vec![],
            auth_time: 0,
            session: None,
        };
        let headers = self.signer.sign("gateway", "till", Some(&identity), Clock::system().now());
        let asked = reqwest::Client::new()
            .post(format!("http://{}/sales", self.running.address))
            .headers(headers)
            .header("idempotency-key", key)
            .json(&serde_json::json!({ "what": what }));
        let answer = asked.send().await.unwrap();
        let again = answer.headers().get_all("idempotent-replayed").iter().count();
        assert!(again <= 1, "it says once that it was given before");
        (answer.status().as_u16(), answer.text().await.unwrap(), again == 1)
    }

    async fn metrics(&self) -> String {
        let answer = reqwest::get(format!("http://{}/metrics", self.running.address)).await.unwrap();
        answer.text().await.unwrap()
    }
}

/// An answer is sent to Redis after its request was answered.
async fn arrived(server: &Server, count: usize) {
    crate::until("answers lie in Redis", async || {
        server.tell(&["KEYS", "till:answer:*"]).await.matches("till:answer:").count() == count
    })
    .await;
}

#[tokio::test]
async fn a_repeated_request_is_answered_from_redis_and_only_to_whoever_made_it() {
    let Some(server) = Server::start().await else { return };
    server.provide(&["till"]).await;
    let (one, two) = (Shop::open(&server).await, Shop::open(&server).await);
    let first = one.sell(1, "key-1", "soup").await;
    assert_eq!((first.0, first.2), (200, false));
    arrived(&server, 1).await;
    let again = two.sell(1, "key-1", "soup").await;
    assert_eq!((again.0, &again.1, again.2), (200, &first.1, true), "the same answer, without a look at its database");
    assert_eq!(count(&two.store().read()).await, 0);
    let other = two.sell(1, "key-1", "salad").await;
    assert_eq!(other.0, 422, "the same key for something else: {}", other.1);
    assert!(other.1.contains("idempotency_key_reused"));
    let somebody = two.sell(2, "key-1", "soup").await;
    assert_eq!((somebody.0, somebody.2), (200, false), "another's key is another key");
    assert_eq!(count(&two.store().read()).await, 1);
    let text = one.metrics().await;
    assert!(text.contains("redis_calls_total{service=\"till\",use=\"answers\",outcome=\"answered\"}"), "{text}");
    one.running.stop().await;
    two.running.stop().await;
}

#[tokio::test]
async fn without_redis_the_database_answers_and_nobody_waits() {
    let Some(mut server) = Server::start().await else { return };
    server.provide(&["till"]).await;
    let shop = Shop::open(&server).await;
    let first = shop.sell(1, "key-1", "soup").await;
    arrived(&server, 1).await;
    server.wipe().await;
    let again = shop.sell(1, "key-1", "soup").await;
    assert_eq!((again.0, &again.1, again.2), (200, &first.1, true), "wiped");
    arrived(&server, 1).await;
    assert_eq!(shop.sell(1, "key-1", "soup").await, again, "what the database answered is at hand again");
    server.freeze();
    for _ in 0..10 {
        assert_eq!(shop.sell(1, "key-1", "soup").await, again, "frozen");
    }
    server.kill();
    assert_eq!(shop.sell(1, "key-1", "soup").await, again, "stopped");
    let health = reqwest::get(format!("http://{}/readyz", shop.running.address)).await.unwrap();
    assert_eq!(health.status(), 200, "a helper that is away makes nobody unready");
    assert!(health.text().await.unwrap().contains("away, everything works without it"));
    assert_eq!(count(&shop.store().read()).await, 1, "one sale in all");
    shop.running.stop().await;
}

#[tokio::test]
async fn a_refusal_that_was_decided_is_repeated_and_a_fault_is_not_kept() {
    let Some(server) = Server::start().await else { return };
    server.provide(&["till"]).await;
    let shop = Shop::open(&server).await;
    let wrong = shop.sell(1, "key-1", "").await;
    assert_eq!(wrong.0, 200);
    let malformed = shop.sell(1, "", "soup").await;
    assert_eq!(malformed.0, 400, "{}", malformed.1);
    arrived(&server, 1).await;
    shop.running.stop().await;
}
