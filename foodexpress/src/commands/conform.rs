//! `conform`: the cases that every engine is held to, played on those at hand.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use conformance::{Addresses, Cell, Choice, FAMILIES, PAGE, Played, Sheet};
use engines::{ENGINES, Fleet, Setup};
use serde_json::{Value, json};

use super::wait::told_to_stop;
use crate::output::{Output, table};

/// Play the cases that every engine is held to, on those that run or can be started here.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: foodexpress conform --only 'store.*' --engine sqlite\nEngines that no FX_TEST_ variable names are started in --data and ended again."
)]
pub(super) struct Conform {
    /// Only cases of this name, in which * stands for anything; may be given several times.
    #[arg(long, value_name = "GLOB")]
    only: Vec<String>,
    /// Only on this engine; may be given several times.
    #[arg(long, value_name = "NAME")]
    engine: Vec<String>,
    /// Plant each case's fault, and demand that the case finds it.
    #[arg(long)]
    faults: bool,
    /// Keep the figures on the page of the documents; cells that are not played stay as they are there.
    #[arg(long, conflicts_with = "faults")]
    write: bool,
    /// The folder of that page.
    #[arg(long, default_value = "docs/generated")]
    folder: PathBuf,
    /// The folder that keeps slow builds of engines.
    #[arg(long, env = "FX_ENGINE_CACHE")]
    cache: Option<PathBuf>,
    /// Play a part of a case, as the environment says.
    #[arg(long, hide = true)]
    part: bool,
}

impl Conform {
    pub(super) async fn run(self, data: &Path, out: Output) -> Result<ExitCode> {
        if self.part {
            conformance::play_part().await;
            return Ok(ExitCode::SUCCESS);
        }
        let choice = Choice::new(&self.only, &self.engine).map_err(|why| anyhow!(why))?;
        let mut grounds = Grounds::prepare(&choice, data, self.cache.as_deref(), out).await?;
        // What a case finds is told once, in its cell.
        std::panic::set_hook(Box::new(|_| ()));
        let all = tokio::select! {
            all = conformance::play(&choice, &grounds.addresses, &grounds.absent, self.faults, again, |played| show(played, out)) => all,
            () = told_to_stop(false) => bail!("told to stop before the end"),
        };
        drop(std::panic::take_hook());
        if let Some(fleet) = grounds.fleet.take() {
            fleet.down().await;
        }
        print(&all, out);
        if self.write {
            self.keep(&all)?;
        }
        Ok(sum_up(&all, self.faults, out))
    }

    fn keep(&self, all: &[Played]) -> Result<()> {
        let page = self.folder.join(PAGE);
        let before = std::fs::read_to_string(&page).unwrap_or_default();
        let mut sheet = Sheet::read(&before);
        sheet.note(all);
        std::fs::create_dir_all(&self.folder).with_context(|| format!("cannot make {}", self.folder.display()))?;
        std::fs::write(&page, sheet.text()).with_context(|| format!("cannot write {}", page.display()))
    }
}

/// This program once more, for cases in which a process is killed.
fn again() -> Command {
    let mut command = Command::new(std::env::current_exe().expect("a running program has a path"));
    command.args(["conform", "--part"]);
    command
}

/// The engines of one run: where they are, and why some are not there.
struct Grounds {
    addresses: Arc<Addresses>,
    absent: Addresses,
    fleet: Option<Fleet>,
}

impl Grounds {
    /// Takes the engines that variables name, and starts the others that the choice needs.
    async fn prepare(choice: &Choice, data: &Path, cache: Option<&Path>, out: Output) -> Result<Self> {
        let (mut addresses, mut absent, mut wanted) = (Addresses::new(), Addresses::new(), Vec::new());
        let cache = cache.map_or_else(engines::default_cache, |cache| Ok(cache.to_owned()))?;
        let setup = Setup { folder: data.to_owned(), cache };
        for (name, variable) in choice.needs() {
            if let Some(address) = kernel::testing::scratch::told(variable) {
                addresses.insert(variable.to_owned(), address);
                continue;
            }
            let engine = engines::named(name)?;
            let lacks = setup.missing(&[engine]);
            match lacks.first() {
                Some(missing) => drop(absent.insert(name.to_owned(), missing.to_string())),
                None if !setup.is_built(engine) => {
                    let why = format!("{name} is not built yet; do it once: `foodexpress engines build --only {name}`");
                    absent.insert(name.to_owned(), why);
                }
                None => wanted.push(engine),
            }
        }
        // A pool in front of a server that somebody else runs would be a pool in front of nothing.
        let started = |name: &str| wanted.iter().any(|engine| engine.name == name);
        let stranded: Vec<_> =
            wanted.iter().filter(|e| e.after.contains(&"postgres") && !started("postgres")).copied().collect();
        for engine in &stranded {
            absent.insert(engine.name.to_owned(), format!("{} is started only together with postgres", engine.name));
        }
        wanted.retain(|engine| !stranded.iter().any(|other| other.name == engine.name));
        let fleet = start(&setup, &wanted, out).await?;
        if let Some(fleet) = &fleet {
            addresses.extend(fleet.variables()?.into_iter().map(|(name, value)| (name.to_owned(), value)));
        }
        Ok(Self { addresses: Arc::new(addresses), absent, fleet })
    }
}

