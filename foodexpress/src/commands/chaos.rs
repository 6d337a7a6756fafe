//! `chaos`: the kill harness.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use futures::FutureExt as _;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::json;

use super::cluster::{self, ClusterArgs};
use crate::chaos::{self, Violence, Watch};
use crate::city::{DataFolder, Given, Plan, Ports};
use crate::output::Output;

/// Kill every member of a city again and again while customers order, then compare the books.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples: foodexpress chaos --orders 2000 --kills 100 --seed 1 --data /tmp/broken\n          foodexpress chaos --profile cluster --orders 1000 --kills 60 --data /tmp/broken\nThe data folder must be new: the harness starts a city of its own. On a cluster a third of the blows hits the engines."
)]
pub(super) struct Chaos {
    /// Orders to place.
    #[arg(long, default_value_t = 200)]
    orders: usize,
    /// Processes to kill with SIGKILL, all members in turn, all at once every tenth time; on a cluster one by one, every third frozen instead.
    #[arg(long, default_value_t = 20)]
    kills: usize,
    /// Percent of charges that the card network declines.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=100))]
    declines: u32,
    /// Percent of charges that it makes and never answers.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=100))]
    timeouts: u32,
    /// Percent of its messages that it sends twice.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=100))]
    duplicates: u32,
    /// What kills, faults and people follow from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// A setting above those the harness sets; may be given several times.
    #[arg(long = "set", value_name = "SERVICE.SETTING=VALUE", value_parser = super::setting)]
    settings: Vec<(String, String)>,
}

impl Chaos {
    pub(super) async fn run(self, data: DataFolder, out: Output) -> Result<ExitCode> {
        super::serve::log_to_stderr("chaos")?;
        if !data.is_new() {
            bail!("{} already holds a city; give --data a new folder", data.path().display());
        }
        let demo = super::DEMO.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let flags = super::unless_said(&self.settings, chaos::hurried().into_iter().chain(demo));
        let given = Given { city: Vec::new(), flags };
        let instances = self.cluster.instances();
        let mut plan = Plan { data: data.clone(), ports: Ports::Auto, instances, seats: None, given, seed: self.seed };
        let cluster = self.cluster.prepare(&data, &mut plan.given, out).await?;
        let given = plan.given.clone();
        let violence = Violence {
            orders: self.orders,
            kills: self.kills,
            declines: self.declines,
            timeouts: self.timeouts,
            duplicates: self.duplicates,
            seed: self.seed,
        };
        let refill = || cluster::redis_users(&data, &given, out).boxed_local();
        let target = match &cluster {
            Some(_) => Some(chaos::Target { links: plan.linked().await?, refill: &refill }),
            None => None,
        };
        let outcome = chaos::run(&plan, violence, target.as_ref(), &Bars::new(&violence)).await;
        if let Some(cluster) = cluster {
            cluster.stop().await?;
        }
        let outcome = outcome?;
        let clean = outcome.audit.is_clean();
        outcome.audit.findings.iter().take(20).for_each(|f| out.say(format!("{} {f}", out.mark(false, "✗"))));
        let word = out
            .mark(clean, if clean { "nothing lost, nothing doubled, nothing open" } else { "the books do not agree" });
        out.say(format!("{word}: {} kills, {} orders acknowledged", outcome.kills, outcome.orders_acknowledged));
        out.result(&json!(outcome));
        Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Progress on a terminal; nothing elsewhere.
struct Bars {
    orders: ProgressBar,
    kills: ProgressBar,
    stage: ProgressBar,
}

impl Bars {
    fn new(violence: &Violence) -> Self {
        let all = MultiProgress::new();
        let bar = |name: &'static str, length: usize| {
            let style = ProgressStyle::with_template("{prefix:>8} {bar:40} {pos}/{len}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            all.add(ProgressBar::new(length as u64).with_style(style).with_prefix(name))
        };
        Self {
            orders: bar("orders", violence.orders),
            kills: bar("kills", violence.kills),
            stage: all.add(ProgressBar::new_spinner()),
        }
    }
}

impl Watch for Bars {
    fn placed(&self, more: usize) {
        self.orders.inc(more as u64);
    }
    fn killed(&self, more: usize) {
        self.kills.inc(more as u64);
    }
    fn stage(&self, what: &str) {
        self.stage.set_message(what.to_owned());
    }
}
