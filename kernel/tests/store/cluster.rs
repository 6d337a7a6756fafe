//! PostgreSQL servers of a test's own: to be killed, promoted, paused, or reached by TLS.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kernel::store::{Engine, Server};
use kernel::testing::scratch;
use tokio_postgres::{Client, NoTls};

use crate::world::spawn;

const SECRET: &str = "a-password-of-this-test";

/// Where PostgreSQL's programs are; none, with the reason printed, where there is no server to run.
fn programs() -> Option<PathBuf> {
    let found = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = found.map(|v| v.path().join("bin")).filter(|b| b.join("initdb").exists()).collect();
    found.sort();
    if found.is_empty() {
        // An engine whose address is not told is missing as well, and that is what says so.
        scratch::address("FX_TEST_POSTGRES_PROGRAMS");
    }
    found.pop()
}

/// PostgreSQL refuses to run as root; from root it runs as `postgres`, or as nobody.
fn user() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m)).ok()? != 0 {
        return None;
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let of = |name: &str| {
        let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line.split(':').skip(2).map(|id| id.parse().unwrap());
        Some((ids.next()?, ids.next()?))
    };
    of("postgres").or_else(|| of("nobody"))
}

/// A command that dies with this test, as the user that engines run as.
fn command(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if let Some((uid, gid)) = user() {
        command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".into()]);
    }
    command.arg("--").arg(program).current_dir(folder).env("PGPASSWORD", SECRET).stdin(Stdio::null());
    command
}

fn run(mut command: Command) {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Gives everything in a folder to the user that engines run as.
fn hand_over(path: &Path) {
    if let Some((uid, gid)) = user() {
        chown(path, Some(uid), Some(gid)).unwrap();
        if path.is_dir() {
            fs::read_dir(path).unwrap().for_each(|entry| hand_over(&entry.unwrap().path()));
        }
    }
}

/// A running server.
pub(crate) struct Postgres {
    programs: PathBuf,
    folder: PathBuf,
    pub(crate) port: u16,
    child: Child,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A folder with one or two servers in it.
pub(crate) struct Cluster {
    pub(crate) primary: Postgres,
    pub(crate) standby: Option<Postgres>,
    folder: tempfile::TempDir,
}

impl Cluster {
    /// A server of one's own; none, with the reason printed, where PostgreSQL is not installed.
    pub(crate) async fn start(more: &str) -> Option<Self> {
        let programs = programs()?;
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let data = folder.path().join("primary");
        fs::create_dir(&data).unwrap();
        let password = folder.path().join("password");
        fs::write(&password, SECRET).unwrap();
        hand_over(folder.path());
        let mut initdb = command(&programs.join("initdb"), folder.path());
        initdb.args(["--username=admin", "--auth-local=scram-sha-256", "--auth-host=scram-sha-256", "--locale=C"]);
        initdb.args(["--encoding=UTF8", "--no-sync", "--no-instructions"]);
        initdb.arg("--pwfile").arg(&password).arg("--pgdata").arg(&data);
        run(initdb);
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\nmax_connections = 60\nshared_buffers = 16MB\nwal_level = replica\nhot_standby = on\n{more}\n"
        );
        let file = data.join("postgresql.conf");
        fs::write(&file, fs::read_to_string(&file).unwrap() + &settings).unwrap();
        let primary = Postgres::launch(&programs, &data).await;
        Some(Self { primary, standby: None, folder })
    }

    /// Puts a file where the server may read it and nobody else.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn give(&self, name: &str) {
        fs::set_permissions(self.file(name), fs::Permissions::from_mode(0o600)).unwrap();
        hand_over(&self.file(name));
    }

    /// A standby that streams from the primary.
    pub(crate) async fn follow(&mut self) {
        let (programs, data) = (self.primary.programs.clone(), self.folder.path().join("standby"));
        let mut copy = command(&programs.join("pg_basebackup"), self.folder.path());
        copy.args(["-R", "-X", "stream", "-C", "-S", "follower", "-c", "fast", "-h", "127.0.0.1", "-U", "admin", "-w"]);
        copy.arg("-p").arg(self.primary.port.to_string()).arg("-D").arg(&data);
        run(copy);
        self.standby = Some(Postgres::launch(&programs, &data).await);
    }

    pub(crate) fn standby(&self) -> &Postgres {
        self.standby.as_ref().unwrap()
    }

    /// A store's engine on these servers: a schema of its own, made at the first opening.
    pub(crate) fn engine(&self, hosts: &[&Postgres], schema: &str) -> Server {
        let list = |what: fn(&Postgres) -> String| hosts.iter().map(|h| what(h)).collect::<Vec<_>>().join(",");
        let url = format!(
            "host={} port={} user={schema}_a password=scratch dbname=postgres target_session_attrs=read-write connect_timeout=2",
            list(|_| "127.0.0.1".into()),
            list(|h| h.port.to_string())
        );
        Server { admin_url: Some(self.primary.admin_url()), connections: 8, ..Server::new(url, schema) }
    }
}

impl Postgres {
    /// Starts a server on a free port; the port found free may be taken before the server has it, so another is tried.
    async fn launch(programs: &Path, data: &Path) -> Self {
        for _ in 0..5 {
            let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let log = fs::File::create(data.with_extension(format!("{port}.log"))).unwrap();
            let mut postgres = command(&programs.join("postgres"), data);
            postgres.arg("-D").arg(data).arg("-p").arg(port.to_string());
            postgres.stdout(log.try_clone().unwrap()).stderr(log);
            let child = postgres.spawn().unwrap();
            let mut server = Self { programs: programs.to_owned(), folder: data.to_owned(), port, child };
            if server.answers().await {
                return server;
            }
        }
        panic!("no server in {}", data.display());
    }

    async fn answers(&mut self) -> bool {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(30) {
            if self.try_admin().await.is_ok() {
                return true;
            }
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }

    pub(crate) fn admin_url(&self) -> String {
        format!("postgres://admin:{SECRET}@127.0.0.1:{}/postgres", self.port)
    }

    async fn try_admin(&self) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(&self.admin_url(), NoTls).await?;
        spawn(async move { drop(connection.await) });
        Ok(client)
    }

    pub(crate) async fn admin(&self) -> Client {
        self.try_admin().await.unwrap()
    }

    /// kill -9, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        // Its children notice by themselves.
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Makes a standby the primary; nothing keeps the old one from coming back.
    pub(crate) async fn promote(&self) {
        let promoted: bool = self.admin().await.query_one("SELECT pg_promote(true, 30)", &[]).await.unwrap().get(0);
        assert!(promoted, "the standby was not promoted; see the log beside {}", self.folder.display());
    }
}

/// A world's options on such a server.
pub(crate) fn options(server: Server) -> kernel::store::Options {
    let clock = kernel::clock::Clock::system();
    kernel::store::Options {
        claims: vec!["thing.changed"],
        ..kernel::store::Options::new(Engine::Postgres(server), clock)
    }
}
