//! How the cases reach the till: real requests on a real port, signed as the gateway signs them.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderMap, Method};
use kernel::clock::Clock;
use kernel::http::{Identity, Signer};
use serde_json::{Value, json};
use uuid::Uuid;

use super::till::{NAME, SCENE, Tally};

const KEY: &str = "idempotency-key";

/// The secret that the till and its gateway share.
pub(crate) fn signer() -> Signer {
    Signer::new(b"what only this city knows")
}

pub(crate) fn person(number: u128, roles: &[&str]) -> Identity {
    Identity {
        user_id: Uuid::from_u128(number),
        email: format!("{number}@example.org"),
        roles: roles.iter().map(|&role| role.to_owned()).collect(),
        orgs: Vec::new(),
        auth_time: 1_700_000_000,
        session: None,
    }
}

/// A request before it is sent; it can be sent again.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) who: Option<Identity>,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

impl Ask {
    /// Asks for a sale under this mark, as the first customer, without a key so far.
    pub(crate) fn sale(mark: &str) -> Self {
        let headers = vec![("content-type", b"application/json".to_vec())];
        let body = json!({"mark": mark}).to_string().into_bytes();
        Self { who: Some(person(1, &[])), method: Method::POST, path: "/sales".into(), headers, body }
    }

    /// The same under its mark as key.
    pub(crate) fn keyed(mark: &str) -> Self {
        Self::sale(mark).key(mark)
    }

    pub(crate) fn key(self, key: &str) -> Self {
        self.with(KEY, key.as_bytes())
    }

    pub(crate) fn scene(self, scene: &str) -> Self {
        self.with(SCENE, scene.as_bytes())
    }

    pub(crate) fn with(mut self, name: &'static str, value: &[u8]) -> Self {
        self.headers.push((name, value.to_vec()));
        self
    }

    pub(crate) fn by(self, who: Option<Identity>) -> Self {
        Self { who, ..self }
    }

    pub(crate) fn at(self, method: Method, path: &str) -> Self {
        Self { method, path: path.to_owned(), ..self }
    }

    pub(crate) fn body(self, body: &str) -> Self {
        Self { body: body.as_bytes().to_vec(), ..self }
    }
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    pub(crate) retry_after: Option<String>,
    pub(crate) replayed: bool,
    pub(crate) body: String,
}

impl Answer {
    /// What the same request must be told every time: all but the word that it was told before.
    pub(crate) fn told(&self) -> (u16, Option<&str>, &str) {
        (self.status, self.location.as_deref(), &self.body)
    }

    pub(crate) fn code(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_default();
        body["code"].as_str().unwrap_or("").to_owned()
    }

    /// Whether the till says that it does not know, and to ask again with the same key.
    fn is_for_now(&self) -> bool {
        self.status == 503 && self.code() != "resting" || self.status == 409 && self.code() == "busy"
    }
}

/// The way to one till.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    http: reqwest::Client,
}

impl Door {
    pub(crate) fn to(address: SocketAddr) -> Self {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().expect("the till works");
        Self { address, http }
    }

    pub(crate) fn signed(who: Option<&Identity>) -> HeaderMap {
        signer().sign("gateway", NAME, who, Clock::system().now())
    }

    /// Sends it once; no answer is an answer that broke off as well.
    pub(crate) async fn send(&self, ask: &Ask) -> Result<Answer, String> {
        let url = format!("http://{}{}", self.address, ask.path);
        let mut request = self.http.request(ask.method.clone(), url).headers(Self::signed(ask.who.as_ref()));
        for (name, value) in &ask.headers {
            request = request.header(*name, value.as_slice());
        }
        let response = request.body(ask.body.clone()).send().await.map_err(|e| e.to_string())?;
        let header = |name| {
            response.headers().get(name).map(|v: &http::HeaderValue| v.to_str().expect("the till works").to_owned())
        };
        Ok(Answer {
            status: response.status().as_u16(),
            location: header("location"),
            retry_after: header("retry-after"),
            replayed: header("idempotent-replayed").is_some(),
            body: response.text().await.map_err(|e| e.to_string())?,
        })
    }

    /// Sends it until it is answered for good, as a client should; gives the answer and how often it was sent.
    pub(crate) async fn insist(&self, ask: &Ask) -> (Answer, usize) {
        for sent in 1..2_000 {
            match self.send(ask).await {
                Ok(answer) if !answer.is_for_now() => return (answer, sent),
                Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
        panic!("no answer to {ask:?}");
    }

    pub(crate) async fn ask(&self, ask: &Ask) -> Answer {
        self.insist(ask).await.0
    }

    pub(crate) async fn tally(&self) -> Tally {
        let count = Ask::sale("").at(Method::GET, "/tally");
        serde_json::from_str(&self.ask(&count).await.body).expect("the till works")
    }
}
