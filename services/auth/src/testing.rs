//! What the tests of this crate share: a service's state on a database of its own, with a clock moved by hand.

use std::sync::Arc;

use kernel::clock::{Clock, Timestamp};
use kernel::http::{Caller, Identity};
use kernel::sql;
use kernel::store::{Engine, Options, Scalar, Store};
use kernel::telemetry::Metrics;
use kernel::testing::scratch;
use tempfile::TempDir;
use uuid::Uuid;

use crate::settings::Settings;
use crate::state::Auth;
use crate::store::{PLATFORM, STEPS, SessionRow};

pub(crate) const START: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

/// A service without its port.
pub(crate) struct Room {
    pub(crate) auth: Arc<Auth>,
    pub(crate) clock: Clock,
    engine: Engine,
    _folder: TempDir,
}

impl Room {
    /// One on SQLite, and one on PostgreSQL where the test run has one.
    pub(crate) async fn on_every_engine() -> Vec<Self> {
        let mut rooms = Vec::new();
        for (engine, folder) in scratch::engines() {
            rooms.push(Self::on(engine, folder).await);
        }
        rooms
    }

    async fn on(engine: Engine, folder: TempDir) -> Self {
        let clock = Clock::manual(START);
        let auth = assemble(engine.clone(), &clock).await;
        Self { auth, clock, engine, _folder: folder }
    }

    /// Ends the service and starts it anew: what was in memory only is gone.
    pub(crate) async fn restart(&mut self) {
        self.auth.store.close().await;
        self.auth = assemble(self.engine.clone(), &self.clock).await;
    }

    /// Types of the events published so far, in order.
    pub(crate) async fn published(&self) -> Vec<String> {
        let text = sql!(Scalar<String>, "SELECT event_type AS value FROM outbox ORDER BY seq");
        self.auth.store.read().all(text, Vec::new()).await.unwrap().into_iter().map(|row| row.0).collect()
    }
}

async fn assemble(engine: Engine, clock: &Clock) -> Arc<Auth> {
    let claims = contracts::auth::EVENTS.iter().map(|event| event.name).collect();
    let options = Options { claims, ..Options::new(engine, clock.clone()) };
    let store = Store::open(options, STEPS).await.unwrap();
    let settings = Settings { demo_city: true, ..Settings::default() };
    Arc::new(Auth::assemble(settings, store, b"a secret of the city", None, &Metrics::new("auth")).unwrap())
}

pub(crate) fn caller(user_id: Uuid, role: &str) -> Caller {
    Caller(Identity {
        user_id,
        email: "somebody@demo.example".to_owned(),
        roles: vec![role.to_owned()],
        orgs: Vec::new(),
        auth_time: START.seconds(),
        session: None,
    })
}

pub(crate) fn session_of(user_id: Uuid) -> SessionRow {
    SessionRow {
        org_id: PLATFORM,
        id: Uuid::from_u128(100),
        user_id,
        client_id: "foodexpress-cli".to_owned(),
        scope: "openid".to_owned(),
        version: 1,
        active: true,
        reason: None,
        auth_time: START,
        opened_at: START,
        last_used_at: START,
        expires_at: START.plus(std::time::Duration::from_secs(3600)),
        ended_at: None,
    }
}
