//! `[traces]`: where spans go, how many, and how long anybody waits for that.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Settings;

/// The table's name in settings files; it is one for the whole city.
pub const TABLE: &str = "traces";

/// Settings of the exporter. Every service and the gateway read the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TraceSettings {
    /// Address of a collector that takes OTLP over HTTP, such as `http://127.0.0.1:4318`; empty: no spans are made.
    #[schemars(extend("x-restart" = true))]
    pub endpoint: String,
    /// Share of the traces that begin here whose spans are sent, from 0 to 1. A caller's own decision goes before it, and a span that failed is sent in any case.
    #[schemars(extend("x-restart" = true))]
    pub ratio: f64,
    /// Spans of one service that wait to be sent, at most; further ones are dropped and counted.
    #[schemars(extend("x-restart" = true))]
    pub queue: usize,
    /// Spans in one request, at most.
    #[schemars(extend("x-restart" = true))]
    pub batch: usize,
    /// Milliseconds that a span waits for company, at most.
    #[schemars(extend("x-restart" = true))]
    pub every_ms: u64,
    /// Milliseconds that the collector has to answer a request; also all that a stopping service spends on sending what is left.
    #[schemars(extend("x-restart" = true))]
    pub timeout_ms: u64,
}

impl Default for TraceSettings {
    fn default() -> Self {
        Self { endpoint: String::new(), ratio: 1.0, queue: 8192, batch: 512, every_ms: 1000, timeout_ms: 5000 }
    }
}

impl Settings for TraceSettings {
    /// Refuses what no exporter could work with.
    fn check(&self) -> Result<(), String> {
        self.target().map(drop).map_err(|error| error.to_string())
    }
}

/// Settings that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("traces.{setting}: {why}")]
pub struct TraceSettingsError {
    /// Which one.
    pub setting: &'static str,
    /// What is wrong and what would be right.
    pub why: String,
}

fn wrong(setting: &'static str, why: impl Into<String>) -> TraceSettingsError {
    TraceSettingsError { setting, why: why.into() }
}

impl TraceSettings {
    /// Where requests go, or none if there is no exporting.
    ///
    /// # Errors
    /// An address that is not one or needs TLS, a ratio beyond its range, a queue, batch or time of nothing.
    pub fn target(&self) -> Result<Option<String>, TraceSettingsError> {
        if self.endpoint.is_empty() {
            return Ok(None);
        }
        if !(0.0..=1.0).contains(&self.ratio) {
            return Err(wrong("ratio", format!("{} is not between 0 and 1", self.ratio)));
        }
        for (setting, value) in [("queue", self.queue), ("batch", self.batch)] {
            if value == 0 {
                return Err(wrong(setting, "must be at least 1; to send nothing, leave traces.endpoint empty"));
            }
        }
        for (setting, value) in [("every_ms", self.every_ms), ("timeout_ms", self.timeout_ms)] {
            if value == 0 {
                return Err(wrong(setting, "must be at least 1 millisecond"));
            }
        }
        let address = reqwest::Url::parse(&self.endpoint).map_err(|e| {
            wrong("endpoint", format!("{} is not an address ({e}); try http://127.0.0.1:4318", self.endpoint))
        })?;
        if address.scheme() != "http" {
            let why = format!(
                "{} is not http://; send to a collector beside the city and let that one speak TLS",
                self.endpoint
            );
            return Err(wrong("endpoint", why));
        }
        let base = self.endpoint.trim_end_matches('/');
        Ok(Some(format!("{}/v1/traces", base.strip_suffix("/v1/traces").unwrap_or(base))))
    }

    #[cfg(feature = "otlp")]
    pub(super) fn every(&self) -> Duration {
        Duration::from_millis(self.every_ms)
    }

    /// How long a request, and the last of all, may take.
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_is_the_path_of_the_standard_under_the_endpoint() {
        let at = |endpoint: &str| TraceSettings { endpoint: endpoint.to_owned(), ..TraceSettings::default() }.target();
        assert_eq!(at(""), Ok(None));
        for endpoint in ["http://c:4318", "http://c:4318/", "http://c:4318/v1/traces"] {
            assert_eq!(at(endpoint), Ok(Some("http://c:4318/v1/traces".to_owned())), "{endpoint}");
        }
        assert_eq!(at("http://c/otlp").unwrap().unwrap(), "http://c/otlp/v1/traces");
    }

    #[test]
    fn what_cannot_be_followed_is_refused_with_the_setting_and_a_remedy() {
        let usual = TraceSettings { endpoint: "http://c:4318".into(), ..TraceSettings::default() };
        for (settings, says) in [
            (TraceSettings { endpoint: "c:4318".into(), ..usual.clone() }, "traces.endpoint: c:4318 is not http://"),
            (TraceSettings { endpoint: "collector".into(), ..usual.clone() }, "try http://127.0.0.1:4318"),
            (TraceSettings { endpoint: "https://c".into(), ..usual.clone() }, "let that one speak TLS"),
            (TraceSettings { ratio: 1.5, ..usual.clone() }, "traces.ratio: 1.5 is not between 0 and 1"),
            (TraceSettings { ratio: f64::NAN, ..usual.clone() }, "traces.ratio"),
            (TraceSettings { queue: 0, ..usual.clone() }, "traces.queue"),
            (TraceSettings { batch: 0, ..usual.clone() }, "traces.batch"),
            (TraceSettings { timeout_ms: 0, ..usual }, "traces.timeout_ms"),
        ] {
            let error = settings.target().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
