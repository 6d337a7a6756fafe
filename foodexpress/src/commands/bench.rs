//! `bench`: the figures of this machine, each held against its budget and against something run beside it.

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum as _};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::json;

use super::wait::told_to_stop;
use crate::bench::{self, Row, Scenario, Site, Size, Watch};
use crate::city::DataFolder;
use crate::output::{Output, table};

/// Measure what the city takes and costs on this machine, and hold it against the budgets.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: foodexpress bench --quick --only gateway\nRun it from a release build; its cities live in a folder inside --data, which is the disk that counts, and are removed."
)]
pub(crate) struct Bench {
    /// Shorter rounds and fewer of them.
    #[arg(long)]
    quick: bool,
    /// So few requests that only the shape of the result means anything.
    #[arg(long, hide = true, conflicts_with = "quick")]
    tiny: bool,
    /// Only this scenario; may be given several times.
    #[arg(long, value_enum)]
    only: Vec<Scenario>,
}

impl Bench {
    pub(super) async fn run(self, data: DataFolder, out: Output) -> Result<ExitCode> {
        super::serve::log_to_stderr("bench")?;
        let size = match (self.quick, self.tiny) {
            (_, true) => Size::Tiny,
            (true, false) => Size::Quick,
            (false, false) => Size::Full,
        };
        if cfg!(debug_assertions) {
            out.say("this is not a release build: the figures say little");
        }
        let without_engines =
            || Scenario::value_variants().iter().copied().filter(|s| *s != Scenario::Cluster).collect();
        let scenarios: Vec<Scenario> = if self.only.is_empty() { without_engines() } else { self.only };
        let folder =
            tempfile::Builder::new().prefix("bench-").tempdir_in(data.path()).context("no folder for the cities")?;
        bench::let_engines_pass(folder.path())?;
        let bars = Bars::new(scenarios.len(), out);
        let site = Site { folder: folder.path(), size, watch: &bars };
        let rows = tokio::select! {
            rows = bench::run(&site, &scenarios) => rows,
            // What runs for the bench ends with it.
            () = told_to_stop(false) => bail!("told to stop before the end"),
        };
        bars.end();
        out.say(table(
            &["figure", "value", "lowest to highest", "must", "goal", ""],
            &rows.iter().map(|r| cells(r, out)).collect::<Vec<_>>(),
        ));
        for row in &rows {
            out.say(format!(
                "{}: {}",
                row.name,
                row.against.iter().map(|a| format!("against {a}; ")).collect::<String>() + &row.note
            ));
        }
        out.result(&json!({ "rows": rows }));
        Ok(if rows.iter().any(|row| row.broken) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn cells(row: &Row, out: Output) -> Vec<String> {
    let figure = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| value.to_string());
    let verdict = match (row.broken, row.ok) {
        (true, _) => out.mark(false, "broken"),
        (false, Some(true)) => out.mark(true, "kept"),
        (false, Some(false)) => out.mark(false, "missed"),
        (false, None) => String::new(),
    };
    let range = match (row.min, row.max) {
        (Some(min), Some(max)) if row.rounds > 1 => format!("{min} to {max}"),
        _ => String::new(),
    };
    vec![
        row.name.to_owned(),
        format!("{} {}", figure(row.value), row.unit),
        range,
        figure(row.must),
        figure(row.goal),
        verdict,
    ]
}

/// Progress on a terminal; the rows as they come for programs.
struct Bars {
    scenarios: ProgressBar,
    stage: ProgressBar,
    out: Output,
}

impl Bars {
    fn new(scenarios: usize, out: Output) -> Self {
        let all = MultiProgress::new();
        let style = ProgressStyle::with_template("scenarios {bar:40} {pos}/{len}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let stage = all.add(ProgressBar::new_spinner());
        stage.enable_steady_tick(std::time::Duration::from_millis(120));
        Self { scenarios: all.add(ProgressBar::new(scenarios as u64).with_style(style)), stage, out }
    }

    fn end(&self) {
        self.stage.finish_and_clear();
        self.scenarios.finish_and_clear();
    }
}

impl Watch for Bars {
    fn stage(&self, what: &str) {
        self.stage.set_message(what.to_owned());
    }

    fn done(&self, rows: &[Row]) {
        self.scenarios.inc(1);
        if self.out.json {
            rows.iter().for_each(|row| self.out.row("", row));
        }
    }
}
