//! What can be set, and what makes no sense.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

/// Longest life of an access token: how long a revoked one may still work where nobody hears of revocations.
const MOST_ACCESS_S: u64 = 600;

/// Settings of the OpenID provider.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The provider's name in tokens: the address under which clients reach it, without a slash at the end.
    #[schemars(extend("x-restart" = true))]
    pub issuer: String,
    /// How long an access token is good, in seconds; at most 600.
    #[schemars(extend("x-restart" = true))]
    pub access_token_s: u64,
    /// How long a session lasts at most, however often its tokens are renewed, in seconds.
    #[schemars(extend("x-restart" = true))]
    pub session_s: u64,
    /// How long a key signs before the next one takes over, in seconds.
    #[schemars(extend("x-restart" = true))]
    pub key_period_s: u64,
    /// How long a key is published before it signs, in seconds; not less than verifiers cache the list of keys.
    #[schemars(extend("x-restart" = true))]
    pub key_publish_s: u64,
    /// Where the web client may be sent back to; an address that begins with a slash is one under the issuer.
    #[schemars(extend("x-restart" = true))]
    pub web_redirects: Vec<String>,
    /// Whether the accounts of the demo city exist. Their password is public: never where real people sign in.
    #[schemars(extend("x-restart" = true))]
    pub demo_city: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            issuer: "http://127.0.0.1:8080".to_owned(),
            access_token_s: MOST_ACCESS_S,
            session_s: 7 * 24 * 3600,
            key_period_s: 7 * 24 * 3600,
            key_publish_s: 600,
            web_redirects: vec!["/callback".to_owned()],
            demo_city: false,
        }
    }
}

impl kernel::config::Settings for Settings {
    /// Refuses what would make tokens that nobody can verify or that live too long.
    fn check(&self) -> Result<(), String> {
        let issuer = Url::parse(&self.issuer).map_err(|e| format!("auth.issuer does not read as an address: {e}"))?;
        let plain =
            issuer.query().is_none() && issuer.fragment().is_none() && matches!(issuer.scheme(), "http" | "https");
        if !plain || self.issuer.ends_with('/') {
            return Err("auth.issuer must be an http address without query, fragment and final slash".to_owned());
        }
        if !(1..=MOST_ACCESS_S).contains(&self.access_token_s) {
            return Err(format!("auth.access_token_s must be 1 to {MOST_ACCESS_S}"));
        }
        if self.session_s < self.access_token_s {
            return Err("auth.session_s must not be below auth.access_token_s".to_owned());
        }
        if self.key_period_s <= self.key_publish_s {
            return Err("auth.key_period_s must be above auth.key_publish_s".to_owned());
        }
        Ok(())
    }
}

impl Settings {
    pub(crate) fn access_life(&self) -> Duration {
        Duration::from_secs(self.access_token_s)
    }

    pub(crate) fn session_life(&self) -> Duration {
        Duration::from_secs(self.session_s)
    }
}

#[cfg(test)]
mod tests {
    use kernel::config::Settings as _;

    use super::*;

    #[test]
    fn settings_that_make_bad_tokens_are_refused() {
        assert_eq!(Settings::default().check(), Ok(()));
        let spoil: [fn(&mut Settings); 5] = [
            |s| s.issuer = "http://127.0.0.1:8080/".to_owned(),
            |s| s.issuer = "ftp://example.org".to_owned(),
            |s| s.access_token_s = 601,
            |s| s.session_s = 60,
            |s| s.key_period_s = 600,
        ];
        for (case, spoil) in spoil.into_iter().enumerate() {
            let mut settings = Settings::default();
            spoil(&mut settings);
            assert!(settings.check().is_err(), "case {case}");
        }
    }
}
