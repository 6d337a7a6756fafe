//! Finding programs on this machine, and the line that installs one that is missing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result};
use tokio::process::Command;

/// A program an engine needs.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// Its file name.
    pub program: &'static str,
    /// The Debian package it comes in.
    pub package: &'static str,
}

/// Debian keeps servers where not everybody's path leads, and so does Go's own archive.
const BESIDE_THE_PATH: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/go/bin"];
const POSTGRES: &str = "/usr/lib/postgresql";
/// The oldest PostgreSQL that the store is held to.
const LEAST_POSTGRES: u32 = 15;

impl Need {
    pub(crate) const fn of(program: &'static str, package: &'static str) -> Self {
        Self { program, package }
    }

    /// Where it is; of PostgreSQL's programs the newest from version 15 on.
    pub fn find(&self) -> Option<PathBuf> {
        if self.package.starts_with("postgresql") {
            return newest_postgres().map(|folder| folder.join(self.program)).filter(|p| p.is_file());
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(BESIDE_THE_PATH.map(PathBuf::from));
        folders.map(|folder| folder.join(self.program)).find(|p| p.is_file())
    }
}

/// Programs that an engine needs and this machine lacks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Missing {
    /// The engine that cannot start.
    pub engine: &'static str,
    /// What it lacks.
    pub programs: Vec<&'static str>,
    /// The packages that have it.
    pub packages: Vec<&'static str>,
}

impl Missing {
    /// What `engine` lacks here.
    pub(crate) fn of(engine: &'static str, needs: &[Need]) -> Option<Self> {
        let lacking: Vec<&Need> = needs.iter().filter(|n| n.find().is_none()).collect();
        let mut packages: Vec<_> = lacking.iter().map(|n| n.package).collect();
        packages.dedup();
        let programs: Vec<_> = lacking.iter().map(|n| n.program).collect();
        (!programs.is_empty()).then_some(Self { engine, programs, packages })
    }

    /// The line to type.
    pub fn remedy(&self) -> String {
        format!("sudo apt-get install -y --no-install-recommends {}", self.packages.join(" "))
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} needs {}; install it: {}", self.engine, self.programs.join(" and "), self.remedy())
    }
}

fn newest_postgres() -> Option<PathBuf> {
    let versions = std::fs::read_dir(POSTGRES).ok()?.flatten();
    let known = versions.filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path())));
    let usable = known.filter(|(v, path)| *v >= LEAST_POSTGRES && path.join("bin/postgres").is_file());
    usable.max().map(|(_, path)| path.join("bin"))
}

/// The version a program says it has.
pub(crate) async fn version(program: &Path, flag: &str) -> Result<String> {
    let mut command = Command::new(program);
    command.arg(flag).stdin(Stdio::null());
    let said = command.output().await.with_context(|| format!("cannot run {}", program.display()))?;
    let text = [said.stdout, said.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    first_version(&text).with_context(|| format!("{} {flag} names no version", program.display()))
}

/// The first thing in a text that looks like a version: digits with dots between them.
fn first_version(text: &str) -> Option<String> {
    let words = text.split(|c: char| !c.is_ascii_digit() && c != '.').map(|w| w.trim_matches('.'));
    words.into_iter().find(|w| w.contains('.')).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_in_what_each_engine_says() {
        for (said, version) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "15.18"),
            ("PgBouncer 1.18.0\nlibevent 2.1", "1.18.0"),
            ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0", "7.0.15"),
            ("openjdk version \"17.0.15\" 2025-04-15", "17.0.15"),
            ("prometheus, version 2.42.0+ds (branch: debian/sid)", "2.42.0"),
        ] {
            assert_eq!(first_version(said).as_deref(), Some(version), "{said}");
        }
        assert_eq!(first_version("no such thing."), None);
    }

    #[test]
    fn what_is_missing_is_named_with_the_line_that_installs_it() {
        let needs = [
            Need::of("sh", "dash"),
            Need::of("fx-no-such-server", "fx-server"),
            Need::of("fx-no-such-tool", "fx-server"),
        ];
        let missing = Missing::of("thing", &needs).expect("two are not there");
        assert_eq!(
            missing.to_string(),
            "thing needs fx-no-such-server and fx-no-such-tool; install it: \
             sudo apt-get install -y --no-install-recommends fx-server"
        );
        assert_eq!(Missing::of("thing", &needs[..1]), None);
    }
}
