//! A small server that speaks the documented interface of a vault: KV version 2 and `AppRole`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use kernel::http::server::{Limits, serve};
use kernel::secrets::{Entry, Vault};
use kernel::task::Tasks;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[derive(Default)]
pub(super) struct Inside {
    pub(super) secrets: BTreeMap<String, (u64, Value)>,
    /// Tokens that are taken now.
    pub(super) tokens: Vec<String>,
    logins: usize,
    renewals: usize,
    life_s: u64,
    pub(super) sealed: bool,
}

pub(super) type Shared = Arc<Mutex<Inside>>;

/// The server, and what lies in it.
pub(super) struct Fake {
    pub(super) url: String,
    pub(super) inside: Shared,
    _tasks: Tasks,
}

impl Fake {
    pub(super) async fn start(life_s: u64) -> Self {
        let inside: Shared = Arc::default();
        inside.lock().life_s = life_s;
        let router = Router::new()
            .route("/v1/auth/approle/login", post(log_in))
            .route("/v1/auth/token/renew-self", post(renew))
            .route("/v1/auth/token/lookup-self", get(look_up))
            .route("/v1/secret/metadata/{*path}", get(list))
            .route("/v1/secret/data/{*path}", get(read).post(write))
            .with_state(inside.clone());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a vault of a case");
        let (url, tasks) = (format!("http://{}", listener.local_addr().expect("a vault of a case")), Tasks::new());
        tasks.spawn("vault", serve(listener, router, Limits::default(), tasks.stopping()));
        Self { url, inside, _tasks: tasks }
    }

    pub(super) fn put(&self, name: &str, value: Value) {
        let mut inside = self.inside.lock();
        let version = inside.secrets.get(name).map_or(1, |(version, _)| version + 1);
        inside.secrets.insert(name.to_owned(), (version, value));
    }

    /// Logins and renewals so far.
    pub(super) fn counted(&self) -> (usize, usize) {
        let inside = self.inside.lock();
        (inside.logins, inside.renewals)
    }

    pub(super) async fn open(&self, entry: Entry) -> std::io::Result<Vault> {
        Vault::open(&self.url, "secret", "city", entry).await
    }
}

fn error(status: u16, text: &str) -> Response {
    (StatusCode::from_u16(status).expect("a vault of a case"), Json(json!({ "errors": [text] }))).into_response()
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
    path.strip_prefix("city/").expect("a vault of a case").to_owned()
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
    let body: Value = serde_json::from_slice(&body).expect("a vault of a case");
    let there = inside.secrets.get(&name(&path)).map_or(0, |(version, _)| *version);
    if body["options"]["cas"] != there {
        return error(400, "check-and-set parameter did not match the current version");
    }
    inside.secrets.insert(name(&path), (there + 1, body["data"].clone()));
    Json(json!({ "data": { "version": there + 1 } })).into_response()
}

/// The role of a city, with the file that opens it.
pub(super) fn role(folder: &tempfile::TempDir) -> Entry {
    let secret_id = folder.path().join("secret-id");
    std::fs::write(&secret_id, "opens\n").expect("a vault of a case");
    Entry::Role { role: "city".to_owned(), secret_id }
}
