//! The city as a customer's, a kitchen's or a courier's program sees it: through the gateway, with a token.

mod insider;
mod sign_in;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use uuid::Uuid;

pub(crate) use insider::Insider;
pub(crate) use sign_in::sign_in;

/// How often a request that may be repeated is repeated before the city counts as gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to one city.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    /// The city's doors, such as `http://127.0.0.1:8080`: where the first cannot be reached the next is tried, as a
    /// balancer before them would.
    doors: Arc<[String]>,
    token: Option<String>,
}

/// An answer with its body read.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// The body, or null.
    pub body: Value,
    /// The raw body.
    pub text: String,
    /// The trace the gateway gave the request.
    pub trace_id: Option<String>,
    /// Whether the city had answered this key before.
    pub replayed: bool,
}

impl Answer {
    /// The body of a successful answer.
    pub(crate) fn ok(self, doing: &str) -> Result<Value> {
        if self.status.is_success() {
            return Ok(self.body);
        }
        bail!("{doing}: {} {}", self.status, self.text)
    }
}

impl Client {
    /// A client without a token for a city with these doors.
    pub(crate) fn new(doors: Vec<String>) -> Result<Self> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(15))
            // Shorter than the server's keep-alive, so that a pooled connection is not one that just closed.
            .pool_idle_timeout(Duration::from_secs(20))
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("an HTTP client without TLS always builds")?;
        Ok(Self { http, doors: doors.into(), token: None })
    }

    /// The same client for the holder of `token`.
    #[must_use]
    pub(crate) fn with_token(&self, token: impl Into<String>) -> Self {
        Self { token: Some(token.into()), ..self.clone() }
    }

    /// The plain HTTP client, for those who are not behind the city's doors.
    pub(crate) fn http(&self) -> &reqwest::Client {
        &self.http
    }

    /// Reads.
    pub(crate) async fn get(&self, path: &str) -> Result<Answer> {
        self.send(Method::GET, path, None, None).await
    }

    /// Changes something under a fresh key.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::POST, path, Some(body), Some(&kernel::ids::fresh())).await
    }

    /// Sends one request once.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        key: Option<&Uuid>,
    ) -> Result<Answer> {
        let response = self
            .knock(|http, door| {
                let mut request = http.request(method.clone(), format!("{door}{path}"));
                if let Some(token) = &self.token {
                    request = request.bearer_auth(token);
                }
                if let Some(key) = key {
                    request = request.header("idempotency-key", key.to_string());
                }
                match body {
                    Some(body) => request.json(body),
                    None => request,
                }
            })
            .await?;
        let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let trace_id = header("traceparent").and_then(|t| t.split('-').nth(1).map(str::to_owned));
        let (status, replayed) = (response.status(), header("idempotent-replayed").is_some());
        let text = response.text().await.context("the answer broke off")?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Answer { status, body, text, trace_id, replayed })
    }

    /// Sends what `ask` makes to the first door that can be reached. Nothing is sent twice: only a door that nobody opened
    /// makes it go to the next one.
    pub(crate) async fn knock(
        &self,
        ask: impl Fn(&reqwest::Client, &str) -> reqwest::RequestBuilder,
    ) -> Result<reqwest::Response> {
        let mut shut = anyhow!("the city has no door");
        for door in self.doors.iter() {
            match ask(&self.http, door).send().await {
                Err(error) if error.is_connect() => shut = anyhow!(error).context(format!("no answer from {door}")),
                answer => return answer.with_context(|| format!("no answer from {door}")),
            }
        }
        Err(shut)
    }

    /// Sends a request until it is answered for good: the same key each time, so that trying again is safe.
    pub(crate) async fn insist(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let key = kernel::ids::fresh();
        let began = std::time::Instant::now();
        let mut pause = Duration::from_millis(50);
        loop {
            let answer = self.send(method.clone(), path, body, Some(&key)).await;
            let passing = match &answer {
                Ok(answer) => matches!(answer.status.as_u16(), 429 | 500 | 502 | 503 | 504) || is_in_flight(answer),
                Err(_) => true,
            };
            if !passing || began.elapsed() > PATIENCE {
                return answer;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }
}

fn is_in_flight(answer: &Answer) -> bool {
    matches!(answer.body["code"].as_str(), Some("idempotency_key_running" | "busy"))
}