async fn start(setup: &Setup, wanted: &[&'static engines::Engine], out: Output) -> Result<Option<Fleet>> {
    if wanted.is_empty() {
        return Ok(None);
    }
    // In the order of the table, as the fleet shows them.
    let ordered: Vec<_> = ENGINES.iter().filter(|engine| wanted.iter().any(|w| w.name == engine.name)).collect();
    let names: Vec<_> = ordered.iter().map(|engine| engine.name).collect();
    out.say(format!("starting {}", names.join(", ")));
    let fleet = Fleet::up(setup, &ordered, &move |text: &str| out.say(text)).await?;
    Ok(Some(fleet))
}

fn show(played: &Played, out: Output) {
    let (mark, text) = match &played.cell {
        Cell::Seen(figure) => (out.mark(true, "kept  "), figure),
        Cell::Broken(why) => (out.mark(false, "BROKEN"), why),
        Cell::Empty(why) => ("–     ".to_owned(), why),
    };
    out.row(format!("{mark} {} on {}: {text}", played.case, played.engine), &told(played));
}

fn told(played: &Played) -> Value {
    let (ok, figure, reason) = match &played.cell {
        Cell::Seen(figure) => (json!(true), json!(figure), Value::Null),
        Cell::Broken(why) => (json!(false), Value::Null, json!(why)),
        Cell::Empty(why) => (Value::Null, Value::Null, json!(why)),
    };
    json!({"case": played.case, "engine": played.engine, "ok": ok, "figure": figure, "reason": reason})
}

/// The table for people: a part for each family, and the reasons below.
fn print(all: &[Played], out: Output) {
    let mut reasons: Vec<&str> = Vec::new();
    for family in FAMILIES {
        let of_it = |played: &&Played| played.case.split('.').next() == Some(family.name);
        let engines: Vec<_> =
            family.engines().filter(|e| all.iter().filter(of_it).any(|p| p.engine == e.name)).collect();
        let mut rows: Vec<(&str, BTreeMap<&str, String>)> = Vec::new();
        for played in all.iter().filter(of_it) {
            let cell = match &played.cell {
                Cell::Seen(figure) => figure.clone(),
                Cell::Broken(why) => format!("{} ({})", out.mark(false, "BROKEN"), numbered(&mut reasons, why)),
                Cell::Empty(why) => format!("– ({})", numbered(&mut reasons, why)),
            };
            match rows.last_mut().filter(|(case, _)| *case == played.case) {
                Some((_, cells)) => drop(cells.insert(played.engine, cell)),
                None => rows.push((played.case, BTreeMap::from([(played.engine, cell)]))),
            }
        }
        if rows.is_empty() {
            continue;
        }
        let header: Vec<&str> = std::iter::once("case").chain(engines.iter().map(|engine| engine.name)).collect();
        let line = |(case, cells): &(&str, BTreeMap<&str, String>)| {
            let of = |engine: &&conformance::Engine| cells.get(engine.name).cloned().unwrap_or_default();
            std::iter::once((*case).to_owned()).chain(engines.iter().map(of)).collect()
        };
        out.say(table(&header, &rows.iter().map(line).collect::<Vec<_>>()));
    }
    reasons.iter().enumerate().for_each(|(at, why)| out.say(format!("({}) {why}", at + 1)));
}

fn numbered<'a>(reasons: &mut Vec<&'a str>, why: &'a str) -> usize {
    let at = reasons.iter().position(|known| *known == why);
    at.unwrap_or_else(|| {
        reasons.push(why);
        reasons.len() - 1
    }) + 1
}

fn sum_up(all: &[Played], faults: bool, out: Output) -> ExitCode {
    let mut cases: Vec<_> = all.iter().map(|played| played.case).collect();
    cases.dedup();
    let count = |what: fn(&Cell) -> bool| all.iter().filter(|played| what(&played.cell)).count();
    let broken: Vec<_> = all.iter().filter(|p| matches!(p.cell, Cell::Broken(_))).map(told).collect();
    let kept = count(|cell| matches!(cell, Cell::Seen(_)));
    let empty = count(|cell| matches!(cell, Cell::Empty(_)));
    out.result(&json!({
        "cases": cases.len(), "cells": all.len(), "faults": faults, "kept": kept, "empty": empty, "broken": broken,
    }));
    if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
