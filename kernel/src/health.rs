//! Whether a service lives, has started, and can take work: three questions with three answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures::future::{BoxFuture, join_all};
use http::StatusCode;
use parking_lot::RwLock;
use serde::Serialize;
use tokio::time::{Instant, timeout};

/// A dependency that has not answered by then is not ready.
const PATIENCE: Duration = Duration::from_secs(2);

type Check = Arc<dyn Fn() -> BoxFuture<'static, Result<String, String>> + Send + Sync>;

/// The health of one service. Clones are the same one.
#[derive(Clone, Default)]
pub struct Health(Arc<State>);

#[derive(Default)]
struct State {
    started: AtomicBool,
    draining: AtomicBool,
    checks: RwLock<BTreeMap<&'static str, Check>>,
}

/// The answer to one question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `UP`, or why not.
    pub status: Status,
    /// What was looked at.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<&'static str, Finding>,
}

/// A report in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// All is well.
    Up,
    /// Not yet started.
    Starting,
    /// Finishing what is under way; new work belongs elsewhere.
    Draining,
    /// Something it needs is missing.
    Down,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Whether it passed.
    pub ok: bool,
    /// In words.
    pub detail: String,
    /// How long it took.
    pub took_ms: u64,
}

impl Health {
    /// A service that is starting and has no checks.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a quick check of one of the service's own dependencies; it says what is wrong.
    pub fn check(&self, name: &'static str, look: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        self.check_by_asking(name, move || std::future::ready(look().map(|()| "ok".to_owned())));
    }

    /// Adds or replaces a check that has to ask; its text is the detail either way.
    pub fn check_by_asking<F, Fut>(&self, name: &'static str, look: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<String, String>> + Send + 'static,
    {
        self.0.checks.write().insert(name, Arc::new(move || Box::pin(look())));
    }

    /// Migrations are done and what was under way has been picked up.
    pub fn started(&self) {
        self.0.started.store(true, Ordering::SeqCst);
    }

    /// From now on it is not ready, and stays so.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::SeqCst);
    }

    /// Whether the process works at all: it answers, so it does. Dependencies do not count, a restart would not mend them.
    #[expect(clippy::unused_self, reason = "it is one of the three questions asked of a service's health")]
    pub fn live(&self) -> Report {
        Report::of(Status::Up)
    }

    /// Whether the start is over.
    pub fn startup(&self) -> Report {
        Report::of(if self.0.started.load(Ordering::SeqCst) { Status::Up } else { Status::Starting })
    }

    /// Whether it can take work, with what it needs for that.
    pub async fn ready(&self) -> Report {
        let checks: Vec<(&'static str, Check)> = self.0.checks.read().iter().map(|(n, c)| (*n, c.clone())).collect();
        let found = join_all(checks.into_iter().map(|(name, check)| async move { (name, look(&check).await) })).await;
        let checks: BTreeMap<&'static str, Finding> = found.into_iter().collect();
        let status = if self.0.draining.load(Ordering::SeqCst) {
            Status::Draining
        } else if !self.0.started.load(Ordering::SeqCst) {
            Status::Starting
        } else if checks.values().all(|finding| finding.ok) {
            Status::Up
        } else {
            Status::Down
        };
        Report { status, checks }
    }

    /// `/livez`, `/readyz` and `/startupz`.
    pub fn router(&self) -> Router {
        let (live, ready, startup) = (self.clone(), self.clone(), self.clone());
        Router::new()
            .route("/livez", get(move || async move { live.live() }))
            .route("/readyz", get(move || async move { ready.ready().await }))
            .route("/startupz", get(move || async move { startup.startup() }))
    }
}

impl Report {
    fn of(status: Status) -> Self {
        Self { status, checks: BTreeMap::new() }
    }

    /// Whether the answer is yes.
    pub fn is_up(&self) -> bool {
        self.status == Status::Up
    }
}

impl IntoResponse for Report {
    fn into_response(self) -> Response {
        let status = if self.is_up() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, [(http::header::CACHE_CONTROL, "no-store")], Json(self)).into_response()
    }
}

async fn look(check: &Check) -> Finding {
    let since = Instant::now();
    let (ok, detail) = match timeout(PATIENCE, check()).await {
        Ok(Ok(detail)) => (true, detail),
        Ok(Err(detail)) => (false, detail),
        Err(_) => (false, format!("no answer within {} s", PATIENCE.as_secs())),
    };
    Finding { ok, detail, took_ms: u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX) }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::Request;
    use http_body_util::BodyExt as _;
    use serde_json::{Value, json};
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(health: &Health, path: &str) -> (u16, Value) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = health.router().oneshot(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_service_is_ready_between_its_start_and_its_draining() {
        let health = Health::new();
        assert_eq!(ask(&health, "/livez").await, (200, json!({"status": "UP"})));
        assert_eq!(ask(&health, "/startupz").await, (503, json!({"status": "STARTING"})));
        assert_eq!(ask(&health, "/readyz").await.0, 503);
        health.started();
        assert_eq!(ask(&health, "/startupz").await.0, 200);
        assert_eq!(ask(&health, "/readyz").await, (200, json!({"status": "UP"})));
        health.drain();
        assert_eq!(ask(&health, "/readyz").await, (503, json!({"status": "DRAINING"})));
        assert_eq!(ask(&health, "/livez").await.0, 200);
    }

    #[tokio::test]
    async fn a_missing_dependency_makes_it_unready_and_is_named_but_does_not_kill_it() {
        let health = Health::new();
        health.started();
        health.check_by_asking("database", || async { Ok("3 units waiting".to_owned()) });
        health.check("bus", || Err("payments has not answered".to_owned()));
        let (status, body) = ask(&health, "/readyz").await;
        assert_eq!((status, &body["status"]), (503, &json!("DOWN")));
        assert_eq!(
            (&body["checks"]["bus"]["ok"], &body["checks"]["bus"]["detail"]),
            (&json!(false), &json!("payments has not answered"))
        );
        assert_eq!(body["checks"]["database"]["ok"], true);
        assert_eq!(ask(&health, "/livez").await.0, 200);
    }
}
