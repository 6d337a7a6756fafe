//! Proxies in processes of their own: our gateway, nginx, `HAProxy`. Each listens on a free port of this machine only.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::process::{Child, Command};

use super::super::cpu::Used;
use super::super::town::terminate;
use super::super::wire::Wires;
use super::mint::ISSUER;
use crate::city::{CARD_NETWORK, CityMap, DataFolder, GATEWAY, Given, Member};
use crate::services;

/// Longer is not starting.
const PATIENCE: Duration = Duration::from_secs(20);

const NGINX: &str = include_str!("../../../../deploy/bench/nginx.conf");
const HAPROXY: &str = include_str!("../../../../deploy/bench/haproxy.cfg");

/// Somebody else's proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Program {
    Nginx,
    Haproxy,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }

    pub(super) fn how_to_get(self) -> String {
        format!("{} is not installed; `apt-get install {}` gets it", self.name(), self.name())
    }

    /// Where it lies; servers often lie where only root looks.
    fn find(self) -> Option<std::path::PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let known = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
        known.map(|folder| folder.join(self.name())).find(|file| file.is_file())
    }
}

/// A running proxy.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    pid: u32,
    process: Child,
}

impl Proxy {
    /// Our gateway with so many threads, everything on, in a city whose every service is this upstream.
    pub(super) async fn gateway(folder: &Path, upstream: SocketAddr, threads: usize) -> Result<Self> {
        let data = DataFolder::open(folder)?;
        let address = free_address()?;
        let pid = std::process::id();
        let here = |name: &str, address| {
            (name.to_owned(), Member { service: name.to_owned(), address, announced: address, pid, ready_ms: 0 })
        };
        let services = services::manifests().into_iter().map(|m| here(m.name, upstream));
        let others = [here(GATEWAY, address), here(CARD_NETWORK, upstream)];
        let members: BTreeMap<String, Member> = services.chain(others).collect();
        let given = Given::default().at(address, upstream);
        data.publish(&CityMap { pid, processes: true, members, registrar: None, given })?;
        let mut command = Command::new(std::env::current_exe().context("this program's own path")?);
        command.args(["serve", GATEWAY, "--with-parent", "--data"]).arg(folder);
        command.args(["--set", "gateway.per_address=4000000", "--set", "gateway.per_caller=4000000"]);
        command.args(["--set".to_owned(), format!("gateway.threads={threads}")]);
        command.args(["--set".to_owned(), format!("auth.issuer={ISSUER}")]);
        let proxy = Self::start(command, &data.log(GATEWAY), address)?;
        proxy.until("/readyz").await
    }

    /// nginx as a plain proxy; none if it is not installed.
    pub(super) async fn nginx(folder: &Path, upstream: SocketAddr) -> Result<Option<Self>> {
        let Some(program) = Program::Nginx.find() else { return Ok(None) };
        let (address, config) = configure(folder, NGINX, upstream, "")?;
        let mut command = Command::new(program);
        command.arg("-p").arg(folder).arg("-c").arg(config).args(["-e", "stderr", "-g", "daemon off;"]);
        let proxy = Self::start(command, &folder.join("nginx.log"), address)?;
        proxy.until("/").await.map(Some)
    }

    /// `HAProxy` checking the signature of every token; none if it is not installed.
    pub(super) async fn haproxy(folder: &Path, upstream: SocketAddr, key: &str) -> Result<Option<Self>> {
        let Some(program) = Program::Haproxy.find() else { return Ok(None) };
        std::fs::create_dir_all(folder)?;
        let key_file = folder.join("key.pem");
        std::fs::write(&key_file, key)?;
        let (address, config) = configure(folder, HAPROXY, upstream, &key_file.display().to_string())?;
        let mut command = Command::new(program);
        command.arg("-db").arg("-f").arg(config);
        let proxy = Self::start(command, &folder.join("haproxy.log"), address)?;
        proxy.until("/").await.map(Some)
    }

    fn start(mut command: Command, log: &Path, address: SocketAddr) -> Result<Self> {
        let log = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        let out = log.try_clone()?;
        command.stdin(Stdio::piped()).stdout(Stdio::from(out)).stderr(Stdio::from(log)).kill_on_drop(true);
        let process = command.spawn().context("cannot start a proxy")?;
        let pid = process.id().context("a process that just started has an id")?;
        Ok(Self { address, pid, process })
    }

    /// Waits until it answers; what it answers is checked later.
    async fn until(mut self, path: &str) -> Result<Self> {
        let began = Instant::now();
        let probe = super::super::wire::request("GET", path, &[], b"");
        loop {
            let answer = Wires::to(self.address).ask(&probe).await;
            match answer {
                Ok(reply) if reply.status != 503 => return Ok(self),
                _ if began.elapsed() > PATIENCE => bail!("a proxy does not answer: {answer:?}"),
                _ => {}
            }
            if let Some(status) = self.process.try_wait()? {
                bail!("a proxy ended while starting: {status}; its log is beside its configuration");
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// CPU time of its process and of the workers it started.
    pub(super) fn cpu(&self) -> Used {
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid)).unwrap_or_default();
        let workers = children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok());
        Used::by(workers.chain([self.pid]))
    }

    pub(super) async fn stop(mut self) -> Result<()> {
        terminate(&mut self.process).await
    }
}

/// Fills in a configuration; gives where it will listen and the file.
fn configure(folder: &Path, text: &str, upstream: SocketAddr, key: &str) -> Result<(SocketAddr, std::path::PathBuf)> {
    std::fs::create_dir_all(folder)?;
    let folder = folder.canonicalize()?;
    let address = free_address()?;
    let filled = text
        .replace("@LISTEN@", &address.to_string())
        .replace("@UPSTREAM@", &upstream.to_string())
        .replace("@KEY@", key);
    let file = folder.join("proxy.conf");
    std::fs::write(&file, filled)?;
    Ok((address, file))
}

fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?)
}
