//! What every part of the network shares: the store, the rules in force and the wake-up calls.
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::clock::Clock;
use crate::faults::FaultRates;
use crate::keys::Key;
use crate::problem::{Code, Problem};
use crate::store::Store;

/// Settings that an operation looks at; replaced as a whole.
#[derive(Clone)]
pub(crate) struct Rules {
    pub(crate) authorization_ttl_ms: i64,
    pub(crate) base_url: String,
    pub(crate) faults: FaultRates,
}

/// One unit of work inside the writer's transaction.
pub(crate) struct Work<'a> {
    pub(crate) conn: &'a Connection,
    pub(crate) now: i64,
    pub(crate) rules: &'a Rules,
    /// The idempotency key of the call, none for what the network does by itself.
    pub(crate) key: Option<&'a str>,
}

pub(crate) struct Network {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) api_key: Key,
    pub(crate) webhook_secret: Key,
    /// How long a call that is meant to time out is held.
    pub(crate) hang: Duration,
    pub(crate) rules: RwLock<Arc<Rules>>,
    pub(crate) webhook_url: RwLock<Option<String>>,
    pub(crate) events_ready: Notify,
    pub(crate) deadlines_changed: Notify,
}

impl Network {
    /// Runs `work` durably, then wakes whoever may have something to do because of it.
    pub(crate) async fn work<T, F>(&self, key: Option<String>, work: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: FnOnce(&Work<'_>) -> Result<T, Problem> + Send + 'static,
    {
        let answer = self.read(key, work).await;
        self.events_ready.notify_one();
        self.deadlines_changed.notify_one();
        answer
    }

    /// Runs `work` without waking anyone; for what changes nothing and for the background tasks themselves.
    pub(crate) async fn read<T, F>(&self, key: Option<String>, work: F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: FnOnce(&Work<'_>) -> Result<T, Problem> + Send + 'static,
    {
        let rules = Arc::clone(&self.rules.read());
        let clock = self.clock.clone();
        let run =
            move |conn: &Connection| work(&Work { conn, now: clock.now_ms(), rules: &rules, key: key.as_deref() });
        self.store.run(run).await
    }

    /// Puts new rates in force, keeping the seed unless a new one is named.
    pub(crate) async fn set_faults(&self, rates: FaultRates) -> Result<FaultRates, Problem> {
        let mut rates = rates.checked()?;
        rates.seed = rates.seed.or(self.rules.read().faults.seed);
        let stored = serde_json::to_string(&rates).map_err(|_| Code::InvalidFaults)?;
        self.read(None, move |work| save_setting(work.conn, "faults", &stored)).await?;
        let mut rules = self.rules.write();
        *rules = Arc::new(Rules { faults: rates.clone(), ..Rules::clone(&rules) });
        Ok(rates)
    }

    /// Names the address that events are sent to, from now on and after a restart.
    pub(crate) async fn set_webhook_url(&self, url: String) -> Result<(), Problem> {
        let parsed = reqwest::Url::parse(&url).map_err(|_| Code::InvalidWebhookUrl)?;
        if parsed.scheme() != "http" || !parsed.has_host() {
            return Err(Code::InvalidWebhookUrl.into());
        }
        let stored = url.clone();
        self.read(None, move |work| save_setting(work.conn, "webhook_url", &stored)).await?;
        *self.webhook_url.write() = Some(url);
        self.events_ready.notify_one();
        Ok(())
    }
}

fn save_setting(conn: &Connection, name: &str, value: &str) -> Result<(), Problem> {
    conn.prepare_cached(
        "INSERT INTO settings (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    )?
    .execute(params![name, value])?;
    Ok(())
}

pub(crate) fn load_setting(conn: &Connection, name: &str) -> Result<Option<String>, Problem> {
    let mut query = conn.prepare_cached("SELECT value FROM settings WHERE name = ?1")?;
    Ok(query.query_row([name], |row| row.get(0)).optional()?)
}

/// A new name for a thing of this kind; grows with time, cannot be guessed.
#[expect(
    clippy::disallowed_methods,
    reason = "names here are opaque; what a re-run repeats is drawn from keys, not ids"
)]
pub(crate) fn new_id(prefix: &str) -> String {
    format!("{prefix}_{}", Uuid::now_v7().simple())
}
