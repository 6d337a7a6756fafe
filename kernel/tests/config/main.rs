//! Settings that change while everybody works, from files and Consul; and secrets from a vault.

mod remote;
mod vault;
mod watched;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use kernel::config::ConfigSettings;
use kernel::config::{Configuration, Recipe, Settings, Table, Tables};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

/// Settings of a till.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Till {
    /// Seconds in which somebody has to pay.
    #[schemars(extend("x-longer-than" = "bank.retry_ms"))]
    pub(crate) pay_within_s: u64,
    /// Read at start.
    #[schemars(extend("x-restart" = true))]
    pub(crate) drawer: u64,
    /// Not to be shown.
    #[schemars(extend("x-secret" = true))]
    pub(crate) pin: String,
}

impl Settings for Till {
    fn check(&self) -> Result<(), String> {
        if self.pay_within_s > 1_000 { Err("till.pay_within_s is at most 1000".to_owned()) } else { Ok(()) }
    }
}

/// Settings of a bank.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Bank {
    /// Milliseconds between two tries.
    pub(crate) retry_ms: u64,
}

impl Settings for Bank {}

pub(crate) fn tables() -> Tables {
    BTreeMap::from([
        ("till".to_owned(), Table::of::<Till>()),
        ("bank".to_owned(), Table::of::<Bank>()),
        ("config".to_owned(), Table::of::<ConfigSettings>()),
    ])
}

pub(crate) fn recipe(folder: &Path, environment: &[(&str, &str)]) -> Recipe {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Recipe {
        prefix: "FX".to_owned(),
        city: vec![("till.pay_within_s".to_owned(), "60".to_owned())],
        file: folder.join("city.toml"),
        environment: environment.chain([("FX_CONFIG__LOOK_EVERY_MS".to_owned(), "50".to_owned())]).collect(),
        flags: Vec::new(),
    }
}

/// Waits until it is so.
pub(crate) async fn until(what: &str, so: impl Fn() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(20), "it never happens: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn refused(configuration: &Configuration) -> String {
    configuration.standing().refused.unwrap_or_default()
}
