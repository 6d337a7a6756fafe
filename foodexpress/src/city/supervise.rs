//! One process per member: started, watched, started again when it dies.

use std::fs::{File, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use kernel::secrets::{Folder, Secrets};
use kernel::task::Tasks;
use parking_lot::Mutex;
use tokio::process::Command;

use super::launch::{must_share, watched};
use super::rotation;
use super::{CARD_NETWORK, CityMap, DataFolder, GATEWAY, Member, Plan, Seat, Seats};

/// Between restarts of a member that dies at once; doubles up to the second figure.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A member that lived this long starts again without delay.
const SETTLED: Duration = Duration::from_secs(5);
/// How long a member may take to become ready.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Starts members of one city as processes of this very program.
pub(super) struct Launcher {
    program: PathBuf,
    data: DataFolder,
    seats: Seats,
    seed: u64,
}

impl Launcher {
    pub(super) fn new(plan: &Plan, seats: &Seats, secrets: &Secrets) -> Result<Self> {
        // Made before any member starts, so that all of them read the same.
        for name in ["internal"].iter().chain(&OF_THE_NETWORK) {
            secrets.get(name).with_context(|| format!("cannot make the secret {name}"))?;
        }
        if secrets.provider().kind() != "file" {
            lay_out(secrets, &plan.data.secret_files())?;
        }
        Ok(Self {
            program: std::env::current_exe().context("this program's own path")?,
            data: plan.data.clone(),
            seats: seats.clone(),
            seed: plan.seed,
        })
    }

    pub(super) fn spawn(&self, name: &str) -> Result<Child> {
        let seat = self.seats[name].clone();
        let address = seat.address;
        let mut command = Command::new(&self.program);
        if name == CARD_NETWORK {
            let secrets = self.data.secret_files();
            command
                .arg(CARD_NETWORK)
                .arg("--data")
                .arg(self.data.card_network())
                .arg("--addr")
                .arg(address.to_string());
            command.arg("--api-key-file").arg(secrets.join("card-network-api-key"));
            command.arg("--webhook-secret-file").arg(secrets.join("card-network-webhook-secret"));
            command.arg("--webhook-url").arg(format!("http://{}/api/v1/provider-events", self.seats[GATEWAY].address));
            command.arg("--seed").arg(self.seed.to_string());
        } else {
            command.arg("serve").arg(name).arg("--data").arg(self.data.path()).arg("--with-parent");
        }
        let log = open_log(&self.data, name)?;
        // A member's lines go to standard error; what it prints is for people who start it by hand.
        // The pipe on standard input ends when this process does, however it ends: members notice and stop.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::from(log)).kill_on_drop(true);
        let mut process = command.spawn().with_context(|| format!("cannot start {name}"))?;
        // Waiting for a process would close its pipe, so the pipe is held apart from it.
        let leash = process.stdin.take();
        let pid = process.id().context("a process that just started has an id")?;
        Ok(Child { name: name.to_owned(), seat, pid, process, leash })
    }
}

/// The secrets that the card network reads from files.
const OF_THE_NETWORK: [&str; 2] = ["card-network-api-key", "card-network-webhook-secret"];

/// Keeps the files of the card network as the provider has them: it shares nothing with us but files.
fn lay_out(secrets: &Secrets, folder: &Path) -> Result<()> {
    let folder = Folder::open(folder).context("cannot make the folder of the card network's keys")?;
    for name in OF_THE_NETWORK {
        let folder = folder.clone();
        secrets.follow(name, move |pair| {
            if let Err(error) = folder.lay(name, pair) {
                tracing::error!(%error, secret = name, "the card network does not get its new key");
            }
        })?;
    }
    Ok(())
}

fn open_log(data: &DataFolder, name: &str) -> Result<File> {
    let path = data.log(name);
    OpenOptions::new().create(true).append(true).open(&path).with_context(|| format!("cannot write {}", path.display()))
}

/// One member's process.
pub(super) struct Child {
    name: String,
    seat: Seat,
    pid: u32,
    process: tokio::process::Child,
    leash: Option<tokio::process::ChildStdin>,
}

impl Child {
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until it answers its probe.
    pub(super) async fn until_ready(&self, within: Duration) -> Result<()> {
        until_ready(&self.name, self.seat.address, within, || super::process::is_alive(self.pid)).await
    }

    /// Asks it to end, waits, insists.
    pub(super) async fn stop(mut self) {
        drop(self.leash.take());
        let pid = self.pid.to_string();
        drop(Command::new("kill").args(["-TERM", &pid]).status().await);
        if tokio::time::timeout(Duration::from_secs(25), self.process.wait()).await.is_err() {
            drop(self.process.kill().await);
        }
    }
}

/// Waits until a member answers its probe, or can no longer.
pub(super) async fn until_ready(
    name: &str,
    address: SocketAddr,
    within: Duration,
    lives: impl Fn() -> bool,
) -> Result<()> {
    let began = Instant::now();
    let mut said = String::new();
    let probe = if name == CARD_NETWORK { "livez" } else { "readyz" };
    let url = format!("http://{address}/{probe}");
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_millis(500)).build()?;
    while began.elapsed() < within {
        if let Ok(answer) = http.get(&url).send().await {
            if answer.status().is_success() {
                return Ok(());
            }
            said = answer.text().await.unwrap_or_default();
        }
        if !lives() {
            bail!("{name} ended while starting; its log says why");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    if said.is_empty() {
        bail!("{name} is not ready after {within:?}; its log says why");
    }
    bail!("{name} is not ready after {within:?}; it says {said}")
}

/// A city of processes, watched by this one.
pub(crate) struct Supervised {
    data: DataFolder,
    map: Arc<Mutex<CityMap>>,
    tasks: Tasks,
    upkeep: Tasks,
    _lock: File,
}

impl Supervised {
    /// Starts every member and returns once all are ready.
    pub(crate) async fn start(plan: &Plan) -> Result<Self> {
        let lock = plan.data.lock()?;
        let seats = plan.seats.clone().map_or_else(|| plan.ports.seats(plan.instances), Ok)?;
        let given = plan.given.clone().at(seats[GATEWAY].address, seats[CARD_NETWORK].announced);
        // Watched here as well: whoever supervises keeps the history of the settings and refuses bad ones at start.
        let upkeep = Tasks::new();
        let (secrets, configuration) = watched(&plan.data, &given, true, &upkeep).await?;
        if plan.instances > 1 {
            must_share(&configuration)?;
        }
        let launcher = Arc::new(Launcher::new(plan, &seats, &secrets)?);
        let unborn = |(name, seat): (&String, &Seat)| (name.clone(), Member::ready(seat, 0, Instant::now()));
        let registrar = rotation::open_registrar(&secrets, &configuration, &upkeep).await?;
        let members = seats.iter().map(unborn).collect();
        let map = CityMap { pid: std::process::id(), processes: true, members, registrar, given };
        plan.data.publish(&map)?;
        let map = Arc::new(Mutex::new(map));
        let mut children = Vec::new();
        for name in seats.keys() {
            children.push((launcher.spawn(name)?, Instant::now()));
        }
        for (child, began) in &children {
            child.until_ready(READY_WITHIN).await?;
            enter(&plan.data, &map, child, *began)?;
        }
        let tasks = Tasks::new();
        for (child, began) in children {
            let watched = watch(child, began, launcher.clone(), plan.data.clone(), map.clone(), tasks.stopping());
            tasks.spawn("watch", watched);
        }
        Ok(Self { data: plan.data.clone(), map, tasks, upkeep, _lock: lock })
    }

    /// Where everything listens, with the processes as they are now.
    pub(crate) fn map(&self) -> CityMap {
        self.map.lock().clone()
    }

    /// Stops every member.
    pub(crate) async fn stop(self) {
        self.tasks.drain(Duration::from_secs(30)).await;
        self.upkeep.drain(Duration::from_secs(2)).await;
        self.data.withdraw();
    }
}

/// Notes a member's process in the map.
fn enter(data: &DataFolder, map: &Mutex<CityMap>, child: &Child, began: Instant) -> Result<()> {
    let mut map = map.lock();
    map.members.insert(child.name.clone(), Member::ready(&child.seat, child.pid, began));
    data.publish(&map)
}

/// Keeps one member alive until told to stop.
async fn watch(
    mut child: Child,
    mut began: Instant,
    launcher: Arc<Launcher>,
    data: DataFolder,
    map: Arc<Mutex<CityMap>>,
    stop: tokio_util::sync::CancellationToken,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let ended = tokio::select! {
            ended = child.process.wait() => ended,
            () = stop.cancelled() => return child.stop().await,
        };
        let name = child.name.clone();
        if ended.as_ref().is_ok_and(std::process::ExitStatus::success) {
            tracing::info!(member = name, pid = child.pid, "a member was told to end and is started again");
        } else {
            tracing::warn!(member = name, pid = child.pid, ?ended, "a member died and is started again");
        }
        pause = if began.elapsed() > SETTLED { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
        tokio::time::sleep(pause).await;
        began = Instant::now();
        match launcher.spawn(&name) {
            Ok(next) => child = next,
            Err(error) => {
                tracing::error!(member = name, %error, "a member cannot be started");
                continue;
            }
        }
        if let Err(error) = enter(&data, &map, &child, began) {
            tracing::error!(member = name, %error, "the city's map cannot be written");
        }
    }
}
