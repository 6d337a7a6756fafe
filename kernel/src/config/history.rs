//! Which configurations were in force, one file each, and what is in force now, for commands in other processes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use super::{Change, Effective, Held, Standing, changes};
use crate::clock::Timestamp;

/// One configuration that was in force. Values that must not be shown are masked here too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// Counts up.
    pub sequence: u64,
    /// Says the same for the same values, on any machine.
    pub hash: String,
    /// Since when.
    pub at: Timestamp,
    /// What was different before.
    pub changes: Vec<Change>,
    /// All values.
    pub values: BTreeMap<String, Held>,
}

/// What is in force in a running city.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Running {
    /// The version.
    pub sequence: u64,
    /// Its hash.
    pub hash: String,
    /// Its values.
    pub values: BTreeMap<String, Held>,
    /// What is not in force.
    pub standing: Standing,
}

/// The versions of one city.
#[derive(Clone, Debug)]
pub struct History {
    folder: PathBuf,
    keep: usize,
}

const RUNNING: &str = "running.json";

impl History {
    /// The versions in this folder, of which the newest `keep` are kept.
    pub fn new(folder: &Path, keep: usize) -> Self {
        Self { folder: folder.to_owned(), keep: keep.max(1) }
    }

    /// Notes what is in force; a new version only if it differs from the newest.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn record(&self, effective: &Effective, standing: &Standing, at: Timestamp) -> io::Result<()> {
        let values = effective.shown();
        let hash = hash(&values);
        let newest = self.numbers()?.last().copied();
        let before = newest.map(|sequence| self.read(sequence)).transpose()?;
        let sequence = match &before {
            Some(before) if before.hash == hash => before.sequence,
            _ => newest.unwrap_or(0) + 1,
        };
        if newest != Some(sequence) {
            let changes = before.as_ref().map(|before| changes(&before.values, &values)).unwrap_or_default();
            let version = Version { sequence, hash: hash.clone(), at, changes, values: values.clone() };
            self.write(&format!("{sequence:06}.json"), &version)?;
            self.forget()?;
        }
        self.write(RUNNING, &Running { sequence, hash, values, standing: standing.clone() })
    }

    /// All versions that are kept, oldest first.
    ///
    /// # Errors
    /// A file that does not read.
    pub fn list(&self) -> io::Result<Vec<Version>> {
        self.numbers()?.into_iter().map(|sequence| self.read(sequence)).collect()
    }

    /// One version.
    ///
    /// # Errors
    /// It is not kept, or does not read.
    pub fn read(&self, sequence: u64) -> io::Result<Version> {
        self.load(&format!("{sequence:06}.json"))
    }

    /// What the city that runs here has in force.
    ///
    /// # Errors
    /// None ever ran, or the file does not read.
    pub fn running(&self) -> io::Result<Running> {
        self.load(RUNNING)
    }

    fn load<T: serde::de::DeserializeOwned>(&self, name: &str) -> io::Result<T> {
        let path = self.folder.join(name);
        let named = |why: String| io::Error::other(format!("{}: {why}", path.display()));
        let text = fs::read(&path).map_err(|error| named(error.to_string()))?;
        serde_json::from_slice(&text).map_err(|error| named(error.to_string()))
    }

    fn write(&self, name: &str, what: &impl Serialize) -> io::Result<()> {
        let draft = self.folder.join(format!(".{name}.{}", std::process::id()));
        fs::write(&draft, serde_json::to_vec_pretty(what).map_err(io::Error::other)?)?;
        fs::rename(draft, self.folder.join(name))
    }

    fn numbers(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(numbers),
            entries => entries?,
        };
        for entry in entries {
            let name = entry?.file_name();
            numbers.extend(name.to_str().and_then(|n| n.strip_suffix(".json")?.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn forget(&self) -> io::Result<()> {
        let numbers = self.numbers()?;
        let old = numbers.len().saturating_sub(self.keep);
        numbers[..old].iter().try_for_each(|sequence| fs::remove_file(self.folder.join(format!("{sequence:06}.json"))))
    }
}

/// Twelve hexadecimal digits of the SHA-256 of all values, in order of their names.
fn hash(values: &BTreeMap<String, Held>) -> String {
    let text: String = values.iter().map(|(key, held)| format!("{key}={}\n", held.value)).collect();
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    digest.as_ref()[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}
