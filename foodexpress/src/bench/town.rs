//! A city in processes of its own, so that what the load spends is not counted as the city's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::cpu::Used;
use crate::city::{CARD_NETWORK, CityMap, DataFolder, GATEWAY, memory_kib};

/// Longer is not starting.
const PATIENCE: Duration = Duration::from_secs(60);

/// One process for the whole city, one each, or two of each on engines of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    OneProcess,
    ProcessEach,
    Cluster,
}

/// A running city.
pub(super) struct Town {
    pub(super) data: DataFolder,
    pub(super) map: CityMap,
    /// From starting the program to its word that everything is open.
    pub(super) took: Duration,
    process: Child,
    _said: Lines<BufReader<ChildStdout>>,
}

/// Settings under which customers are not held back, and kitchens and couriers take no time.
pub(super) fn unhurt() -> Vec<(&'static str, u64)> {
    vec![
        ("gateway.per_address", 4_000_000),
        ("gateway.per_caller", 4_000_000),
        ("kitchen.auto_ready_after_ms", 1),
        ("delivery.auto_drive_after_ms", 1),
        ("delivery.demo_couriers", 40),
    ]
}

impl Town {
    /// Starts the city in this folder and waits until it says that it is open.
    pub(super) async fn start(folder: &Path, mode: Mode, settings: &[(&str, u64)]) -> Result<Self> {
        let data = DataFolder::open(folder)?;
        let log = data.log("city");
        let errors = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(std::env::current_exe().context("this program's own path")?);
        command.args(["up", "--json", "--ports", "auto", "--data"]).arg(folder);
        match mode {
            Mode::OneProcess => {}
            Mode::ProcessEach => drop(command.arg("--processes")),
            Mode::Cluster => drop(command.args(["--profile", "cluster"])),
        }
        for (name, value) in settings {
            command.arg("--set").arg(format!("{name}={value}"));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::from(errors)).kill_on_drop(true);
        let began = Instant::now();
        let mut process = command.spawn().context("cannot start a city")?;
        let mut said = BufReader::new(process.stdout.take().context("its output is piped")?).lines();
        let opened = tokio::time::timeout(PATIENCE, said.next_line()).await.context("the city does not open")??;
        let took = began.elapsed();
        if opened.is_none() {
            bail!("the city did not open: {}", last_lines(&log));
        }
        let map = data.running().context("an open city has a map")?;
        Ok(Self { data, map, took, process, _said: said })
    }

    /// Where people enter.
    pub(super) fn door(&self) -> Result<std::net::SocketAddr> {
        self.map.members.get(GATEWAY).map(|m| m.address).context("a city has a gateway")
    }

    fn pids(&self) -> BTreeSet<u32> {
        self.map.members.values().map(|m| m.pid).chain([self.map.pid]).collect()
    }

    /// CPU time of all its processes so far.
    pub(super) fn cpu(&self) -> Used {
        Used::by(self.pids())
    }

    /// CPU time so far of the engines that it runs on, by engine, with the processes they started.
    pub(super) fn engines_cpu(&self) -> Result<BTreeMap<String, Used>> {
        let mut by_engine: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for card in engines::Card::read(self.data.path())?.into_values() {
            by_engine.entry(card.engine).or_default().push(card.pid);
        }
        Ok(by_engine.into_iter().map(|(engine, tops)| (engine, Used::by_all_below(&tops))).collect())
    }

    /// CPU time of the card network alone, which stands for somebody else's computers.
    pub(super) fn card_network_cpu(&self) -> Used {
        Used::by(self.map.members.get(CARD_NETWORK).map(|m| m.pid))
    }

    /// Memory of all its processes in MB, shared pages counted by share.
    pub(super) fn memory_mb(&self) -> f64 {
        let kib: u64 = self.pids().into_iter().filter_map(memory_kib).sum();
        super::figures::float(usize::try_from(kib).unwrap_or(usize::MAX)) / 1024.0
    }

    /// Asks it to close, and waits until it has.
    pub(super) async fn stop(mut self) -> Result<()> {
        terminate(&mut self.process).await
    }
}

/// SIGTERM, patience, SIGKILL.
pub(super) async fn terminate(process: &mut Child) -> Result<()> {
    let Some(pid) = process.id() else { return Ok(()) };
    Command::new("kill").args(["-TERM", &pid.to_string()]).status().await?;
    if tokio::time::timeout(PATIENCE, process.wait()).await.is_err() {
        process.kill().await?;
    }
    Ok(())
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" | ")
}
