//! `restart`: the members of a running city one after another, each asked to end and waited for until it serves again.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::json;
use tokio::process::Command;

use crate::city::{CARD_NETWORK, CityMap, DataFolder, Member, until_listed};
use crate::output::Output;

/// Restart the members of a running city one after another.
///
/// Each leaves the list by which the others find it, ends what it has begun, and is back on the list before the next one is
/// asked. Where a service has a second instance, no request fails meanwhile.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: foodexpress restart --data city\nAfter the program's file was replaced this is how a running city takes up the new one."
)]
pub(super) struct Restart {
    /// Members as `ls` names them, or services for all of their instances; all unless named.
    names: Vec<String>,
}

/// How long one member may take to end and to be back.
const PATIENCE: Duration = Duration::from_secs(60);

impl Restart {
    pub(super) async fn run(self, data: &DataFolder, out: Output) -> Result<()> {
        let map = data.must_run()?;
        if !map.processes {
            bail!("this city is one process: its members cannot be restarted one by one; start it with --processes");
        }
        let chosen = self.chosen(&map)?;
        let began = Instant::now();
        for name in &chosen {
            let since = Instant::now();
            let now =
                restart(data, name).await.with_context(|| format!("{name} is not back; the rest was left alone"))?;
            let took_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
            let text = format!("{name:<18} pid {:<8} {took_ms} ms", now.pid);
            out.row(text, &json!({"name": name, "pid": now.pid, "took_ms": took_ms}));
        }
        let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        out.result(&json!({"restarted": chosen.len(), "took_ms": took_ms}));
        Ok(())
    }

    /// The first instances of all services before the second ones, so that a pair is never asked in a row.
    fn chosen(&self, map: &CityMap) -> Result<Vec<String>> {
        for name in &self.names {
            if !map.members.iter().any(|(member, m)| member == name || m.service == *name) {
                bail!("this city has no {name}; it has {}", map.members.keys().cloned().collect::<Vec<_>>().join(", "));
            }
        }
        let meant = |(member, m): &(&String, &Member)| {
            let named = self.names.iter().any(|name| name == *member || *name == m.service);
            // The payment provider is somebody else's; it is restarted only by name.
            named || self.names.is_empty() && m.service != CARD_NETWORK
        };
        let mut chosen: Vec<(&String, &Member)> = map.members.iter().filter(meant).collect();
        chosen.sort_by_key(|(name, member)| name.len() - member.service.len());
        Ok(chosen.into_iter().map(|(name, _)| name.clone()).collect())
    }
}

/// Asks a member to end, and waits until its next process is ready and on the list.
async fn restart(data: &DataFolder, name: &str) -> Result<Member> {
    let old = member(data, name)?;
    let asked = Command::new("kill").args(["-TERM", &old.pid.to_string()]).status().await?;
    anyhow::ensure!(asked.success(), "process {} cannot be asked to end", old.pid);
    let began = Instant::now();
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(1)).build()?;
    let probe = if old.service == CARD_NETWORK { "livez" } else { "readyz" };
    loop {
        let now = member(data, name)?;
        let url = format!("http://{}/{probe}", now.address);
        if now.pid != old.pid && http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
            if now.service != CARD_NETWORK {
                until_listed(data, &data.must_run()?, &now, PATIENCE).await?;
            }
            return Ok(now);
        }
        if began.elapsed() > PATIENCE {
            bail!("{url} does not answer well after {PATIENCE:?}; {} says why", data.log(name).display());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn member(data: &DataFolder, name: &str) -> Result<Member> {
    data.must_run()?.members.remove(name).with_context(|| format!("this city has no {name} any more"))
}
