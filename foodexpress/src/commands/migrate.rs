//! `migrate`: brings every service's database up to this program, before any of them runs.

use anyhow::{Context as _, Result};
use kernel::clock::Clock;
use kernel::store::{Options, Store};
use serde_json::json;

use crate::city::DataFolder;
use crate::output::Output;
use crate::services;

pub(super) async fn run(data: &DataFolder, out: Output) -> Result<()> {
    let _lock = data.lock()?;
    let mut migrated = Vec::new();
    for service in services::all() {
        let name = service.manifest().name;
        let options = Options::new(data.engine(name), Clock::system());
        let store =
            Store::open(options, service.migrations()).await.with_context(|| format!("the database of {name}"))?;
        store.close().await;
        out.say(format!("{name}: {} steps of its own", service.migrations().len()));
        migrated.push(name);
    }
    out.result(&json!({"migrated": migrated}));
    Ok(())
}
