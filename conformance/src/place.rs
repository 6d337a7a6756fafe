//! Where one case is played: its engine, whether its fault is planted, and how to start a second process.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use kernel::testing::scratch;

use crate::engine::Engine;
use crate::{idempotency, store};

/// Where engines are, by the variable that says so.
pub type Addresses = BTreeMap<String, String>;

/// Starts this program once more, so that it calls [`play_part`].
pub type Again = fn() -> Command;

/// The variable by which a process is told which part of a case it plays.
const PART: &str = "FX_CONFORM_PART";

/// A place for one case.
#[derive(Clone)]
pub struct Place {
    /// The engine.
    pub engine: &'static Engine,
    /// Whether the case has to plant its fault, and to fail.
    pub seeded: bool,
    /// Where engines are.
    pub addresses: Arc<Addresses>,
    /// How to start another process.
    pub again: Again,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Place").field("engine", &self.engine.name).field("seeded", &self.seeded).finish_non_exhaustive()
    }
}

impl Place {
    /// Where the engine of this variable is; whoever plays has looked whether it is there.
    pub(crate) fn address(&self, variable: &str) -> &str {
        self.addresses.get(variable).map_or_else(|| panic!("{variable} is not set"), String::as_str)
    }

    /// The address of PostgreSQL, on engines whose store is there.
    pub(crate) fn postgres(&self) -> Option<&str> {
        let needed = self.engine.needs.iter().any(|(engine, _)| *engine == "postgres");
        needed.then(|| self.address("FX_TEST_POSTGRES"))
    }

    /// How long to wait for what has to happen; a fault that shows by nothing happening is waited for less.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_secs(if self.seeded { 4 } else { 30 })
    }

    /// Waits until something is so.
    pub(crate) async fn until(&self, what: &str, mut so: impl AsyncFnMut() -> bool) {
        let waited = tokio::time::timeout(self.patience(), async {
            while !so().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(waited.await.is_ok(), "not within {:?}: {what}", self.patience());
    }

    /// A process that plays this part until it is killed, which it is at the latest when the case ends.
    pub(crate) fn start(&self, part: &str, output: Stdio) -> Part {
        Part::play((self.again)(), part, output)
    }

    /// The same with a small disk of its own at this folder, which goes with the process.
    pub(crate) fn start_on_disk(&self, part: &str, folder: &Path, output: Stdio) -> Part {
        let again = (self.again)();
        let mut command = small_disk(folder);
        command.arg(again.get_program()).args(again.get_args());
        Part::play(command, part, output)
    }
}

/// Another process of a case.
pub(crate) struct Part(pub(crate) Child);

impl Part {
    fn play(mut command: Command, part: &str, output: Stdio) -> Self {
        let child = command.env(PART, part).stdin(Stdio::null()).stdout(output).stderr(Stdio::null()).spawn();
        Self(child.expect("this program can be started once more"))
    }

    /// SIGKILL: no goodbye, no flush.
    pub(crate) fn kill(&mut self) {
        self.0.kill().expect("it is ours");
        self.0.wait().expect("it is ours");
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It may be dead already, which is all that is wanted.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// A command whose arguments are run with a file system of a few MiB at this folder, in a namespace of its own.
pub(crate) fn small_disk(folder: &Path) -> Command {
    let mut command = Command::new("unshare");
    // As somebody who is root only in there, which some machines forbid; and some that allow it forbid it to root.
    command.args(if is_root() { &["--mount"][..] } else { &["--user", "--map-root-user", "--mount"] });
    command.args(["sh", "-c"]);
    command.arg("mount -t tmpfs -o size=6m none \"$0\" && exec \"$@\"").arg(folder);
    command
}

/// Plays the part that this process was started for; comes back at once if it was started for none.
pub async fn play_part() {
    let Some(part) = scratch::told(PART) else { return };
    let (name, told) = part.split_once('|').unwrap_or((&part, ""));
    match name {
        idempotency::TILL => idempotency::man(told).await,
        store::kill::WRITER => store::kill::write_for_ever(told).await,
        store::room::DISK => store::room::on_a_small_disk(told).await,
        _ => panic!("no case has a part {name} ({told})"),
    }
}
