//! The measurements: each scenario starts what it measures, runs it against something beside it, and gives rows.
//!
//! The load comes from this very process: on a machine of two cores it cannot be kept apart from what is measured, so
//! figures that count are CPU time of the measured processes, and times run from when a request was due.

mod bus;
mod cluster;
mod cpu;
mod customers;
mod figures;
mod flush;
mod gateway;
mod intake;
mod pace;
mod permissions;
mod row;
mod saga;
mod start;
mod store;
mod town;
mod wire;

use std::path::Path;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

pub(crate) use cluster::let_engines_pass;
pub(crate) use row::Row;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Orders at a fixed rate with the whole saga behind them: times, and CPU per order.
    Orders,
    /// One order at a time: from the post to the message that says it is confirmed.
    Saga,
    /// From the commit of an event to the commit of its consumer.
    Bus,
    /// The gateway beside other proxies.
    Gateway,
    /// Cold start, memory, idling.
    Start,
    /// The guard of a route.
    Permissions,
    /// Units of work that commit together, and one by one.
    Store,
    /// The same orders on the cluster profile and on files; runs only where it is named.
    Cluster,
}

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// Enough to rely on.
    Full,
    /// Enough to see where it goes.
    Quick,
    /// Enough to see that it runs.
    Tiny,
}

impl Size {
    fn pick<T>(self, full: T, quick: T, tiny: T) -> T {
        match self {
            Self::Full => full,
            Self::Quick => quick,
            Self::Tiny => tiny,
        }
    }
}

/// Who wants to know how far it is.
pub(crate) trait Watch: Send + Sync {
    /// What is going on now.
    fn stage(&self, what: &str);
    /// A scenario is done.
    fn done(&self, rows: &[Row]);
}

/// Where and how much to measure.
pub(crate) struct Site<'a> {
    /// A folder on the disk that counts; everything in it may go afterwards.
    pub(crate) folder: &'a Path,
    /// How much.
    pub(crate) size: Size,
    /// Told of each stage.
    pub(crate) watch: &'a dyn Watch,
}

impl Site<'_> {
    fn folder(&self, name: &str) -> Result<std::path::PathBuf> {
        let path = self.folder.join(name);
        std::fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }
}

/// Runs the scenarios one after another. One that breaks has no figures, and says why.
pub(crate) async fn run(site: &Site<'_>, scenarios: &[Scenario]) -> Vec<Row> {
    let mut all = Vec::new();
    for scenario in scenarios {
        let measured = match scenario {
            Scenario::Orders => intake::measure(site).await,
            Scenario::Saga => saga::measure(site).await,
            Scenario::Bus => bus::measure(site).await,
            Scenario::Gateway => gateway::measure(site).await,
            Scenario::Start => start::measure(site).await,
            Scenario::Permissions => permissions::measure(site),
            Scenario::Store => store::measure(site).await,
            Scenario::Cluster => cluster::measure(site).await,
        };
        let rows = measured.unwrap_or_else(|error| vec![Row::broken(scenario.name(), format!("{error:#}"))]);
        site.watch.done(&rows);
        all.extend(rows);
    }
    all
}

impl Scenario {
    fn name(self) -> &'static str {
        match self {
            Self::Orders => "orders",
            Self::Saga => "saga",
            Self::Bus => "bus",
            Self::Gateway => "gateway",
            Self::Start => "start",
            Self::Permissions => "permissions",
            Self::Store => "store",
            Self::Cluster => "cluster",
        }
    }
}
