//! `docs`: everything under docs/generated, made from the declarations, and the dashboards, made from their tables.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::json;

use crate::output::Output;
use crate::{services, settings};

/// Make the generated documents anew, or check that they are.
#[derive(Debug, Args)]
#[command(after_help = "Example: foodexpress docs --check")]
pub(super) struct Docs {
    /// The folder they go into.
    #[arg(long, default_value = "docs/generated")]
    folder: PathBuf,
    /// The folder that dashboards go into.
    #[arg(long, default_value = "deploy/grafana")]
    dashboards: PathBuf,
    /// Change nothing; fail if a file is stale.
    #[arg(long)]
    check: bool,
}

impl Docs {
    pub(super) fn run(self, out: Output) -> Result<ExitCode> {
        let (manifests, tables) = (services::manifests(), settings::others());
        let city = kernel::docs::City {
            title: crate::city::TITLE,
            manifests: &manifests,
            tables: &tables,
            permissions: contracts::permissions::ALL,
            roles: contracts::permissions::ROLES,
        };
        let mut stale = Vec::new();
        let documents = kernel::docs::files(&city).into_iter().map(|(name, text)| (&self.folder, name, text));
        let dashboards = crate::dashboards::files().into_iter().map(|(name, text)| (&self.dashboards, name, text));
        for (folder, name, text) in documents.chain(dashboards) {
            let path = folder.join(&name);
            if fs::read_to_string(&path).is_ok_and(|old| old == text) {
                continue;
            }
            stale.push(name);
            if !self.check {
                write(&path, &text)?;
            }
        }
        #[cfg(feature = "conform")]
        if self.check {
            let misfits =
                conformance::misfits(&fs::read_to_string(self.folder.join(conformance::PAGE)).unwrap_or_default());
            misfits.iter().for_each(|what| out.say(format!("{}: {what}", conformance::PAGE)));
            if !misfits.is_empty() {
                out.say("`foodexpress conform --write` plays the cases and writes it");
                stale.push(conformance::PAGE.to_owned());
            }
        }
        let verb = if self.check { "stale" } else { "written" };
        stale.iter().for_each(|name| out.say(format!("{verb}: {name}")));
        out.result(&json!({verb: stale}));
        Ok(if self.check && !stale.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    let folder = path.parent().context("a generated file lies in a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
