//! Secrets in a vault, against a small server that speaks the documented interface of KV version 2 and `AppRole`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use kernel::http::server::{Limits, serve};
use kernel::secrets::{Entry, Provider as _, Secrets, Vault};
use kernel::task::Tasks;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::until;

#[derive(Default)]
struct Inside {
    secrets: BTreeMap<String, (u64, Value)>,
    /// Tokens that are taken now.
    tokens: Vec<String>,
    logins: usize,
    renewals: usize,
    life_s: u64,
    sealed: bool,
}

type Shared = Arc<Mutex<Inside>>;

struct Fake {
    url: String,
    inside: Shared,
    _tasks: Tasks,
}

impl Fake {
    async fn start(life_s: u64) -> Self {
        let inside: Shared = Arc::default();
        inside.lock().life_s = life_s;
        let router = Router::new()
            .route("/v1/auth/approle/login", post(log_in))
            .route("/v1/auth/token/renew-self", post(renew))
            .route("/v1/auth/token/lookup-self", get(look_up))
            .route("/v1/secret/metadata/{*path}", get(list))
            .route("/v1/secret/data/{*path}", get(read).post(write))
            .with_state(inside.clone());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (url, tasks) = (format!("http://{}", listener.local_addr().unwrap()), Tasks::new());
        tasks.spawn("vault", serve(listener, router, Limits::default(), tasks.stopping()));
        Self { url, inside, _tasks: tasks }
    }

    fn put(&self, name: &str, value: Value) {
        let mut inside = self.inside.lock();
        let version = inside.secrets.get(name).map_or(1, |(version, _)| version + 1);
        inside.secrets.insert(name.to_owned(), (version, value));
    }

    /// Logins and renewals so far.
    fn counted(&self) -> (usize, usize) {
        let inside = self.inside.lock();
        (inside.logins, inside.renewals)
    }

    async fn open(&self, entry: Entry) -> std::io::Result<Vault> {
        Vault::open(&self.url, "secret", "city", entry).await
    }
}

fn error(status: u16, text: &str) -> Response {
    (StatusCode::from_u16(status).unwrap(), Json(json!({ "errors": [text] }))).into_response()
}

fn entered(inside: &Inside, headers: &HeaderMap) -> Result<(), Response> {
    if inside.sealed {
        return Err(error(503, "Vault is sealed"));
    }
    let token = headers.get("x-vault-token").and_then(|token| token.to_str().ok()).unwrap_or_default();
    if inside.tokens.iter().any(|good| good == token) { Ok(()) } else { Err(error(403, "permission denied")) }
}

async fn log_in(State(inside): State<Shared>, Json(body): Json<Value>) -> Response {
    let mut inside = inside.lock();
    if body != json!({ "role_id": "city", "secret_id": "opens" }) {
        return error(400, "invalid role or secret ID");
    }
    inside.logins += 1;
    let token = format!("token-{}", inside.logins);
    inside.tokens.push(token.clone());
    Json(json!({ "auth": { "client_token": token, "lease_duration": inside.life_s, "renewable": true } }))
        .into_response()
}

async fn renew(State(inside): State<Shared>, headers: HeaderMap) -> Response {
    let mut inside = inside.lock();
    if let Err(refused) = entered(&inside, &headers) {
        return refused;
    }
    inside.renewals += 1;
    Json(json!({ "auth": { "lease_duration": inside.life_s, "renewable": true } })).into_response()
}

async fn look_up(State(inside): State<Shared>, headers: HeaderMap) -> Response {
    let inside = inside.lock();
    match entered(&inside, &headers) {
        Ok(()) => Json(json!({ "data": { "ttl": inside.life_s, "renewable": false } })).into_response(),
        Err(refused) => refused,
    }
}

async fn list(State(inside): State<Shared>, headers: HeaderMap) -> Response {
    let inside = inside.lock();
    match entered(&inside, &headers) {
        Ok(()) => Json(json!({ "data": { "keys": inside.secrets.keys().collect::<Vec<_>>() } })).into_response(),
        Err(refused) => refused,
    }
}

fn name(path: &str) -> String {
    path.strip_prefix("city/").unwrap().to_owned()
}

async fn read(State(inside): State<Shared>, Path(path): Path<String>, headers: HeaderMap) -> Response {
    let inside = inside.lock();
    if let Err(refused) = entered(&inside, &headers) {
        return refused;
    }
    match inside.secrets.get(&name(&path)) {
        Some((version, data)) => {
            Json(json!({ "data": { "data": data, "metadata": { "version": version } } })).into_response()
        }
        None => error(404, ""),
    }
}

async fn write(State(inside): State<Shared>, Path(path): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    let mut inside = inside.lock();
    if let Err(refused) = entered(&inside, &headers) {
        return refused;
    }
    let body: Value = serde_json::from_slice(&body).unwrap();
    let there = inside.secrets.get(&name(&path)).map_or(0, |(version, _)| *version);
    if body["options"]["cas"] != there {
        return error(400, "check-and-set parameter did not match the current version");
    }
    inside.secrets.insert(name(&path), (there + 1, body["data"].clone()));
    Json(json!({ "data": { "version": there + 1 } })).into_response()
}

