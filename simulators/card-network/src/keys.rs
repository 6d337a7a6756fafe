//! Keys that may be replaced while the network runs: what a file says now, and what is accepted beside it.
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::StartError;

/// How long what was read is believed.
const BELIEVED: Duration = Duration::from_millis(250);

/// Where a key comes from.
#[derive(Clone)]
pub enum KeySource {
    /// It is this text, for good.
    Text(String),
    /// It stands in this file; those in `FILE.next` and `FILE.previous` are accepted as well.
    File(PathBuf),
}

impl<T: Into<String>> From<T> for KeySource {
    fn from(text: T) -> Self {
        Self::Text(text.into())
    }
}

/// A key that is in use.
pub(crate) struct Key {
    source: KeySource,
    /// The one in use first, then those that are accepted too.
    read: Mutex<(Instant, Vec<String>)>,
}

impl Key {
    pub(crate) fn open(source: KeySource) -> Result<Self, StartError> {
        let keys = match &source {
            KeySource::Text(text) => vec![text.clone()],
            KeySource::File(path) => read(path)?,
        };
        Ok(Self { source, read: Mutex::new((Instant::now(), keys)) })
    }

    /// The key in use.
    pub(crate) fn current(&self) -> String {
        self.accepted().into_iter().next().unwrap_or_default()
    }

    /// Every key that is good now.
    pub(crate) fn accepted(&self) -> Vec<String> {
        let mut held = self.read.lock();
        if let KeySource::File(path) = &self.source
            && held.0.elapsed() > BELIEVED
        {
            match read(path) {
                Ok(keys) => *held = (Instant::now(), keys),
                Err(error) => tracing::warn!(%error, "a key cannot be read anew; the one that is known stays in use"),
            }
        }
        held.1.clone()
    }
}

fn read(path: &Path) -> std::io::Result<Vec<String>> {
    let load = |path: &Path| std::fs::read_to_string(path).map(|text| text.trim().to_owned());
    let beside = |ending: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        load(Path::new(&name)).ok()
    };
    let mut current = load(path)?;
    loop {
        let keys: Vec<String> =
            std::iter::once(current.clone()).chain(beside(".next")).chain(beside(".previous")).collect();
        // One took the place of another meanwhile: what was read is of two different moments.
        let still = load(path)?;
        if still == current {
            return Ok(keys);
        }
        current = still;
    }
}
