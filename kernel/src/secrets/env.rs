//! Secrets from variables: `FX_SECRET_NAME`, or `FX_SECRET_NAME_FILE` with the file that holds it, read anew each time.

use std::collections::BTreeMap;
use std::io;

use futures::future::BoxFuture;

use super::{Pair, Provider, Secret};

/// Variables as they were when the process started; files that they name may change.
#[derive(Clone)]
pub struct Variables {
    start: String,
    values: BTreeMap<String, String>,
}

impl std::fmt::Debug for Variables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Variables").field("names", &self.values.keys()).finish_non_exhaustive()
    }
}

impl Variables {
    /// Those of `variables` that begin with `PREFIX_SECRET_`.
    pub fn new(prefix: &str, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let start = format!("{prefix}_SECRET_");
        let values = variables.into_iter().filter(|(name, _)| name.starts_with(&start)).collect();
        Self { start, values }
    }

    fn variable(&self, name: &str) -> String {
        format!("{}{}", self.start, name.to_uppercase().replace('-', "_"))
    }

    fn load(&self, variable: &str) -> io::Result<Option<Secret>> {
        if let Some(text) = self.values.get(variable) {
            return Ok(Some(Secret::new(text.as_bytes())));
        }
        let file = format!("{variable}_FILE");
        let Some(path) = self.values.get(&file) else { return Ok(None) };
        let bytes = std::fs::read(path).map_err(|e| io::Error::new(e.kind(), format!("{file}: {path}: {e}")))?;
        Ok(Some(Secret::new(&bytes)))
    }
}

impl Provider for Variables {
    fn kind(&self) -> &'static str {
        "env"
    }

    fn read(&self, name: &str) -> io::Result<Pair> {
        let variable = self.variable(name);
        let missing = || {
            let why = format!("there is no secret {name}; set {variable}, or {variable}_FILE to a file that holds it");
            io::Error::new(io::ErrorKind::NotFound, why)
        };
        let current = self.load(&variable)?.ok_or_else(missing)?;
        let next = self.load(&format!("{variable}_NEXT")).unwrap_or_default();
        let previous = self.load(&format!("{variable}_PREVIOUS")).unwrap_or_default().filter(|_| next.is_none());
        Ok(Pair { current, next, previous })
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let bare = |name: &String| {
            let name = name.strip_prefix(&self.start)?;
            let name = name.strip_suffix("_FILE").unwrap_or(name);
            let beside = name.ends_with("_NEXT") || name.ends_with("_PREVIOUS");
            (!beside).then(|| name.to_lowercase().replace('_', "-"))
        };
        Ok(self.values.keys().filter_map(bare).collect())
    }

    fn write<'a>(&'a self, name: &'a str, _pair: &'a Pair) -> BoxFuture<'a, io::Result<()>> {
        let variable = self.variable(name);
        let why = format!(
            "variables cannot be rotated from here: lay the next secret where {variable}_NEXT_FILE points, and once all \
             instances accept it move it to where {variable}_FILE points, and the old one to {variable}_PREVIOUS_FILE"
        );
        Box::pin(std::future::ready(Err(io::Error::new(io::ErrorKind::Unsupported, why))))
    }
}
