//! The kill harness: orders under SIGKILL, declines, timeouts after the charge and doubled messages; then the audit.

mod killer;
mod links;
mod load;
mod plan;
mod sabotage;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

pub(crate) use links::Links;
use sabotage::Refill;

use crate::audit::{Audit, audit};
use crate::city::{DataFolder, Plan, Supervised};
use crate::client::Insider;

/// How long the city may take to end every order after the last kill.
const SETTLE: Duration = Duration::from_secs(180);

/// What to do to the city.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Violence {
    /// Orders to place.
    pub orders: usize,
    /// Kills to carry out.
    pub kills: usize,
    /// Percent of charges declined.
    pub declines: u32,
    /// Percent of charges that happen and are never answered.
    pub timeouts: u32,
    /// Percent of provider messages sent twice.
    pub duplicates: u32,
    /// What all of it follows from.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    /// What it all followed from.
    pub seed: u64,
    /// Processes killed and frozen.
    pub kills: usize,
    /// Orders that the city said it took.
    pub orders_acknowledged: usize,
    /// Kills and freezes by member, and what was done to each engine.
    pub by_service: BTreeMap<String, usize>,
    /// From a kill to ready again, for all but one in a hundred, in milliseconds.
    pub recovery_ms_p99: u64,
    /// The longest of them by member.
    pub recovery_ms_max: BTreeMap<String, u64>,
    /// Faults that the card network injected, by kind.
    pub faults: serde_json::Value,
    /// Posts that got no good answer, however often they were repeated.
    pub refused: usize,
    /// From the last kill to the end of the last order, in milliseconds.
    pub settled_ms: u64,
    /// The verdict.
    pub audit: Audit,
}

/// Settings under which an order lives seconds instead of an hour, so that every deadline is met by some.
pub(crate) fn hurried() -> Vec<(&'static str, String)> {
    let figures: [(&'static str, u64); 14] = [
        ("gateway.per_address", 100_000),
        ("gateway.per_caller", 100_000),
        ("orders.pay_within_s", 40),
        ("orders.accept_within_s", 40),
        ("orders.capture_within_s", 60),
        ("orders.deliver_within_s", 120),
        ("orders.sweep_after_s", 5),
        ("payments.retry_window_s", 5),
        ("payments.provider_timeout_ms", 1000),
        ("payments.provider_rest_s", 2),
        ("kitchen.accept_within_ms", 15_000),
        ("kitchen.auto_ready_after_ms", 300),
        ("delivery.auto_drive_after_ms", 200),
        ("delivery.demo_couriers", 40),
    ];
    figures.into_iter().map(|(name, value)| (name, value.to_string())).collect()
}

/// How far the harness is, for a progress bar.
pub(crate) trait Watch: Send + Sync {
    /// So many orders more were answered.
    fn placed(&self, more: usize);
    /// So many members more were killed.
    fn killed(&self, more: usize);
    /// What is going on.
    fn stage(&self, what: &str);
}

/// What a cluster has beside its members.
pub(crate) struct Target<'a> {
    /// The ways between members and to the engines.
    pub links: Links,
    /// Makes the users of an engine again that lost them with its data.
    pub refill: &'a Refill<'a>,
}

impl Plan {
    /// Puts links that can be cut between the members of this plan, and between them and what its settings lead to.
    pub(crate) async fn linked(&mut self) -> Result<Links> {
        let mut seats = self.ports.seats(self.instances)?;
        let links = Links::before(&mut self.given, &mut seats).await?;
        self.seats = Some(seats);
        Ok(links)
    }
}

/// Runs the whole of it on a new city in `plan.data`; with a target also against the engines that run in that folder.
pub(crate) async fn run(
    plan: &Plan,
    violence: Violence,
    target: Option<&Target<'_>>,
    watch: &dyn Watch,
) -> Result<Outcome> {
    watch.stage("starting a city of processes");
    let city = Supervised::start(plan).await?;
    let result = break_and_judge(&plan.data, &city, violence, target, watch).await;
    watch.stage("stopping");
    city.stop().await;
    result
}

