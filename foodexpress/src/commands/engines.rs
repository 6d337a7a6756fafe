//! `engines`: real engines for development and tests, without containers.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use engines::{Action, ENGINES, Engine, Fleet, Group, Remote, Setup, State, Status};
use serde_json::json;
use tokio::process::Command;

use super::wait::told_to_stop;
use crate::output::{Output, table};

/// What to do with engines.
#[derive(Debug, Subcommand)]
pub(super) enum Engines {
    /// Start engines on free ports, with everything of theirs in the data folder, until Ctrl-C.
    Up(Up),
    /// Build or fetch what has to be, and start nothing.
    Build(Chosen),
    /// End the engines of the data folder and throw their data away.
    Down,
    /// Say what each engine is doing.
    Status,
    /// Kill a node, or all of an engine, by SIGKILL.
    Kill(Node),
    /// End it properly if it runs, and start it where it was.
    Restart(Node),
    /// Stop its processes by SIGSTOP: connections stay open, nothing answers.
    Freeze(Node),
    /// Let a frozen one go on.
    Thaw(Node),
    /// Kill it, throw its data away and start it empty.
    Wipe(Node),
    /// Make the standby the primary, and point PgBouncer at it; kill the old primary before.
    Promote(Node),
    /// Make the former primary follow the present one.
    Rejoin(Node),
    /// Stop the replay on the standby, so that what it answers grows old.
    Pause(Node),
    /// Let the replay go on.
    Resume(Node),
    /// Let the primary acknowledge only what its standby has on disk as well.
    Synchronize(Node),
}

/// The one it is done to.
#[derive(Debug, Args)]
pub(super) struct Node {
    /// The name of an engine or of one of its nodes, as `status` shows it.
    name: String,
}

/// Which engines.
#[derive(Debug, Args)]
pub(super) struct Chosen {
    /// These, separated by commas; unless named: those that are there at once.
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["fast", "all"])]
    only: Vec<String>,
    /// Those that are there at once: the default.
    #[arg(long, conflicts_with = "all")]
    fast: bool,
    /// All; those that have to be built are, once: some twenty minutes.
    #[arg(long)]
    all: bool,
    /// Leave out what this machine cannot run, saying what installs it, instead of failing.
    #[arg(long)]
    skip_missing: bool,
    /// The folder that keeps slow builds from run to run.
    #[arg(long, env = "FX_ENGINE_CACHE")]
    cache: Option<PathBuf>,
}

/// Which engines to start and how.
#[derive(Debug, Args)]
#[command(after_help = "Example: foodexpress engines up --data infra --only postgres,pgbouncer --detach")]
pub(super) struct Up {
    #[command(flatten)]
    chosen: Chosen,
    /// Return once all answer; a process stays behind that `down` ends.
    #[arg(long)]
    detach: bool,
}

pub(super) async fn run(what: Engines, data: &Path, out: Output) -> Result<ExitCode> {
    let (action, node) = match what {
        Engines::Up(up) => return up.run(data, out).await.map(|()| ExitCode::SUCCESS),
        Engines::Build(chosen) => return chosen.build(data, out).await.map(|()| ExitCode::SUCCESS),
        Engines::Down => return down(data, out).await.map(|()| ExitCode::SUCCESS),
        Engines::Status => return status(data, out).await,
        Engines::Kill(node) => (Action::Kill, node),
        Engines::Restart(node) => (Action::Restart, node),
        Engines::Freeze(node) => (Action::Freeze, node),
        Engines::Thaw(node) => (Action::Thaw, node),
        Engines::Wipe(node) => (Action::Wipe, node),
        Engines::Promote(node) => (Action::Promote, node),
        Engines::Rejoin(node) => (Action::Rejoin, node),
        Engines::Pause(node) => (Action::Pause, node),
        Engines::Resume(node) => (Action::Resume, node),
        Engines::Synchronize(node) => (Action::Synchronize, node),
    };
    let nodes = Remote::at(data)?.act(action, &node.name).await?;
    show(&nodes, data, out);
    Ok(ExitCode::SUCCESS)
}

impl Up {
    async fn run(self, data: &Path, out: Output) -> Result<()> {
        let setup = self.chosen.setup(data)?;
        let chosen = self.chosen.built(&setup, out).await?;
        if self.detach {
            detach(&setup, &chosen).await?;
            show(&Remote::at(data)?.status().await?, data, out);
            return Ok(());
        }
        let fleet = Fleet::up(&setup, &chosen, &move |text: &str| out.say(text)).await?;
        show(&fleet.status(), data, out);
        out.say("Ctrl-C ends them and throws their data away");
        engines::serve(fleet, told_to_stop(false)).await
    }
}

impl Chosen {
    fn setup(&self, data: &Path) -> Result<Setup> {
        let cache = self.cache.clone().map_or_else(engines::default_cache, Ok)?;
        Ok(Setup { folder: data.to_owned(), cache })
    }

