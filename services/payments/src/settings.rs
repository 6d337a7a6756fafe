//! What can be set from outside; defaults and comments go into the documents.

use std::time::Duration;

use kernel::resilience::BreakerSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the payments.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Address of the payment provider.
    #[schemars(extend("x-restart" = true))]
    pub provider_url: String,
    /// A call of the provider that takes longer than this is given up, and its outcome looked up.
    #[schemars(extend("x-restart" = true))]
    pub provider_timeout_ms: u64,
    /// How long the provider remembers our keys; older intents are looked up and never sent again.
    pub provider_key_window_s: u64,
    /// Calls of the provider that may be under way at once.
    #[schemars(extend("x-restart" = true))]
    pub provider_calls: usize,
    /// How long a provider that keeps failing is left alone.
    #[schemars(extend("x-restart" = true))]
    pub provider_rest_s: u64,
    /// How long after the first refusal another card may be tried; must be shorter than orders wait for their payment.
    pub retry_window_s: u64,
    /// Cards that may be tried for one order, the first included.
    pub max_attempts: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            provider_url: "http://127.0.0.1:8190".into(),
            provider_timeout_ms: 3_000,
            provider_key_window_s: 24 * 3_600,
            provider_calls: 64,
            provider_rest_s: 30,
            retry_window_s: 120,
            max_attempts: 3,
        }
    }
}

impl kernel::config::Settings for Settings {}

impl Settings {
    pub(crate) fn retry_window(&self) -> Duration {
        Duration::from_secs(self.retry_window_s)
    }

    pub(crate) fn provider_timeout(&self) -> Duration {
        Duration::from_millis(self.provider_timeout_ms)
    }

    pub(crate) fn breaker(&self) -> BreakerSettings {
        BreakerSettings { open_for: Duration::from_secs(self.provider_rest_s), ..BreakerSettings::default() }
    }

    pub(crate) fn key_window(&self) -> Duration {
        Duration::from_secs(self.provider_key_window_s)
    }
}
