//! Kills and freezes members of a supervised city, and measures how long each takes to come back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;

use super::plan::{Blow, Weapon};
use crate::city::{CARD_NETWORK, CityMap, Supervised};

/// Longer than this is not recovery.
pub(super) const BACK_WITHIN: Duration = Duration::from_secs(60);

/// What the killing came to.
#[derive(Debug, Default)]
pub(super) struct Toll {
    /// Kills and freezes by member or engine.
    pub by_member: BTreeMap<String, usize>,
    /// From each of them to the first good probe, in milliseconds.
    pub recovery_ms: Vec<u64>,
    /// The longest of them by member.
    pub slowest_ms: BTreeMap<String, u64>,
    /// Members that did not come back.
    pub gone: Vec<String>,
}

/// Carries out the plan.
pub(super) async fn carry_out(plan: &[Blow], city: &Supervised, struck: impl Fn(usize)) -> Result<Toll> {
    let toll = Mutex::new(Toll::default());
    let http =
        reqwest::Client::builder().no_proxy().timeout(Duration::from_millis(300)).pool_max_idle_per_host(0).build()?;
    let mut returns = FuturesUnordered::new();
    for blow in plan {
        // Those on their way back are watched meanwhile: a watch that pauses would count its own pause as theirs.
        beside(tokio::time::sleep(blow.after), &mut returns).await;
        for member in &blow.members {
            let map = beside(standing(city, member), &mut returns).await;
            if strike(&map, member, blow.weapon) {
                *toll.lock().by_member.entry(member.clone()).or_default() += 1;
                struck(1);
                returns.push(back(&http, probe(&map, member)?, member, &toll));
            }
        }
    }
    while returns.next().await.is_some() {}
    drop(returns);
    Ok(toll.into_inner())
}

/// Waits for `first` while the others go on.
async fn beside<T>(first: impl Future<Output = T>, others: &mut FuturesUnordered<impl Future<Output = ()>>) -> T {
    let mut first = std::pin::pin!(first);
    loop {
        tokio::select! {
            done = &mut first => return done,
            Some(()) = others.next(), if !others.is_empty() => {}
        }
    }
}

/// The map once the member has a process again that can be killed: a plan of a hundred kills is a hundred kills.
async fn standing(city: &Supervised, member: &str) -> CityMap {
    let began = Instant::now();
    loop {
        let map = city.map();
        let lives = map.members.get(member).is_some_and(|m| crate::city::is_alive(m.pid));
        if lives || began.elapsed() > BACK_WITHIN {
            return map;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The address that says whether a member is well.
pub(super) fn probe(map: &CityMap, member: &str) -> Result<String> {
    let page = if member == CARD_NETWORK { "livez" } else { "readyz" };
    Ok(format!("{}/{page}", map.url(member)?))
}

/// False if the member has no process at this moment.
fn strike(map: &CityMap, member: &str, weapon: Weapon) -> bool {
    let Some(pid) = map.members.get(member).map(|m| m.pid).filter(|pid| *pid != 0) else { return false };
    match weapon {
        Weapon::Kill => send("-KILL", pid),
        Weapon::Freeze(length) => {
            let frozen = send("-STOP", pid);
            // A thread of its own: whatever this process is busy with, nobody sleeps for ever.
            std::thread::spawn(move || {
                std::thread::sleep(length);
                send("-CONT", pid)
            });
            frozen
        }
    }
}

fn send(signal: &str, pid: u32) -> bool {
    std::process::Command::new("kill").args([signal, &pid.to_string()]).status().is_ok_and(|s| s.success())
}

impl Toll {
    /// Notes that somebody is back so long after a blow.
    pub(super) fn note(&mut self, who: &str, took: Duration) {
        let took = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        self.recovery_ms.push(took);
        let slowest = self.slowest_ms.entry(who.to_owned()).or_default();
        *slowest = took.max(*slowest);
    }

    /// Both together.
    pub(super) fn with(mut self, other: Self) -> Self {
        for (who, times) in other.by_member {
            *self.by_member.entry(who).or_default() += times;
        }
        self.slowest_ms.extend(other.slowest_ms);
        self.recovery_ms.extend(other.recovery_ms);
        self.gone.extend(other.gone);
        self
    }
}

async fn back(http: &reqwest::Client, url: String, member: &str, toll: &Mutex<Toll>) {
    let began = Instant::now();
    while began.elapsed() < BACK_WITHIN {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if http.get(&url).send().await.is_ok_and(|r| r.status().is_success()) {
            toll.lock().note(member, began.elapsed());
            return;
        }
    }
    toll.lock().gone.push(member.to_owned());
}
