//! Callers of a room: people as the gateway presents them, services, and strangers who found the port.

use http::{HeaderMap, Method};
use serde_json::Value;

use super::room::Room;
use crate::http::Identity;
use crate::ids;

/// How a request comes in.
#[derive(Clone)]
pub(super) enum Door {
    Gateway(Option<Identity>),
    Service(&'static str),
    None,
}

/// Somebody who makes requests.
#[derive(Clone)]
pub struct Visitor<'a> {
    room: &'a Room,
    door: Door,
    key: Option<String>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answered {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body as JSON; null if it is none.
    pub body: Value,
    /// The body as text.
    pub text: String,
}

impl Answered {
    /// The problem's code, if it is one.
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    /// Whether it is the stored answer to an earlier request with the same key.
    pub fn is_replay(&self) -> bool {
        self.headers.contains_key("idempotent-replayed")
    }
}

impl<'a> Visitor<'a> {
    pub(super) fn new(room: &'a Room, door: Door) -> Self {
        Self { room, door, key: None }
    }

    /// Uses this idempotency key instead of a new one for each request.
    #[must_use]
    pub fn keyed(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// Reads.
    pub async fn get(&self, path: &str) -> Answered {
        self.send(Method::GET, path, None).await
    }

    /// Creates or commands.
    pub async fn post(&self, path: &str, body: Value) -> Answered {
        self.send(Method::POST, path, Some(body)).await
    }

    /// Replaces.
    pub async fn put(&self, path: &str, body: Value) -> Answered {
        self.send(Method::PUT, path, Some(body)).await
    }

    /// Changes some fields.
    pub async fn patch(&self, path: &str, body: Value) -> Answered {
        self.send(Method::PATCH, path, Some(body)).await
    }

    /// Removes.
    pub async fn delete(&self, path: &str) -> Answered {
        self.send(Method::DELETE, path, None).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Answered {
        let fresh = || ids::fresh().to_string();
        let key = (method != Method::GET).then(|| self.key.clone().unwrap_or_else(fresh));
        let body = body.map(|body| ("application/json", body.to_string().into_bytes()));
        self.send_raw(method, path, key.as_deref(), body).await
    }

    /// Sends exactly this.
    pub async fn send_raw(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: Option<(&str, Vec<u8>)>,
    ) -> Answered {
        let room = self.room;
        let (service, now) = (room.declared.manifest().name, room.clock.now());
        let headers = match &self.door {
            Door::Gateway(identity) => room.signer.sign("gateway", service, identity.as_ref(), now),
            Door::Service(name) => room.signer.sign(name, service, None, now),
            Door::None => HeaderMap::new(),
        };
        let mut request = room.client.request(method, format!("http://{}{path}", room.address())).headers(headers);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if let Some((media, bytes)) = body {
            request = request.header("content-type", media).body(bytes);
        }
        let response = request.send().await.expect("the service answers");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.expect("the whole answer");
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answered { status, headers, body, text: String::from_utf8_lossy(&bytes).into_owned() }
    }
}