fn role(folder: &tempfile::TempDir) -> Entry {
    let secret_id = folder.path().join("secret-id");
    std::fs::write(&secret_id, "opens\n").unwrap();
    Entry::Role { role: "city".to_owned(), secret_id }
}

#[tokio::test]
async fn a_role_opens_the_vault_and_a_rotation_reaches_whoever_follows() {
    let (fake, folder) = (Fake::start(3600).await, tempfile::tempdir().unwrap());
    fake.put("internal", json!({ "value": "first" }));
    let secrets = Secrets::from(Arc::new(fake.open(role(&folder)).await.unwrap()));
    let live = secrets.live("internal").unwrap();
    let tasks = Tasks::new();
    let (own, stop) = (secrets.clone(), tasks.stopping());
    tasks.spawn("secrets", async move { own.watch(Duration::from_millis(20), stop).await });
    // Another process rotates.
    let other = Secrets::from(Arc::new(fake.open(role(&folder)).await.unwrap()));
    let next = other.lay_next("internal").await.unwrap();
    until("the next one is accepted", || live.get().next.as_ref() == Some(&next)).await;
    assert_eq!(live.get().current.reveal(), b"first");
    other.promote("internal").await.unwrap();
    until("it is in use", || live.get().current == next).await;
    assert_eq!(live.get().previous.as_ref().unwrap().reveal(), b"first");
    assert!(fake.inside.lock().secrets["internal"].1["next"].is_null());
    let said = secrets.get("db-orders").unwrap_err().to_string();
    assert!(said.contains("vault kv put secret/city/db-orders"), "{said}");
    assert!(!format!("{secrets:?}").contains("first") && !format!("{secrets:?}").contains("opens"));
}

#[tokio::test]
async fn a_vault_that_is_sealed_or_gone_takes_nothing_away_and_one_that_refuses_says_so_at_start() {
    let (fake, folder) = (Fake::start(3600).await, tempfile::tempdir().unwrap());
    fake.put("internal", json!({ "value": "first" }));
    let vault = fake.open(role(&folder)).await.unwrap();
    fake.inside.lock().sealed = true;
    let said = vault.refresh().await.unwrap_err().to_string();
    assert!(said.contains("sealed") && said.contains(&fake.url) && said.contains("secrets.vault_"), "{said}");
    assert_eq!(vault.read("internal").unwrap().current.reveal(), b"first");
    fake.inside.lock().sealed = false;
    fake.inside.lock().secrets.clear();
    vault.refresh().await.unwrap();
    assert_eq!(vault.read("internal").unwrap().current.reveal(), b"first", "deleted by mistake, and in use");
    std::fs::write(folder.path().join("wrong"), "guess").unwrap();
    let wrong = Entry::Role { role: "city".to_owned(), secret_id: folder.path().join("wrong") };
    let said = fake.open(wrong).await.unwrap_err().to_string();
    assert!(said.contains("invalid role or secret ID") && !said.contains("guess"), "{said}");
    let said = fake.open(Entry::Token(folder.path().join("missing"))).await.unwrap_err().to_string();
    assert!(said.contains("missing"), "{said}");
}

#[tokio::test]
async fn a_token_is_renewed_in_time_and_a_revoked_one_is_replaced() {
    let (fake, folder) = (Fake::start(1).await, tempfile::tempdir().unwrap());
    fake.put("internal", json!({ "value": "first" }));
    let vault = fake.open(role(&folder)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(750)).await;
    vault.refresh().await.unwrap();
    assert_eq!(fake.counted(), (1, 1));
    fake.inside.lock().tokens.clear();
    vault.refresh().await.unwrap();
    assert_eq!(fake.counted().0, 2);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    vault.refresh().await.unwrap();
    assert_eq!(fake.counted().0, 3, "a token whose life is over is not even tried");
}

#[tokio::test]
async fn a_token_from_a_file_opens_it_too_and_the_second_of_two_hands_is_refused() {
    let (fake, folder) = (Fake::start(0).await, tempfile::tempdir().unwrap());
    fake.put("internal", json!({ "value": "first", "previous": "before" }));
    fake.inside.lock().tokens.push("handed-over".to_owned());
    let file = folder.path().join("token");
    std::fs::write(&file, "handed-over\n").unwrap();
    let vault = fake.open(Entry::Token(file)).await.unwrap();
    let pair = vault.read("internal").unwrap();
    assert_eq!(pair.previous.as_ref().unwrap().reveal(), b"before");
    fake.put("internal", json!({ "value": "by another hand" }));
    let said = vault.write("internal", &pair).await.unwrap_err().to_string();
    assert!(said.contains("check-and-set"), "{said}");
}
