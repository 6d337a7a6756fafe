//! `serve`: one member of a running city in this process; `card-network`: the witness.

use anyhow::Result;
use clap::Args;

use super::wait::told_to_stop;
use crate::city::{self, DataFolder};

/// Run one service of a running city in this process.
#[derive(Debug, Args)]
#[command(after_help = "Example: foodexpress serve orders --data city")]
pub struct Serve {
    /// The service, or `gateway`.
    name: String,
    /// A setting above file and environment; may be given several times.
    #[arg(long = "set", value_name = "SERVICE.SETTING=VALUE", value_parser = super::setting)]
    settings: Vec<(String, String)>,
    /// Stop when standard input ends, because the process that started this one is gone.
    #[arg(long)]
    with_parent: bool,
}

impl Serve {
    pub(super) async fn run(self, data: &DataFolder) -> Result<()> {
        log_to_stderr(&self.name);
        city::serve(data, &self.name, &self.settings, told_to_stop(self.with_parent)).await
    }
}

/// Run the payment provider that stands in for a real one.
#[derive(Args)]
pub struct CardNetwork {
    #[command(flatten)]
    args: card_network::cli::Args,
}

impl std::fmt::Debug for CardNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CardNetwork")
    }
}

impl CardNetwork {
    pub(super) async fn run(self) -> Result<()> {
        tokio::select! {
            ended = card_network::cli::command(self.args) => Ok(ended?),
            () = told_to_stop(true) => Ok(()),
        }
    }
}

/// Log lines of this process go to standard error.
pub(super) fn log_to_stderr(_member: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    // A second call, from a command that starts another, changes nothing.
    drop(tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init());
}
