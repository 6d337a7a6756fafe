//! Secrets in a vault: the HTTP interface of Vault, KV version 2, opened by a token or a role (`AppRole`).
//!
//! A secret is one entry with the fields `value`, `next` and `previous`; the last two may be missing.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{Method, StatusCode};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Pair, Provider, Secret, check_name};
use crate::registry::{http_client, with_causes};

/// A vault that has not answered by then is away.
const PATIENCE: Duration = Duration::from_secs(5);

/// How the vault is opened.
#[derive(Clone)]
pub enum Entry {
    /// With the token in this file.
    Token(PathBuf),
    /// As this role, with the secret id in this file.
    Role {
        /// The role's id.
        role: String,
        /// The file of its secret id.
        secret_id: PathBuf,
    },
}

/// A vault, and what was read from it.
pub struct Vault {
    url: String,
    mount: String,
    path: String,
    entry: Entry,
    http: reqwest::Client,
    token: tokio::sync::Mutex<Option<Token>>,
    known: Mutex<BTreeMap<String, Kept>>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").field("url", &self.url).field("path", &self.path).finish_non_exhaustive()
    }
}

/// A token with when it should be renewed and when it ends; a root token never does.
struct Token {
    text: String,
    renew_at: Option<Instant>,
    ends_at: Option<Instant>,
    renewable: bool,
}

struct Kept {
    pair: Pair,
    version: u64,
}

impl Vault {
    /// Opens the vault and reads all secrets of the folder.
    ///
    /// # Errors
    /// The vault cannot be asked or refuses; says which setting to look at.
    pub async fn open(url: &str, mount: &str, path: &str, entry: Entry) -> io::Result<Self> {
        let vault = Self {
            url: url.trim_end_matches('/').to_owned(),
            mount: mount.trim_matches('/').to_owned(),
            path: path.trim_matches('/').to_owned(),
            entry,
            http: http_client(),
            token: tokio::sync::Mutex::default(),
            known: Mutex::default(),
        };
        vault.refresh().await?;
        Ok(vault)
    }

    fn error(&self, why: impl std::fmt::Display) -> io::Error {
        io::Error::other(format!("the vault at {}: {why}; check the settings secrets.vault_…", self.url))
    }

    async fn send(&self, method: Method, path: &str, token: Option<&str>, body: Option<&Value>) -> io::Result<Answer> {
        let mut request = self.http.request(method, format!("{}/v1/{path}", self.url)).timeout(PATIENCE);
        // Required by agents that are told to; source: "X-Vault-Request" of Vault's HTTP interface.
        request = request.header("x-vault-request", "true");
        if let Some(token) = token {
            request = request.header("x-vault-token", token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|e| self.error(with_causes(&e)))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|e| self.error(with_causes(&e)))?;
        Ok(Answer { status, body: serde_json::from_str(&text).unwrap_or(Value::Null) })
    }

    fn from_file(file: &Path) -> io::Result<String> {
        let text = std::fs::read_to_string(file);
        let text = text.map_err(|e| io::Error::new(e.kind(), format!("{}: {e} (secrets.vault_…)", file.display())))?;
        Ok(text.trim().to_owned())
    }

    /// A token that is good now: the one we have, renewed in time, or a new one.
    async fn token(&self) -> io::Result<String> {
        let mut held = self.token.lock().await;
        let now = Instant::now();
        if let Some(token) = held.as_mut().filter(|token| token.ends_at.is_none_or(|end| end > now)) {
            if token.renew_at.is_some_and(|at| at <= now) && token.renewable {
                // Should it fail, the token is good for a third of its life yet.
                if let Some(renewed) = self.renew(&token.text).await {
                    *token = renewed;
                }
            }
            return Ok(token.text.clone());
        }
        let fresh = self.log_in().await?;
        let text = fresh.text.clone();
        *held = Some(fresh);
        Ok(text)
    }

    async fn log_in(&self) -> io::Result<Token> {
        let (role, secret_id) = match &self.entry {
            Entry::Token(file) => return self.look_at(Self::from_file(file)?).await,
            Entry::Role { role, secret_id } => (role, Self::from_file(secret_id)?),
        };
        let body = json!({ "role_id": role, "secret_id": secret_id });
        let answer = self.send(Method::POST, "auth/approle/login", None, Some(&body)).await?.good(self)?;
        let text = answer["auth"]["client_token"].as_str().ok_or_else(|| self.error("the login gave no token"))?;
        Ok(Token::of(text, &answer["auth"]["lease_duration"], &answer["auth"]["renewable"]))
    }

    /// A token that was handed to us, with what is left of its life.
    async fn look_at(&self, text: String) -> io::Result<Token> {
        let answer = self.send(Method::GET, "auth/token/lookup-self", Some(&text), None).await?.good(self)?;
        Ok(Token::of(&text, &answer["data"]["ttl"], &answer["data"]["renewable"]))
    }