    async fn build(&self, data: &Path, out: Output) -> Result<()> {
        let setup = self.setup(data)?;
        let chosen = self.built(&setup, out).await?;
        let names: Vec<&str> = chosen.iter().map(|e| e.name).collect();
        out.say(format!("ready to start: {}", names.join(", ")));
        out.result(&json!({ "ready": names, "cache": setup.cache }));
        Ok(())
    }

    fn of(&self, setup: &Setup) -> Result<Vec<&'static Engine>> {
        let names = if self.only.is_empty() {
            let wanted = ENGINES.iter().filter(|e| self.all || e.group == Group::Fast);
            wanted.map(|e| e.name.to_owned()).collect()
        } else {
            self.only.clone()
        };
        let chosen = engines::chosen(&names)?;
        if !self.skip_missing {
            let missing = setup.missing(&chosen);
            if !missing.is_empty() {
                bail!(missing.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
            }
            return Ok(chosen);
        }
        let missing = setup.missing(&chosen);
        missing.iter().for_each(left_out);
        let lacks = |name: &str| missing.iter().any(|m| m.engine == name);
        let here = chosen.iter().filter(|e| !(lacks(e.name) || lacks("postgres") && e.after.contains(&"postgres")));
        Ok(here.copied().collect())
    }

    /// Builds and fetches what has to be.
    async fn built(&self, setup: &Setup, out: Output) -> Result<Vec<&'static Engine>> {
        let mut built = Vec::new();
        for engine in self.of(setup)? {
            match setup.build(&[engine], &move |text: &str| out.say(text)).await {
                Ok(()) => built.push(engine),
                Err(error) if self.skip_missing => left_out(&format!("{}: {error:#}", engine.name)),
                Err(error) => return Err(error),
            }
        }
        Ok(built)
    }
}

/// Not a result: whoever reads those by program gets only them.
fn left_out(reason: &impl std::fmt::Display) {
    drop(writeln!(std::io::stderr(), "left out: {reason}"));
}

/// Starts a process that holds the engines, and returns once they answer. It hears nothing of this terminal and holds none
/// of the caller's files: a lock or a pipe of the caller's would else stay open as long as the engines run.
async fn detach(setup: &Setup, chosen: &[&'static Engine]) -> Result<()> {
    const ALONE: &str = r#"for fd in /proc/self/fd/*; do fd=${fd##*/}; [ "$fd" -le 2 ] || eval "exec $fd>&-"; done
        exec setsid "$@""#;
    Remote::must_be_free(&setup.folder)?;
    let log = Remote::log(&setup.folder);
    std::fs::create_dir_all(log.parent().context("a log lies in a folder")?)?;
    let said = std::fs::File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
    let names: Vec<&str> = chosen.iter().map(|e| e.name).collect();
    let mut command = Command::new("bash");
    command.args(["-c", ALONE, "detach"]).arg(std::env::current_exe().context("this program's own path")?);
    command.args(["engines", "up", "--only", &names.join(",")]);
    command.arg("--data").arg(setup.folder.canonicalize()?).arg("--cache").arg(&setup.cache);
    command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
    let mut holder = command.spawn().context("cannot run bash")?;
    loop {
        // Somebody else may have been quicker to take the folder.
        if let Ok(remote) = Remote::at(&setup.folder)
            && let Ok(pid) = remote.holder().await
            && holder.id() == Some(pid)
        {
            return Ok(());
        }
        if holder.try_wait()?.is_some() {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            bail!(said.trim().trim_start_matches("error: ").to_owned());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn down(data: &Path, out: Output) -> Result<()> {
    if Remote::runs_at(data) {
        Remote::at(data)?.down().await?;
        out.say("the engines are gone");
    } else {
        out.say("no engines run here");
    }
    out.result(&json!({"running": false}));
    Ok(())
}

async fn status(data: &Path, out: Output) -> Result<ExitCode> {
    let nodes = Remote::at(data)?.status().await?;
    show(&nodes, data, out);
    let well = nodes.iter().all(|n| n.state == State::Running);
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(nodes: &[Status], data: &Path, out: Output) {
    let row = |n: &Status| {
        let state = match n.state {
            State::Running => "runs",
            State::Frozen => "is frozen",
            State::Ended => "has ended",
        };
        let role = n.role.clone().unwrap_or_default();
        vec![n.name.clone(), n.version.clone(), n.address.clone(), n.pid.to_string(), state.into(), role]
    };
    out.say(table(&["node", "version", "address", "pid", "", ""], &nodes.iter().map(row).collect::<Vec<_>>()));
    out.say(format!("for tests: set -a; . {}", data.join(engines::VARIABLES).display()));
    if out.json {
        out.result(&json!({ "nodes": nodes, "variables": data.join(engines::VARIABLES) }));
    }
}
