//! `metrics`: what a Prometheus needs to know of a city.

use anyhow::Result;
use clap::Subcommand;

use crate::city::{DataFolder, targets};
use crate::output::Output;

/// What a Prometheus needs to know of a city.
#[derive(Debug, Subcommand)]
pub(super) enum Metrics {
    /// Print the members of a running city in the form of Prometheus' file discovery; DATA/targets.json holds the same.
    #[command(after_help = "Example: foodexpress metrics targets --data city > targets.json")]
    Targets,
}

pub(super) fn run(what: &Metrics, data: &DataFolder, out: Output) -> Result<()> {
    let Metrics::Targets = what;
    out.result(&targets(&data.must_run()?));
    Ok(())
}
