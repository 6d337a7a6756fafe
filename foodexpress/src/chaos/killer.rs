//! Kills members of a supervised city with SIGKILL and measures how long each takes to come back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use parking_lot::Mutex;

use super::plan::Kill;
use crate::city::{CARD_NETWORK, CityMap, Supervised};

/// Longer than this is not recovery.
const BACK_WITHIN: Duration = Duration::from_secs(60);

/// What the killing came to.
#[derive(Debug, Default)]
pub struct Toll {
    /// Kills by member.
    pub by_member: BTreeMap<String, usize>,
    /// From each kill to the member's first good probe, in milliseconds.
    pub recovery_ms: Vec<u64>,
    /// Members that did not come back.
    pub gone: Vec<String>,
}

/// Carries out the plan.
pub async fn carry_out(plan: &[Kill], city: &Supervised, struck: impl Fn(usize)) -> Result<Toll> {
    let toll = Mutex::new(Toll::default());
    let http = reqwest::Client::builder().timeout(Duration::from_millis(300)).pool_max_idle_per_host(0).build()?;
    let mut returns = futures::stream::FuturesUnordered::new();
    for kill in plan {
        tokio::time::sleep(kill.after).await;
        let map = city.map();
        for member in &kill.members {
            if strike(&map, member) {
                *toll.lock().by_member.entry(member.clone()).or_default() += 1;
                struck(1);
                let probe = if member == CARD_NETWORK { "livez" } else { "readyz" };
                returns.push(back(&http, format!("{}/{probe}", map.url(member)?), member, &toll));
            }
        }
        // Waiting for returns goes on beside the next kills; what is done already is taken off the list.
        while let Some(Some(())) = futures::FutureExt::now_or_never(futures::StreamExt::next(&mut returns)) {}
    }
    while futures::StreamExt::next(&mut returns).await.is_some() {}
    drop(returns);
    Ok(toll.into_inner())
}

/// SIGKILL; false if the member has no process at this moment.
fn strike(map: &CityMap, member: &str) -> bool {
    let Some(pid) = map.members.get(member).map(|m| m.pid).filter(|pid| *pid != 0) else { return false };
    std::process::Command::new("kill").args(["-KILL", &pid.to_string()]).status().is_ok_and(|s| s.success())
}

async fn back(http: &reqwest::Client, url: String, member: &str, toll: &Mutex<Toll>) {
    let began = Instant::now();
    while began.elapsed() < BACK_WITHIN {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if http.get(&url).send().await.is_ok_and(|r| r.status().is_success()) {
            toll.lock().recovery_ms.push(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
            return;
        }
    }
    toll.lock().gone.push(member.to_owned());
}
