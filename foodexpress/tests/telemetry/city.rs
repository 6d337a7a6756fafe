//! A city of the built program, in a folder of its own, and commands against it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// A city of the built program, in a folder of its own.
pub(crate) struct City {
    pub(crate) folder: tempfile::TempDir,
    process: Child,
    pub(crate) members: BTreeMap<String, String>,
}

impl City {
    pub(crate) async fn up(settings: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lines = std::fs::File::create(folder.path().join("city.stderr")).unwrap();
        let mut arguments = vec!["up", "--ports", "auto"];
        settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
        let mut command = program(&arguments, folder.path());
        let mut process = command.stdout(Stdio::piped()).stderr(lines).spawn().unwrap();
        let mut first = BufReader::new(process.stdout.take().unwrap()).lines();
        let line =
            tokio::time::timeout(Duration::from_secs(60), first.next_line()).await.expect("the city is open in time");
        let told: Value = serde_json::from_str(&line.unwrap().expect("a city that opens says so")).unwrap();
        let address = |member: &Value| member["address"].as_str().unwrap().to_owned();
        let members = told["members"].as_object().unwrap().iter().map(|(name, m)| (name.clone(), address(m))).collect();
        Self { folder, process, members }
    }

    /// Runs a command against this city; gives its lines.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Vec<Value> {
        let ended = program(arguments, self.folder.path()).output().await.unwrap();
        assert!(ended.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ended.stderr));
        json_lines(std::str::from_utf8(&ended.stdout).unwrap())
    }

    pub(crate) async fn get(&self, member: &str, page: &str) -> (u16, String, String) {
        let answer = reqwest::get(format!("http://{}/{page}", self.members[member])).await.unwrap();
        let kind = answer.headers().get("content-type").map_or("", |value| value.to_str().unwrap()).to_owned();
        (answer.status().as_u16(), kind, answer.text().await.unwrap())
    }

    /// Stops it in an orderly way; what it left behind stays in the folder.
    pub(crate) async fn stop(mut self) -> tempfile::TempDir {
        let pid = self.process.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        let ended = tokio::time::timeout(Duration::from_secs(60), self.process.wait()).await;
        assert!(ended.expect("a city stops when it is told to").unwrap().success());
        self.folder
    }
}

fn program(arguments: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_foodexpress"));
    command.args(arguments).arg("--json").arg("--data").arg(folder.join("data"));
    command.env_remove("FOODEXPRESS_LOG").stdin(Stdio::null()).kill_on_drop(true);
    command
}

pub(crate) fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}
