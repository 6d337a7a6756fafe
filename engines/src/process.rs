//! What the system knows of processes, and signals to them.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

/// The state letter of a process as in proc(5); none if it is gone.
pub(crate) fn state(pid: u32) -> Option<char> {
    Some(stat(pid)?.0)
}

/// Whether the process exists and is not just waiting to be reaped.
pub(crate) fn is_alive(pid: u32) -> bool {
    state(pid).is_some_and(|s| !matches!(s, 'Z' | 'X'))
}

/// State letter and parent.
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything, brackets too.
    let mut fields = text.rsplit(')').next()?.split_ascii_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// The process and everything below it, the top first: some engines fork, and their children leave the group.
pub(crate) fn tree(pid: u32) -> Vec<u32> {
    let all: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, stat(pid)?.1)))
        .collect();
    let mut found = vec![pid];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        found.extend(all.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found
}

/// Sends a signal to each; one that is gone already is no error.
pub(crate) async fn signal(pids: &[u32], name: &str) -> Result<()> {
    let mut command = Command::new("kill");
    command.args(["-s", name, "--"]).args(pids.iter().map(u32::to_string));
    command.stderr(Stdio::null());
    command.status().await.context("cannot run kill")?;
    Ok(())
}

/// Kills processes that stand still if we end before letting them go on. Of a frozen tree only the top hears that we are
/// gone; what it had started waits for ever, because it cannot notice.
pub(crate) struct Guard(Child);

impl Guard {
    /// Watches over these.
    pub(crate) fn over(pids: &[u32]) -> Result<Self> {
        // Our end of the pipe is closed with us, however we end; a line before that is the word to leave.
        let mut command = Command::new("sh");
        command.args(["-c", r#"read -r word || kill -s KILL "$@""#, "guard"]).args(pids.iter().map(u32::to_string));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        Ok(Self(command.spawn().context("cannot run sh")?))
    }

    /// They go on, or are gone: nothing is left to watch over.
    pub(crate) async fn leave(mut self) -> Result<()> {
        if let Some(mut word) = self.0.stdin.take() {
            word.write_all(b"leave\n").await?;
        }
        self.0.wait().await?;
        Ok(())
    }
}

/// The last lines of a log, for an error that would otherwise only name the file.
pub(crate) fn last_lines(log: &Path, lines: usize) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
