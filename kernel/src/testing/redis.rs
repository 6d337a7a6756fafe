//! A real Redis of a test's own, to be wiped, frozen, killed and restarted, and a slow line to it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rand::RngExt as _;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::redis::{Administrator, Provisioned, Redis, RedisSettings, provision, secret_of, user_of};
use crate::secrets::{Secret, Secrets};
use crate::task::Tasks;

/// The administrator and its password.
const ADMINISTRATOR: &str = "admin";
const PASSWORD: &str = "of-a-test";
/// From root it runs as this user, which every system has.
const NOBODY: u32 = 65_534;
/// How long it may take to start.
const NEVER: Duration = Duration::from_secs(20);

/// A server in a folder of its own, which ends with the test.
pub struct Server {
    child: Child,
    port: u16,
    folder: TempDir,
    secrets: Secrets,
    tasks: Tasks,
}

impl Server {
    /// What this machine lacks to run one, with the line that installs it.
    pub fn missing() -> Option<&'static str> {
        let there = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_ok();
        (!there).then_some("redis-server is not installed; install it with: apt-get install redis-server")
    }

    /// Starts one. None, with the reason on standard output, if there is no `redis-server` and that is allowed.
    pub async fn start() -> Option<Self> {
        if !is_installed() {
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let secrets = Secrets::open(&folder.path().join("secrets")).expect("a folder for secrets");
        let data = folder.path().join("data");
        std::fs::create_dir(&data).expect("a folder for its data");
        let users = format!("user default on nopass ~* &* +@all\nuser {ADMINISTRATOR} on >{PASSWORD} ~* &* +@all\n");
        std::fs::write(data.join("users.acl"), users).expect("a file for its users");
        let port = free_port();
        let child = launch(&data, port);
        let mut server = Self { child, port, folder, secrets, tasks: Tasks::new() };
        server.until_it_answers().await;
        Some(server)
    }

    /// Settings with its address. An answer may take longer than elsewhere, because a machine that runs tests is busy.
    pub fn settings(&self) -> RedisSettings {
        Self::settings_at(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)))
    }

    fn settings_at(address: SocketAddr) -> RedisSettings {
        RedisSettings {
            url: format!("redis://{address}"),
            connect_ms: 5000,
            answer_ms: 500,
            probe_ms: 50,
            ..RedisSettings::default()
        }
    }

    /// Who may make users.
    pub fn administrator() -> Administrator {
        Administrator { user: ADMINISTRATOR.to_owned(), password: Some(Secret::new(PASSWORD.as_bytes())) }
    }

    /// The secrets of its members.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Makes users for these members.
    pub async fn provide(&self, members: &[&str]) -> Provisioned {
        let made = provision(&self.settings(), &Self::administrator(), &self.secrets, members).await;
        made.expect("users can be made")
    }

    /// A member's Redis, with its user made.
    pub async fn member(&self, name: &str) -> Redis {
        self.provide(&[name]).await;
        self.open(name, &self.settings()).await
    }

    /// A member's Redis whose every answer takes this much longer.
    pub async fn member_far_away(&self, name: &str, delay: Duration) -> Redis {
        self.provide(&[name]).await;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let settings = Self::settings_at(listener.local_addr().expect("it is bound"));
        self.tasks.spawn("slow line", slow_line(listener, self.port, delay, self.tasks.clone()));
        self.open(name, &settings).await
    }

    async fn open(&self, name: &str, settings: &RedisSettings) -> Redis {
        let password = self.secrets.get(&secret_of(name)).expect("a secret");
        let opened = Redis::open_as(settings, &user_of(settings, name), &password, &self.tasks).await;
        opened.expect("settings of a test")
    }

    /// Says something as the administrator, in words without spaces; gives the raw reply.
    pub async fn tell(&self, words: &[&str]) -> String {
        self.tell_as(ADMINISTRATOR, PASSWORD, words).await
    }

    /// The same as somebody else.
    pub async fn tell_as(&self, user: &str, password: &str, words: &[&str]) -> String {
        let mut said = talk(self.port, &[&["AUTH", user, password], words]).await.expect("it answers");
        // The first line is the reply to AUTH.
        said.drain(..said.find('\n').map_or(0, |end| end + 1));
        said
    }

    /// Forgets everything but its users, as if it had lost its disk.
    pub async fn wipe(&self) {
        self.tell(&["FLUSHALL"]).await;
        self.tell(&["SCRIPT", "FLUSH"]).await;
    }

    /// Stops answering without letting go of anything.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Goes on as if nothing had been.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill {signal}");
    }

    /// Ends it as kill -9 does.
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it was ours");
    }

    /// Starts it again after [`Self::kill`], on its old port and with what is on its disk.
    pub async fn start_again(&mut self) {
        self.child = launch(&self.folder.path().join("data"), self.port);
        self.until_it_answers().await;
    }

    async fn until_it_answers(&mut self) {
        let answers = async {
            while !talk(self.port, &[&["PING"]])
                .await
                .is_some_and(|said| said.contains("PONG") || said.contains("NOAUTH"))
            {
                if let Ok(Some(status)) = self.child.try_wait() {
                    assert!(!status.success(), "redis-server ended at once");
                    // Somebody was quicker to take the port.
                    self.port = free_port();
                    self.child = launch(&self.folder.path().join("data"), self.port);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(NEVER, answers).await.expect("redis-server starts");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "whether engines may be missing is told by the environment of the test run"
)]
fn engines_are_required() -> bool {
    std::env::var("FX_TEST_REQUIRE_ENGINES").is_ok_and(|value| value == "1")
}

#[expect(clippy::print_stdout, reason = "a test that looks at nothing has to say so")]
fn is_installed() -> bool {
    let Some(why) = Server::missing() else { return true };
    assert!(!engines_are_required(), "{why}");
    println!("skipped: {why}");
    false
}

/// Below the range from which the system hands out ports.
fn free_port() -> u16 {
    loop {
        let port = rand::rng().random_range(20_000..32_000);
        if StdListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// It ends when the thread that started it does, however that ends.
fn launch(data: &Path, port: u16) -> Child {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
        for path in [data.to_owned(), data.join("users.acl")] {
            chown(path, Some(NOBODY), Some(NOBODY)).expect("root may give it away");
        }
        let parent = data.parent().expect("it lies in a folder");
        // The folder above is for its owner only, and has to be passed through.
        std::fs::set_permissions(parent, std::os::unix::fs::PermissionsExt::from_mode(0o711)).expect("it is ours");
        command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups"]);
    }
    command.args(["--", "redis-server", "--bind", "127.0.0.1", "--save", "", "--port", &port.to_string(), "--dir"]);
    command.arg(data).arg("--aclfile").arg(data.join("users.acl"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir(data);
    command.spawn().expect("setpriv starts redis-server")
}

/// Sends commands in one go and collects lines until it is quiet.
async fn talk(port: u16, commands: &[&[&str]]) -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.ok()?;
    let mut text = String::new();
    for words in commands.iter().copied().chain([["QUIT"].as_slice()]) {
        text.push_str(&format!("*{}\r\n", words.len()));
        words.iter().for_each(|word| text.push_str(&format!("${}\r\n{word}\r\n", word.len())));
    }
    stream.write_all(text.as_bytes()).await.ok()?;
    let mut said = Vec::new();
    tokio::time::timeout(NEVER, stream.read_to_end(&mut said)).await.ok()?.ok()?;
    Some(String::from_utf8_lossy(&said).into_owned())
}

/// A line on which everything that comes back is late.
async fn slow_line(listener: TcpListener, port: u16, delay: Duration, tasks: Tasks) {
    while let Ok((near, _)) = listener.accept().await {
        tasks.short("slow line", async move {
            let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
            let ((mut near_in, mut near_out), (mut far_in, mut far_out)) = (near.into_split(), far.into_split());
            let there = async { tokio::io::copy(&mut near_in, &mut far_out).await };
            let back = async {
                let mut buffer = vec![0; 16 * 1024];
                while let Ok(n @ 1..) = far_in.read(&mut buffer).await {
                    tokio::time::sleep(delay).await;
                    if near_out.write_all(&buffer[..n]).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                _ = there => {}
                () = back => {}
            }
        });
    }
}
