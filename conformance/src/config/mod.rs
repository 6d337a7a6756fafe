//! Settings that change while everybody works: what is good takes effect, and what is wrong keeps the old.

mod changes;
mod consul;

use std::collections::BTreeMap;
use std::path::Path;

use kernel::config::ConfigSettings;
use kernel::config::{Configuration, Recipe, Settings, Table, Tables};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::case::{Case, case};

const ONE_STORE: &str = "it is about what becomes of layers, wherever they come from";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case!("config.reload", "settings that are replaced or removed take effect, and are a version",
            fault "a change that nobody makes", changes::reload),
        case!("config.refused", "what is wrong keeps the old and says so everywhere until it is mended",
            fault "a wrong value that is right", changes::refusals),
        case!("config.restart", "what is read at the start stays and waits, while the rest changes",
            fault "a value that never changed", changes::restart),
        case!("config.layers", "a file of the environment is stronger, and a variable stronger still",
            fault "no variable", changes::layers, not "consul": ONE_STORE),
        case!("config.hidden", "a value that must not show does not, although its change takes effect",
            fault "a history that tells it", changes::hidden, not "consul": ONE_STORE),
        case!("config.whole", "readers see one state or the other, and never half",
            fault "a file that is half one and half the other", changes::whole, not "consul": ONE_STORE),
        case!("config.history", "only the newest versions are kept",
            fault "a history that forgets nothing", changes::history, not "consul": ONE_STORE),
        case!("config.absence", "keys in Consul are layers of their own and survive its absence",
            fault "a Consul that is not away", consul::absence, not "file": "a file is here or there is none"),
    ]
}

/// Settings of a till.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Till {
    /// Seconds in which somebody has to pay.
    #[schemars(extend("x-longer-than" = "bank.retry_ms"))]
    pay_within_s: u64,
    /// Read at start.
    #[schemars(extend("x-restart" = true))]
    drawer: u64,
    /// Not to be shown.
    #[schemars(extend("x-secret" = true))]
    pin: String,
}

impl Settings for Till {
    fn check(&self) -> Result<(), String> {
        if self.pay_within_s > 1_000 { Err("till.pay_within_s is at most 1000".to_owned()) } else { Ok(()) }
    }
}

/// Settings of a bank.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Bank {
    /// Milliseconds between two tries.
    retry_ms: u64,
}

impl Settings for Bank {}

fn tables() -> Tables {
    BTreeMap::from([
        ("till".to_owned(), Table::of::<Till>()),
        ("bank".to_owned(), Table::of::<Bank>()),
        ("config".to_owned(), Table::of::<ConfigSettings>()),
    ])
}

fn recipe(folder: &Path, environment: &[(&str, &str)]) -> Recipe {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Recipe {
        prefix: "FX".to_owned(),
        city: vec![("till.pay_within_s".to_owned(), "60".to_owned())],
        file: folder.join("city.toml"),
        environment: environment.chain([("FX_CONFIG__LOOK_EVERY_MS".to_owned(), "50".to_owned())]).collect(),
        flags: Vec::new(),
    }
}

fn refused(configuration: &Configuration) -> String {
    configuration.standing().refused.unwrap_or_default()
}
