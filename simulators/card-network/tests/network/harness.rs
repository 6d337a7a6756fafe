//! A network on a free port with its own folder, a merchant who calls it, and an ear for its webhooks.
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use card_network::{Clock, Options, Running, run};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;

pub(crate) const API_KEY: &str = "sk_test_0123456789abcdef";
pub(crate) const SECRET: &str = "whsec_test_0123456789abcdef";
pub(crate) const VISA: &str = "4242424242424242";

/// An answer taken apart.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) replayed: bool,
    pub(crate) content_type: String,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn code(&self) -> (u16, &str) {
        (self.status, self.body["code"].as_str().unwrap_or_default())
    }

    pub(crate) fn text(&self, field: &str) -> String {
        self.body[field].as_str().unwrap_or_default().to_owned()
    }
}

/// Someone who calls a network at an address.
#[derive(Clone)]
pub(crate) struct Merchant {
    pub(crate) client: Client,
    pub(crate) url: String,
    pub(crate) api_key: String,
}

impl Merchant {
    pub(crate) fn new(addr: SocketAddr, api_key: &str) -> Self {
        let client = Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
        Self { client, url: format!("http://{addr}"), api_key: api_key.to_owned() }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).bearer_auth(&self.api_key)
    }

    pub(crate) async fn try_send(request: RequestBuilder) -> reqwest::Result<Answer> {
        let response = request.send().await?;
        let header = |name: &str| response.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
        let (replayed, content_type) = (header("idempotent-replayed").is_some(), header("content-type"));
        let status = response.status().as_u16();
        let body = serde_json::from_slice(&response.bytes().await?).unwrap_or_default();
        Ok(Answer { status, replayed, content_type: content_type.unwrap_or_default(), body })
    }

    pub(crate) async fn send(request: RequestBuilder) -> Answer {
        Self::try_send(request).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Self::send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        Self::send(self.request(Method::PUT, path).json(&body)).await
    }

    pub(crate) async fn post(&self, path: &str, key: &str, body: Value) -> Answer {
        Self::send(self.request(Method::POST, path).header("idempotency-key", key).json(&body)).await
    }

    pub(crate) async fn try_post(&self, path: &str, key: &str, body: Value) -> reqwest::Result<Answer> {
        Self::try_send(self.request(Method::POST, path).header("idempotency-key", key).json(&body)).await
    }

    pub(crate) async fn token(&self, number: &str) -> String {
        let card = json!({ "number": number, "exp_month": 12, "exp_year": 2098, "cvc": "123" });
        let answer = Self::send(self.client.post(format!("{}/v1/tokens", self.url)).json(&card)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.text("token")
    }

    /// Asks for 1500 EUR cents with the reference as key.
    pub(crate) async fn authorise(&self, number: &str, reference: &str) -> Answer {
        let token = self.token(number).await;
        let body = json!({ "reference": reference, "token": token, "amount_minor": 1500, "currency": "EUR" });
        self.post("/v1/authorizations", &format!("{reference}:authorise"), body).await
    }

    pub(crate) async fn capture(&self, id: &str, key: &str, amount_minor: i64) -> Answer {
        self.post(&format!("/v1/authorizations/{id}/capture"), key, json!({ "amount_minor": amount_minor })).await
    }

    pub(crate) async fn void(&self, id: &str, key: &str) -> Answer {
        self.post(&format!("/v1/authorizations/{id}/void"), key, json!({})).await
    }

    pub(crate) async fn refund(&self, id: &str, key: &str, amount_minor: i64) -> Answer {
        let body = json!({ "authorization": id, "reference": key, "amount_minor": amount_minor });
        self.post("/v1/refunds", key, body).await
    }

    /// Both captures a fresh authorisation and names it.
    pub(crate) async fn charge(&self, number: &str, reference: &str) -> String {
        let id = self.authorise(number, reference).await.text("id");
        let captured = self.capture(&id, &format!("{reference}:capture"), 1500).await;
        assert_eq!(captured.status, 200, "{captured:?}");
        id
    }

    /// The whole journal, page by page.
    pub(crate) async fn books(&self) -> Vec<Value> {
        let (mut all, mut after) = (Vec::new(), 0);
        loop {
            let page = self.get(&format!("/v1/books?after={after}&limit=500")).await.body;
            all.extend(page["operations"].as_array().unwrap().iter().cloned());
            match page["next_after"].as_i64() {
                Some(next) => after = next,
                None => return all,
            }
        }
    }

    /// The books as a count of `kind/status`.
    pub(crate) async fn counted(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for row in self.books().await {
            let kind = format!("{}/{}", row["kind"].as_str().unwrap(), row["status"].as_str().unwrap());
            *counts.entry(kind).or_insert(0) += 1;
        }
        counts
    }
}

