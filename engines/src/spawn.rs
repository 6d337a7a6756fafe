//! Starting programs so that they end with us, however we end.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc;

use anyhow::{Context as _, Result, bail};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::process::last_lines;
use crate::user::User;

/// A program with its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    program: PathBuf,
    arguments: Vec<String>,
    variables: Vec<(&'static str, String)>,
}

impl Line {
    pub(crate) fn new(program: &Path) -> Self {
        Self { program: program.to_owned(), arguments: Vec::new(), variables: Vec::new() }
    }

    pub(crate) fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    pub(crate) fn args<A: Into<String>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// `--name=path`, as most engines take it.
    pub(crate) fn path(self, name: &str, path: &Path) -> Self {
        let path = path.display();
        self.arg(format!("{name}={path}"))
    }

    pub(crate) fn variable(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }
}

type Order = (Command, oneshot::Sender<std::io::Result<Child>>);

/// The one thread that starts programs. The parent-death signal is sent when the *thread* ends that started a child, and
/// threads of a runtime come and go; this one lives as long as the value does, and its end ends all that it started.
pub(crate) struct Leash {
    orders: mpsc::Sender<Order>,
    user: User,
}

impl Leash {
    pub(crate) fn new(user: User) -> Result<Self> {
        let (orders, taken) = mpsc::channel::<Order>();
        let runtime = Handle::current();
        let work = move || {
            let _entered = runtime.enter();
            for (mut command, answer) in taken {
                // Whoever asked may have given up; then the child is killed by being dropped.
                drop(answer.send(command.spawn()));
            }
        };
        std::thread::Builder::new().name("leash".into()).spawn(work).context("cannot start a thread")?;
        Ok(Self { orders, user })
    }

    /// Starts a program in `folder` with its output appended to `log`; a group of its own keeps Ctrl-C from it.
    pub(crate) async fn spawn(&self, line: &Line, folder: &Path, log: &Path) -> Result<Child> {
        let out = OpenOptions::new().create(true).append(true).mode(0o600).open(log);
        let out = out.with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new("setpriv");
        command.args(self.user.setpriv()).arg(&line.program).args(&line.arguments);
        command.current_dir(folder).envs(line.variables.iter().map(|(n, v)| (n, OsStr::new(v))));
        // A server that talks to its service manager would talk to ours.
        command.env_remove("NOTIFY_SOCKET").process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let (answer, started) = oneshot::channel();
        self.orders.send((command, answer)).ok().context("the thread that starts programs is gone")?;
        let child = started.await.context("the thread that starts programs is gone")?;
        child.context("cannot run setpriv, which is part of util-linux: apt-get install -y util-linux")
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// The end of its output, if it fails.
    pub(crate) async fn run(&self, line: &Line, folder: &Path, log: &Path) -> Result<()> {
        let ended = self.spawn(line, folder, log).await?.wait().await?;
        if !ended.success() {
            let program = line.program.display();
            bail!("{program} failed ({ended}); the end of {}:\n{}", log.display(), last_lines(log, 20));
        }
        Ok(())
    }
}
