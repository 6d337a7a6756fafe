//! `audit money`: three books compared.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use serde_json::json;

use crate::audit;
use crate::city::DataFolder;
use crate::client::Insider;
use crate::output::Output;

/// What to audit.
#[derive(Debug, Subcommand)]
pub(super) enum Audits {
    /// Compare orders, the payments ledger and the card network's books.
    #[command(after_help = "Example: foodexpress audit money --data city")]
    Money,
}

pub(super) async fn run(_: Audits, data: &DataFolder, out: Output) -> Result<ExitCode> {
    let map = data.must_run()?;
    let found = audit::audit(&Insider::of(data, &map).await?, &BTreeSet::new()).await?;
    found.findings.iter().for_each(|finding| out.say(format!("{} {finding}", out.mark(false, "✗"))));
    if found.is_clean() {
        out.say(format!("{} three books agree over {} orders", out.mark(true, "✓"), found.orders));
    }
    out.result(&json!(found));
    Ok(if found.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