/// A network in this process and a merchant beside it.
pub(crate) struct Open {
    pub(crate) dir: TempDir,
    pub(crate) now: Arc<AtomicI64>,
    pub(crate) merchant: Merchant,
    running: Running,
}

impl std::ops::Deref for Open {
    type Target = Merchant;

    fn deref(&self) -> &Merchant {
        &self.merchant
    }
}

pub(crate) async fn open() -> Open {
    open_with(|_| {}).await
}

pub(crate) async fn open_with(change: impl FnOnce(&mut Options)) -> Open {
    open_in(TempDir::new().unwrap(), change).await
}

async fn open_in(dir: TempDir, change: impl FnOnce(&mut Options)) -> Open {
    let now = Arc::new(AtomicI64::new(1_800_000_000_000));
    let shown = Arc::clone(&now);
    let mut options = Options::new(dir.path(), API_KEY, SECRET);
    options.clock = Clock::from_fn(move || shown.load(Ordering::SeqCst));
    change(&mut options);
    let running = run(options).await.unwrap();
    Open { dir, now, merchant: Merchant::new(running.local_addr(), API_KEY), running }
}

impl Open {
    pub(crate) fn let_pass(&self, time: Duration) {
        self.now.fetch_add(i64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }

    pub(crate) async fn reopen(self) -> Self {
        self.reopen_with(|_| {}).await
    }

    pub(crate) async fn reopen_with(self, change: impl FnOnce(&mut Options)) -> Self {
        self.running.shutdown().await;
        open_in(self.dir, change).await
    }

    pub(crate) async fn close(self) -> TempDir {
        self.running.shutdown().await;
        self.dir
    }
}

/// A webhook as it came in.
#[derive(Debug)]
pub(crate) struct Hook {
    pub(crate) id: String,
    pub(crate) timestamp: String,
    pub(crate) signature: String,
    pub(crate) raw: String,
    pub(crate) body: Value,
}

impl Hook {
    pub(crate) fn kind(&self) -> &str {
        self.body["type"].as_str().unwrap()
    }
}

/// A receiver of webhooks that turns the first few away.
pub(crate) struct Ear {
    pub(crate) url: String,
    hooks: mpsc::UnboundedReceiver<Hook>,
}

#[expect(clippy::disallowed_methods, reason = "the receiver ends with its test's runtime")]
pub(crate) async fn listen(turn_away: u32) -> Ear {
    let (heard, hooks) = mpsc::unbounded_channel();
    let left = Arc::new(AtomicU32::new(turn_away));
    let take = async move |headers: HeaderMap, raw: String| {
        let header = |name: &str| headers[name].to_str().unwrap().to_owned();
        let body = serde_json::from_str(&raw).unwrap();
        let (id, timestamp, signature) =
            (header("webhook-id"), header("webhook-timestamp"), header("webhook-signature"));
        heard.send(Hook { id, timestamp, signature, raw, body }).unwrap();
        let refused = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if refused { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::NO_CONTENT }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hooks", listener.local_addr().unwrap());
    let app = axum::Router::new().route("/hooks", post(async move |headers, raw| take(headers, raw).await));
    tokio::spawn(async move { axum::serve(listener, app).await });
    Ear { url, hooks }
}

impl Ear {
    pub(crate) async fn next(&mut self) -> Hook {
        tokio::time::timeout(Duration::from_secs(10), self.hooks.recv()).await.expect("a webhook within 10 s").unwrap()
    }

    pub(crate) fn is_silent(&mut self) -> bool {
        self.hooks.try_recv().is_err()
    }
}

/// Waits until `reached` holds, for what happens after an answer.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut reached: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !reached().await {
        assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
