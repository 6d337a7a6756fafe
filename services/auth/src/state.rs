//! What handlers and jobs share.

use kernel::clock::Timestamp;
use kernel::config::Settings as _;
use kernel::service::{Kit, StartError};
use kernel::store::Store;
use kernel::telemetry::{Counter, Metrics};
use tokio::sync::OnceCell;

use crate::client::Clients;
use crate::keyring::Keyring;
use crate::keys::Rules;
use crate::password::Passwords;
use crate::seal::Sealer;
use crate::settings::Settings;
use crate::throttle::Throttle;

/// The secret under which signing keys and sign-in forms are sealed.
const SECRET: &str = "auth-seal";

/// The running service's state.
pub(crate) struct Auth {
    pub(crate) store: Store,
    pub(crate) settings: Settings,
    pub(crate) clients: Clients,
    pub(crate) passwords: Passwords,
    pub(crate) throttle: Throttle,
    pub(crate) keys: Keyring,
    /// Seals what an authorization request asked for into its sign-in form.
    pub(crate) forms: Sealer,
    pub(crate) demo: OnceCell<()>,
    pub(crate) sign_ins: Counter,
    pub(crate) grants: Counter,
}

impl Auth {
    /// The state, from what a service is handed.
    pub(crate) fn start(kit: Kit) -> Result<Self, StartError> {
        let settings: Settings = kit.settings()?;
        let secret = kit.secrets.pair(SECRET).map_err(|e| StartError(format!("auth: secret {SECRET}: {e}")))?;
        let previous = secret.previous.as_ref().map(kernel::secrets::Secret::reveal);
        Self::assemble(settings, kit.store.clone(), secret.current.reveal(), previous, &kit.metrics)
    }

    /// The state, from its parts.
    pub(crate) fn assemble(
        settings: Settings,
        store: Store,
        secret: &[u8],
        previous: Option<&[u8]>,
        metrics: &Metrics,
    ) -> Result<Self, StartError> {
        settings.check().map_err(StartError)?;
        let rules = Rules::of(&settings);
        Ok(Self {
            clients: Clients::of(&settings),
            passwords: Passwords::new().map_err(StartError)?,
            throttle: Throttle::default(),
            keys: Keyring::new(secret, previous, rules),
            forms: Sealer::new(secret, "sign-in form"),
            demo: OnceCell::new(),
            sign_ins: metrics.counter("auth_sign_ins", "Tries to sign in by what became of them", ["outcome"]),
            grants: metrics.counter("auth_grants", "Requests for tokens by what became of them", ["outcome"]),
            store,
            settings,
        })
    }

    /// The time.
    pub(crate) fn now(&self) -> Timestamp {
        self.store.clock().now()
    }
}