    async fn renew(&self, token: &str) -> Option<Token> {
        let answer = self.send(Method::POST, "auth/token/renew-self", Some(token), Some(&json!({}))).await.ok()?;
        let answer = answer.good(self).ok()?;
        Some(Token::of(token, &answer["auth"]["lease_duration"], &answer["auth"]["renewable"]))
    }

    /// Asks with our token, and once more with a new one if it is no longer taken.
    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> io::Result<Answer> {
        let token = self.token().await?;
        let answer = self.send(method.clone(), path, Some(&token), body).await?;
        if answer.status != StatusCode::FORBIDDEN {
            return Ok(answer);
        }
        *self.token.lock().await = None;
        let token = self.token().await?;
        self.send(method, path, Some(&token), body).await
    }

    async fn load(&self, name: &str) -> io::Result<Option<Kept>> {
        let answer = self.ask(Method::GET, &format!("{}/data/{}/{name}", self.mount, self.path), None).await?;
        // A deleted version is a 404 that tells of itself.
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let body = answer.good(self)?;
        let field = |name: &str| body["data"]["data"][name].as_str().map(|text| Secret::new(text.as_bytes()));
        let current = field("value").ok_or_else(|| self.error(format!("{name} has no field `value`")))?;
        let next = field("next");
        let previous = field("previous").filter(|_| next.is_none());
        let version = body["data"]["metadata"]["version"].as_u64().unwrap_or(0);
        Ok(Some(Kept { pair: Pair { current, next, previous }, version }))
    }

    async fn list(&self) -> io::Result<Vec<String>> {
        let path = format!("{}/metadata/{}?list=true", self.mount, self.path);
        let answer = self.ask(Method::GET, &path, None).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(Vec::new());
        }
        let body = answer.good(self)?;
        let names = body["data"]["keys"].as_array().into_iter().flatten().filter_map(Value::as_str);
        Ok(names.filter(|name| check_name(name).is_ok()).map(str::to_owned).collect())
    }
}

struct Answer {
    status: StatusCode,
    body: Value,
}

impl Answer {
    fn good(self, vault: &Vault) -> io::Result<Value> {
        if self.status.is_success() {
            return Ok(self.body);
        }
        let said: Vec<&str> = self.body["errors"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let hint = if self.status == StatusCode::SERVICE_UNAVAILABLE { " (sealed, or in maintenance)" } else { "" };
        Err(vault.error(format!("{}{hint}: {}", self.status, said.join("; "))))
    }
}

impl Token {
    fn of(text: &str, life_s: &Value, renewable: &Value) -> Self {
        let life = life_s.as_u64().filter(|seconds| *seconds > 0).map(Duration::from_secs);
        let now = Instant::now();
        Self {
            text: text.to_owned(),
            renew_at: life.map(|life| now + life * 2 / 3),
            ends_at: life.map(|life| now + life),
            renewable: renewable.as_bool().unwrap_or(false),
        }
    }
}

impl Provider for Vault {
    fn kind(&self) -> &'static str {
        "vault"
    }

    fn read(&self, name: &str) -> io::Result<Pair> {
        let known = self.known.lock().get(name).map(|kept| kept.pair.clone());
        known.ok_or_else(|| {
            let (mount, path) = (&self.mount, &self.path);
            let why = format!(
                "there is no secret {name} in the vault; put it there: vault kv put {mount}/{path}/{name} value=-"
            );
            io::Error::new(io::ErrorKind::NotFound, why)
        })
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.known.lock().keys().cloned().collect())
    }

    fn refresh(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(async move {
            let mut read = BTreeMap::new();
            for name in self.list().await? {
                if let Some(kept) = self.load(&name).await? {
                    read.insert(name, kept);
                }
            }
            // Whoever uses a secret goes on with it although somebody deleted it: a mistake must not stop the city.
            self.known.lock().extend(read);
            Ok(())
        })
    }

    fn write<'a>(&'a self, name: &'a str, pair: &'a Pair) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            check_name(name)?;
            let version = self.known.lock().get(name).map_or(0, |kept| kept.version);
            let mut data = json!({ "value": pair.current.reveal_text() });
            for (field, secret) in [("next", &pair.next), ("previous", &pair.previous)] {
                if let Some(secret) = secret {
                    data[field] = Value::from(secret.reveal_text());
                }
            }
            // Two hands that rotate at once: the second is refused by the version it has not seen.
            let body = json!({ "options": { "cas": version }, "data": data });
            let path = format!("{}/data/{}/{name}", self.mount, self.path);
            self.ask(Method::POST, &path, Some(&body)).await?.good(self)?;
            let kept =
                self.load(name).await?.ok_or_else(|| self.error(format!("{name} is gone after it was written")))?;
            self.known.lock().insert(name.to_owned(), kept);
            Ok(())
        })
    }
}
