//! The binary under test: commands that end, and cities that run until they are told to stop.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Longer than any command of a fast journey takes; a command that hangs is a failure, not a wait.
const PATIENCE: Duration = Duration::from_secs(60);

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_foodexpress"));
    command.args(args).arg("--json").current_dir(root()).stdin(Stdio::null());
    command
}

/// The repository: what a person who works on it has as the current folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// What a command that has ended said.
#[derive(Debug)]
#[expect(dead_code, reason = "the command is there to be read when an assertion fails")]
pub(crate) struct Told {
    args: String,
    code: Option<i32>,
    pub(crate) lines: Vec<Value>,
    pub(crate) errors: String,
}

impl Told {
    /// The last line, which is the result; the command must have ended well.
    pub(crate) fn result(mut self) -> Value {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.lines.pop().unwrap_or_else(|| panic!("no result: {self:#?}"))
    }

    /// All lines of a command that ended well.
    pub(crate) fn rows(self) -> Vec<Value> {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self.lines
    }

    /// What a command said that had to end badly.
    pub(crate) fn refusal(self) -> Self {
        assert_eq!(self.code, Some(1), "{self:#?}");
        self
    }
}

/// Runs a command to its end.
pub(crate) fn run(args: &[&str]) -> Told {
    run_within(PATIENCE, args)
}

pub(crate) fn run_within(patience: Duration, args: &[&str]) -> Told {
    let folder = tempfile::tempdir().unwrap();
    let [out, errors] = ["out", "errors"].map(|name| folder.path().join(name));
    let mut command = command(args);
    command.stdout(File::create(&out).unwrap()).stderr(File::create(&errors).unwrap());
    let mut process = Leashed(command.spawn().unwrap());
    let code = process.end_within(patience).unwrap_or_else(|| panic!("{args:?} does not end")).code();
    let read = |path| std::fs::read_to_string(path).unwrap();
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{args:?}: {e}: {line}"));
    Told { args: args.join(" "), code, lines: read(&out).lines().map(parse).collect(), errors: read(&errors) }
}

/// A process that does not outlive its test.
struct Leashed(Child);

impl Leashed {
    fn end_within(&mut self, patience: Duration) -> Option<ExitStatus> {
        let began = Instant::now();
        while began.elapsed() < patience {
            if let Some(status) = self.0.try_wait().unwrap() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }
}

impl Drop for Leashed {
    fn drop(&mut self) {
        // It may have ended already, which is all that is wanted.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// A folder for cities that run one after another on the same data.
pub(crate) struct Data {
    folder: TempDir,
}

impl Data {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// The city's data folder.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("city")
    }

    /// The same data in a folder of its own; no city may run.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::new();
        let copied = Command::new("cp").arg("-r").args([self.path(), copy.path()]).status().unwrap();
        assert!(copied.success());
        copy
    }

    /// Runs a command on this data.
    pub(crate) fn run(&self, args: &[&str]) -> Told {
        let path = self.path();
        run(&[args, &["--data", path.to_str().unwrap()]].concat())
    }

    /// Starts a city.
    pub(crate) fn up(&self, more: &[&str]) -> City<'_> {
        // Free ports are found by trying, so two cities that look for them at the same moment could find the same.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let errors = self.folder.path().join("errors");
        let data = self.path();
        let args = [&["up", "--ports", "auto", "--data", data.to_str().unwrap()], more].concat();
        let mut command = command(&args);
        command.stdout(Stdio::piped()).stderr(File::options().append(true).create(true).open(&errors).unwrap());
        let mut process = Leashed(command.spawn().unwrap());
        let mut out = BufReader::new(process.0.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let said = || std::fs::read_to_string(&errors).unwrap();
        let opened = serde_json::from_str(&line).unwrap_or_else(|_| panic!("the city did not open: {line} {}", said()));
        City { data: self, process, opened, _out: out }
    }

    /// Works on a service's database behind its back.
    pub(crate) fn tamper(&self, service: &str, sql: &str) -> usize {
        let path = self.path().join("db").join(format!("{service}.sqlite"));
        let database = rusqlite::Connection::open(path).unwrap();
        database.busy_timeout(Duration::from_secs(10)).unwrap();
        database.pragma_update(None, "foreign_keys", false).unwrap();
        database.execute(sql, []).unwrap()
    }

    /// Counts behind a service's back.
    pub(crate) fn count(&self, service: &str, sql: &str) -> i64 {
        let path = self.path().join("db").join(format!("{service}.sqlite"));
        rusqlite::Connection::open(path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

/// A running city.
pub(crate) struct City<'d> {
    data: &'d Data,
    process: Leashed,
    /// What it said when it opened.
    pub(crate) opened: Value,
    // Kept open: the city may still have something to say.
    _out: BufReader<ChildStdout>,
}

impl City<'_> {
    pub(crate) fn run(&self, args: &[&str]) -> Told {
        self.data.run(args)
    }

    /// The members as `ls` shows them now.
    pub(crate) fn members(&self) -> Vec<Value> {
        self.run(&["ls"]).rows()
    }

    pub(crate) fn member(&self, name: &str) -> Value {
        self.members().into_iter().find(|member| member["name"] == name).unwrap()
    }

    /// One order from sign-in to delivery.
    pub(crate) fn order(&self) -> Value {
        let order = self.run(&["demo", "order"]).result();
        assert_eq!(order["status"], "DELIVERED", "{order}");
        order
    }

    /// The books must agree over so many orders.
    pub(crate) fn audit(&self, orders: usize) -> Value {
        let audit = self.run(&["audit", "money"]).result();
        let right =
            json!({"orders": orders, "duplicates": 0, "lost": 0, "unresolved": 0, "ledger_sum": 0, "findings": []});
        right
            .as_object()
            .unwrap()
            .iter()
            .for_each(|(name, figure)| assert_eq!(&audit[name], figure, "{name}: {audit}"));
        audit
    }

    /// The books must not agree.
    pub(crate) fn fails_audit(&self) -> Value {
        self.run(&["audit", "money"]).refusal().lines.pop().unwrap()
    }

    /// Asks it to stop, as Ctrl-C does; it must end well.
    pub(crate) fn stop(mut self) {
        signal("-TERM", u64::from(self.process.0.id()));
        let status = self.process.end_within(PATIENCE).expect("the city stops");
        assert!(status.success(), "{status}");
    }

    /// kill -9 of the process that runs or supervises it.
    pub(crate) fn kill(mut self) {
        self.process.0.kill().unwrap();
        self.process.0.wait().unwrap();
    }
}

pub(crate) fn signal(name: &str, pid: u64) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

/// Waits until something is there.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("not within {PATIENCE:?}: {what}");
}

/// Whether the slow journeys were asked for.
#[expect(clippy::disallowed_methods, reason = "what to run is said by the one who starts the tests")]
pub(crate) fn slow() -> bool {
    let wanted = std::env::var("FX_TEST_SLOW").is_ok_and(|value| value == "1");
    if !wanted {
        println!("left out: FX_TEST_SLOW is not 1");
    }
    wanted
}
