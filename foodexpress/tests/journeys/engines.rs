//! Engines by the command line: started, shown, broken, ended, and gone with whoever holds them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::program::{Told, run_within, signal, until};

/// Engines behind a process that stayed when the command ended.
struct Detached {
    folder: TempDir,
}

impl Detached {
    /// None, with the reason printed, where this machine has no Redis.
    fn up() -> Option<Self> {
        let detached = Self { folder: tempfile::tempdir().unwrap() };
        let told = detached.run(&["up", "--only", "redis", "--skip-missing", "--detach"]);
        if told.errors.contains("left out") {
            assert_ne!(std::env::var("FX_TEST_REQUIRE_ENGINES").as_deref(), Ok("1"), "{}", told.errors);
            println!("skipped: {}", told.errors);
            return None;
        }
        assert_eq!(told.result()["nodes"][0]["state"], "running");
        Some(detached)
    }

    fn run(&self, args: &[&str]) -> Told {
        let data = self.folder.path().to_str().unwrap();
        run_within(Duration::from_secs(120), &[&["engines"], args, &["--data", data]].concat())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn redis(&self) -> Value {
        self.run(&["status"]).result()["nodes"][0].clone()
    }

    /// The process that holds the engines: the parent of theirs.
    fn holder(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.redis()["pid"])).unwrap();
        stat.rsplit(')').next().unwrap().split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        // A test that failed must leave nothing running; one that ended them itself is told so.
        let data = self.folder.path().to_str().unwrap();
        drop(run_within(Duration::from_secs(60), &["engines", "down", "--data", data]));
    }
}

fn lives(pid: &Value) -> bool {
    let Ok(stat) = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")) else { return false };
    !stat.rsplit(')').next().unwrap().trim_start().starts_with(['Z', 'X'])
}

#[test]
fn engines_stay_when_the_command_has_ended_and_go_when_they_are_told_to() {
    let Some(engines) = Detached::up() else { return };
    let redis = engines.redis();
    assert!(lives(&redis["pid"]));
    let cards: Value = serde_json::from_slice(&std::fs::read(engines.file("engines.json")).unwrap()).unwrap();
    assert_eq!(cards["redis"]["pid"], redis["pid"]);
    assert_eq!(cards["redis"]["addresses"]["redis"], redis["address"]);
    let variables = std::fs::read_to_string(engines.file("engines.env")).unwrap();
    let password = std::fs::read_to_string(cards["redis"]["credentials"].as_str().unwrap()).unwrap();
    let wanted = format!("FX_TEST_REDIS=redis://:{password}@{}", redis["address"].as_str().unwrap());
    assert!(variables.lines().any(|line| line == wanted), "the variable leads to it with its password");
    for file in ["engines.json", "engines.env"] {
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(engines.file(file)).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600, "{file} holds what others must not read");
    }
    let command = std::fs::read(format!("/proc/{}/cmdline", redis["pid"])).unwrap();
    assert!(!String::from_utf8_lossy(&command).contains(&password), "a password shows among the processes");

    let refused = engines.run(&["up", "--only", "redis", "--detach"]).refusal();
    assert!(refused.errors.contains("engines run in"), "{}", refused.errors);
    assert!(lives(&redis["pid"]), "a second start hurts nobody");
    assert_eq!(engines.run(&["down"]).result()["running"], false);
    assert!(!lives(&redis["pid"]));
    assert!(!engines.file("engines.json").exists() && !engines.file("engines.env").exists());
    let refused = engines.run(&["status"]).refusal();
    assert!(refused.errors.contains("engines up --data"), "{}", refused.errors);
}

#[test]
fn a_killed_engine_is_shown_and_comes_back_where_it_was() {
    let Some(engines) = Detached::up() else { return };
    let before = engines.redis();
    assert_eq!(engines.run(&["kill", "redis"]).result()["nodes"][0]["state"], "ended");
    let shown = engines.run(&["status"]).refusal();
    assert_eq!(shown.lines.last().unwrap()["nodes"][0]["state"], "ended", "and the command says so by its code");
    engines.run(&["restart", "redis"]).result();
    let after = engines.redis();
    assert_eq!((&after["state"], &after["address"]), (&Value::from("running"), &before["address"]));
    assert_ne!(after["pid"], before["pid"]);
    let refused = engines.run(&["kill", "rabbit"]).refusal();
    assert!(refused.errors.contains("no rabbit runs here; there are redis"), "{}", refused.errors);
}

#[test]
fn engines_die_with_the_process_that_holds_them() {
    let Some(engines) = Detached::up() else { return };
    let redis = engines.redis();
    let holder = engines.holder();
    engines.run(&["freeze", "redis"]).result();
    signal("-KILL", holder);
    until("the engine is gone, though it stood still", || (!lives(&redis["pid"])).then_some(()));
    let refused = engines.run(&["status"]).refusal();
    assert!(refused.errors.contains("no engines run"), "{}", refused.errors);
    // What it left behind is in nobody's way.
    let again = engines.run(&["up", "--only", "redis", "--detach"]).result();
    assert_eq!(again["nodes"][0]["state"], "running");
}

#[test]
fn a_frozen_postgres_dies_whole_with_the_process_that_holds_it() {
    if std::env::var("FX_TEST_POSTGRES").is_err() {
        println!("skipped: FX_TEST_POSTGRES is not set, so there may be no PostgreSQL here");
        return;
    }
    let engines = Detached { folder: tempfile::tempdir().unwrap() };
    let up = engines.run(&["up", "--only", "postgres", "--detach"]).result();
    let top = up["nodes"][0]["pid"].as_u64().unwrap();
    let below = Command::new("ps").args(["-o", "pid=", "--ppid", &top.to_string()]).output().unwrap();
    let below: Vec<Value> = String::from_utf8(below.stdout)
        .unwrap()
        .split_ascii_whitespace()
        .map(|pid| pid.parse::<u64>().unwrap().into())
        .collect();
    assert!(below.len() >= 3, "PostgreSQL has workers");
    engines.run(&["freeze", "postgres"]).result();
    let holder = std::fs::read_to_string(format!("/proc/{top}/stat")).unwrap();
    let holder = holder.rsplit(')').next().unwrap().split_ascii_whitespace().nth(1).unwrap().parse().unwrap();
    signal("-KILL", holder);
    until("its workers are gone, too", || below.iter().all(|pid| !lives(pid)).then_some(()));
}

#[test]
fn what_is_missing_is_named_with_the_line_that_installs_it() {
    let [folder, empty] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_foodexpress"));
    command.args(["engines", "up", "--only", "redis,alertmanager", "--data"]).arg(folder.path());
    // A machine with nothing on it.
    let told = command.env("PATH", empty.path()).stdin(Stdio::null()).output().unwrap();
    assert_eq!(told.status.code(), Some(1));
    let said = String::from_utf8(told.stderr).unwrap();
    for line in [
        "redis needs redis-server; install it: sudo apt-get install -y --no-install-recommends redis-server",
        "alertmanager needs prometheus-alertmanager and amtool; install it: \
         sudo apt-get install -y --no-install-recommends prometheus-alertmanager",
    ] {
        assert!(said.contains(line), "{said}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was begun");
}