async fn break_and_judge(
    data: &DataFolder,
    city: &Supervised,
    violence: Violence,
    target: Option<&Target<'_>>,
    watch: &dyn Watch,
) -> Result<Outcome> {
    let map = city.map();
    let insider = Insider::of(data, &map).await?;
    let load = Arc::new(load::Load::prepare(&map, violence.seed).await?);
    insider
        .set_faults(&json!({
            "timeout_after": violence.timeouts, "decline": violence.declines,
            "webhook_duplicate": violence.duplicates, "seed": violence.seed,
        }))
        .await?;
    let site = target.map(|target| sabotage::Site::new(data.path(), city, target)).transpose()?;
    let stop = CancellationToken::new();
    let kitchens = load::work_kitchens(&map, violence.seed, stop.clone());
    let breaking = async {
        let toll = strike(city, site.as_ref(), &load, violence, watch).await?;
        watch.stage("waiting for every order to end");
        let began = Instant::now();
        let audit = settle(&insider, &load).await?;
        stop.cancel();
        Ok((toll, audit, began.elapsed()))
    };
    let tending = async {
        match &site {
            Some(site) => site.tend().await,
            None => std::future::pending().await,
        }
    };
    let (toll, audit, settled) = tokio::select! {
        ended = async { tokio::try_join!(kitchens, breaking) } => ended?.1,
        Err(error) = tending => return Err(error),
    };
    let mut outcome = outcome(violence.seed, toll, &load, audit);
    outcome.faults = insider.network("/v1/faults/counts").await?;
    outcome.settled_ms = u64::try_from(settled.as_millis()).unwrap_or(u64::MAX);
    outcome.by_service.extend(site.map(|site| site.died()).unwrap_or_default());
    Ok(outcome)
}

/// Orders and blows side by side, until all of both are through.
async fn strike(
    city: &Supervised,
    site: Option<&sabotage::Site<'_, '_>>,
    load: &Arc<load::Load>,
    violence: Violence,
    watch: &dyn Watch,
) -> Result<killer::Toll> {
    let members: Vec<String> = city.map().members.keys().cloned().collect();
    let (blows, sabotage) = match site {
        None => (plan::kills(violence.seed, violence.kills, &members), Vec::new()),
        Some(_) => plan::raid(violence.seed, violence.kills, &members),
    };
    let span: Duration = blows
        .iter()
        .map(|blow| blow.after)
        .sum::<Duration>()
        .max(Duration::from_millis(5) * u32::try_from(violence.orders).unwrap_or(1000));
    watch.stage("ordering and killing");
    let on_engines = async {
        match site {
            Some(site) => site.carry_out(&sabotage, |n| watch.killed(n)).await,
            None => Ok(killer::Toll::default()),
        }
    };
    let ((), on_members, on_engines) = tokio::try_join!(
        load.run(violence.orders, span, |n| watch.placed(n)),
        killer::carry_out(&blows, city, |n| watch.killed(n)),
        on_engines,
    )?;
    Ok(on_members.with(on_engines))
}

fn outcome(seed: u64, mut toll: killer::Toll, load: &load::Load, mut audit: Audit) -> Outcome {
    for member in &toll.gone {
        audit.findings.push(format!("{member} did not come back after a kill"));
    }
    toll.recovery_ms.sort_unstable();
    let refused = load.refused.lock().clone();
    Outcome {
        seed,
        kills: toll.by_member.values().sum(),
        orders_acknowledged: load.acknowledged.lock().len(),
        by_service: toll.by_member,
        recovery_ms_max: toll.slowest_ms,
        recovery_ms_p99: percentile(&toll.recovery_ms, 99),
        faults: serde_json::Value::Null,
        refused: refused.len(),
        settled_ms: 0,
        audit: with_refusals(audit, &refused),
    }
}

/// Posts that were refused are no fault of the books, but whoever reads the verdict wants to know why.
fn with_refusals(audit: Audit, refused: &[String]) -> Audit {
    for why in refused.iter().take(5) {
        tracing::warn!(why, "an order was refused");
    }
    audit
}

/// Audits again and again until nothing is open, or patience ends; the last verdict counts.
async fn settle(insider: &Insider, load: &load::Load) -> Result<Audit> {
    let began = Instant::now();
    loop {
        let acknowledged = load.acknowledged.lock().clone();
        let verdict = audit(insider, &acknowledged).await;
        match verdict {
            Ok(audit) if audit.is_clean() || began.elapsed() > SETTLE => return Ok(audit),
            Err(error) if began.elapsed() > SETTLE => return Err(error),
            Ok(_) | Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

/// The value that `percent` of the sorted values do not exceed.
pub(crate) fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(place).copied().unwrap_or(0)
}
