//! Probes: alive, ready, started. Not ready while draining, whatever the checks say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Json;
use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::StatusCode;
use parking_lot::RwLock;
use serde_json::json;

type Check = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

#[derive(Default)]
struct State {
    started: AtomicBool,
    draining: AtomicBool,
    checks: RwLock<BTreeMap<&'static str, Check>>,
}

/// The health of one service. Clones share it.
#[derive(Clone, Default)]
pub struct Health(Arc<State>);

impl Health {
    /// Neither started nor draining.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a dependency of its own; the check must be quick and say what to do.
    pub fn check(&self, name: &'static str, check: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        self.0.checks.write().insert(name, Box::new(check));
    }

    /// Start-up is over.
    pub fn started(&self) {
        self.0.started.store(true, Ordering::Release);
    }

    /// No new work, please.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Release);
    }

    /// What is wrong, by check; empty when ready.
    pub fn faults(&self) -> BTreeMap<&'static str, String> {
        let mut faults: BTreeMap<_, _> =
            self.0.checks.read().iter().filter_map(|(name, check)| check().err().map(|why| (*name, why))).collect();
        if !self.0.started.load(Ordering::Acquire) {
            faults.insert("start", "not started yet".into());
        }
        if self.0.draining.load(Ordering::Acquire) {
            faults.insert("stop", "draining".into());
        }
        faults
    }

    /// `/livez`, `/readyz` and `/startupz`.
    pub fn router(&self) -> Router {
        let (ready, started) = (self.clone(), self.clone());
        Router::new()
            .route("/livez", get(|| async { answer(&BTreeMap::new()) }))
            .route("/readyz", get(move || async move { answer(&ready.faults()) }))
            .route("/startupz", get(move || async move {
                let mut faults = started.faults();
                faults.retain(|name, _| *name == "start");
                answer(&faults)
            }))
    }
}

fn answer(faults: &BTreeMap<&'static str, String>) -> Response {
    let status = if faults.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({"ok": faults.is_empty(), "faults": faults}))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_started_with_every_check_passing_and_not_draining() {
        let health = Health::new();
        assert!(health.faults().contains_key("start"));
        health.started();
        assert!(health.faults().is_empty());
        health.check("oven", || Err("cold".into()));
        assert_eq!(health.faults()["oven"], "cold");
        health.drain();
        assert_eq!(health.faults().len(), 2);
    }
}
