//! Building and fetching what no package of the system has.

pub(crate) mod go;
pub(crate) mod maven;

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

/// Runs a builder as ourselves in `folder`; what it printed.
pub(crate) async fn run(mut command: Command, folder: &Path) -> Result<String> {
    let name = command.as_std().get_program().display().to_string();
    let (out, wrong) = (folder.join("build.out"), folder.join("build.log"));
    command.current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    command.stdout(std::fs::File::create(&out)?).stderr(std::fs::File::create(&wrong)?);
    let ended = command.status().await.with_context(|| format!("cannot run {name}"))?;
    if !ended.success() {
        let said = [&wrong, &out].map(|log| crate::process::last_lines(log, 15)).join("\n");
        bail!("{name} failed ({ended}):\n{}", said.trim());
    }
    Ok(std::fs::read_to_string(&out)?)
}
