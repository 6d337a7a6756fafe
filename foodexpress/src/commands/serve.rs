//! `serve`: one member of a running city in this process; `card-network`: the witness.

use anyhow::{Context as _, Result};
use clap::Args;
use kernel::telemetry::log::{self, InstallError, Options};

use super::wait::told_to_stop;
use crate::city::{self, CARD_NETWORK, DataFolder, GATEWAY};
use crate::services;

/// Run one member of a running city in this process, or one more instance of a service.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: foodexpress serve orders --port 8141 --data city\nA third instance of orders: it enters the list by which the others find it, and leaves it when told to stop."
)]
pub(super) struct Serve {
    /// The member as `ls` names it, such as `orders-2`; with --port the service, or `gateway`.
    name: String,
    /// Listen here, as an instance beside those that the city began with; 0 takes any free port.
    #[arg(long)]
    port: Option<u16>,
    /// A setting above file and environment; may be given several times.
    #[arg(long = "set", value_name = "SERVICE.SETTING=VALUE", value_parser = super::setting)]
    settings: Vec<(String, String)>,
    /// Stop when standard input ends, because the process that started this one is gone.
    #[arg(long)]
    with_parent: bool,
}

impl Serve {
    pub(super) async fn run(self, data: &DataFolder) -> Result<()> {
        log_events_to_stderr(&self.name)?;
        city::serve(data, &self.name, self.port, &self.settings, told_to_stop(self.with_parent)).await
    }
}

/// Run the payment provider that stands in for a real one.
#[derive(Args)]
pub(super) struct CardNetwork {
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
        log_events_to_stderr(CARD_NETWORK)?;
        tokio::select! {
            ended = card_network::cli::command(self.args) => Ok(ended?),
            () = told_to_stop(true) => Ok(()),
        }
    }
}

/// Log lines of this process go to standard error: JSON for programs, a short form on a terminal. Beside a command that
/// prints its own steps only trouble is told.
pub(super) fn log_to_stderr(member: &str) -> Result<()> {
    log_from(member, || "warn".to_owned())
}

/// The same for a city that runs for its own sake: it tells what happens, other people's crates only of trouble.
pub(super) fn log_events_to_stderr(member: &str) -> Result<()> {
    log_from(member, || {
        let members = services::manifests().into_iter().map(|manifest| manifest.name);
        let ours = ["kernel", GATEWAY, CARD_NETWORK, "foodexpress"].into_iter().chain(members);
        ours.fold("warn".to_owned(), |level, name| format!("{level},{}=info", name.replace('-', "_")))
    })
}

#[expect(clippy::disallowed_methods, reason = "the level of the log is wanted before there are settings")]
fn log_from(member: &str, usual_level: impl FnOnce() -> String) -> Result<()> {
    let mut options = Options::new(member);
    options.level = std::env::var("FOODEXPRESS_LOG").unwrap_or_else(|_| usual_level());
    options.fields = CONTEXT.to_vec();
    match log::install(options) {
        // A command that starts another has made the process log already.
        Ok(()) | Err(InstallError::Twice) => Ok(()),
        Err(error) => Err(error).context("FOODEXPRESS_LOG does not read; try FOODEXPRESS_LOG=info"),
    }
}

/// What an order, a payment and the members say beyond the kernel's own words.
const CONTEXT: &[&str] = &[
    "order_id",
    "payment_id",
    "amount",
    "currency",
    "masked_card",
    "accounts",
    "couriers",
    "dead",
    "dropped",
    "ended",
    "generation",
    "instance",
    "items",
    "keys",
    "member",
    "restaurants",
    "session_id",
    "user_id",
];
