//! `up`: the city in this process, or one supervised process per member.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;

use super::CityArgs;
use super::cluster::ClusterArgs;
use super::wait::told_to_stop;
use crate::city::{City, CityMap, DataFolder, Plan, Supervised, memory_kib};
use crate::output::{Output, table};

/// Start the city and keep it running until Ctrl-C.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples: foodexpress up --processes --ports auto\n          foodexpress up --profile cluster --data city"
)]
pub(super) struct Up {
    /// One process per service, watched and started again when it dies.
    #[arg(long)]
    processes: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    city: CityArgs,
}

impl Up {
    pub(super) async fn run(self, data: DataFolder, out: Output) -> Result<()> {
        super::serve::log_events_to_stderr("city")?;
        let mut plan = self.city.plan(data.clone());
        plan.instances = self.cluster.instances();
        let cluster = self.cluster.prepare(&data, &mut plan.given, out).await?;
        let result = if self.processes || plan.instances > 1 || cluster.is_some() {
            supervised(&plan, out).await
        } else {
            in_one(&plan, out).await
        };
        if let Some(cluster) = cluster {
            cluster.stop().await?;
        }
        result
    }
}

async fn supervised(plan: &Plan, out: Output) -> Result<()> {
    let began = Instant::now();
    let city = Supervised::start(plan).await?;
    show(&city.map(), began.elapsed(), out)?;
    told_to_stop(false).await;
    out.say("stopping: running requests end first");
    city.stop().await;
    Ok(())
}

async fn in_one(plan: &Plan, out: Output) -> Result<()> {
    let began = Instant::now();
    let city = City::start(plan).await?;
    show(&city.map, began.elapsed(), out)?;
    let broken = tokio::select! {
        () = told_to_stop(false) => None,
        why = city.broken() => Some(why),
    };
    out.say("stopping: running requests end first");
    city.stop().await;
    match broken {
        Some(why) => bail!("the city cannot go on: {why}"),
        None => Ok(()),
    }
}

fn show(map: &CityMap, took: Duration, out: Output) -> Result<()> {
    let rows: Vec<Vec<String>> = map
        .members
        .iter()
        .map(|(name, m)| {
            let memory = memory_kib(m.pid).map_or_else(|| "?".into(), |kib| format!("{:.1} MB", mb(kib)));
            vec![name.clone(), m.address.to_string(), m.pid.to_string(), memory, format!("{} ms", m.ready_ms)]
        })
        .collect();
    out.say(table(&["service", "address", "pid", "memory", "ready after"], &rows));
    let pids: std::collections::BTreeSet<u32> = map.members.values().map(|m| m.pid).collect();
    let memory: u64 = pids.into_iter().filter_map(memory_kib).sum();
    let ready_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let (gateway, gateways) = (map.gateway()?, map.gateways());
    out.say(format!(
        "the city is open at {} after {ready_ms} ms, {:.1} MB in all; Ctrl-C stops it",
        gateways.join(" and "),
        mb(memory)
    ));
    if out.json {
        out.result(&json!({"gateway": gateway, "gateways": gateways, "ready_ms": ready_ms, "memory_kib": memory, "processes": map.processes, "members": map.members}));
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "memory for people to read")]
fn mb(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
