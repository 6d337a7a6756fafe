//! `chaos`: the kill harness.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::json;

use crate::chaos::{self, Violence, Watch};
use crate::city::{DataFolder, Plan, Ports};
use crate::output::Output;

/// Kill every member of a city again and again while customers order, then compare the books.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: foodexpress chaos --orders 2000 --kills 100 --seed 1 --data /tmp/broken\nThe data folder must be new: the harness starts a city of its own."
)]
pub(super) struct Chaos {
    /// Orders to place.
    #[arg(long, default_value_t = 200)]
    orders: usize,
    /// Processes to kill with SIGKILL, all members in turn, all at once every tenth time.
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
        let mut settings = self.settings;
        let demo = [("restaurants.demo_city", "true".to_owned()), ("auth.demo_city", "true".to_owned())];
        for (name, value) in chaos::hurried().into_iter().chain(demo) {
            if !settings.iter().any(|(known, _)| known == name) {
                settings.push((name.to_owned(), value));
            }
        }
        let plan = Plan { data, ports: Ports::Auto, settings, seed: self.seed };
        let violence = Violence {
            orders: self.orders,
            kills: self.kills,
            declines: self.declines,
            timeouts: self.timeouts,
            duplicates: self.duplicates,
            seed: self.seed,
        };
        let outcome = chaos::run(&plan, violence, &Bars::new(&violence)).await?;
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
