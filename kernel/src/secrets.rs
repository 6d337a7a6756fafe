//! Secrets from a folder of files or the environment: made at random on the first run, two valid at a time while one rotates.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::ids::secret_bytes;

/// The ending of the file that keeps the secret before the current one.
const PREVIOUS: &str = ".previous";

/// A value that no log and no error shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl AsRef<[u8]>) -> Self {
        Self(value.as_ref().into())
    }

    /// The value itself; whoever calls this answers for where it goes.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The value as text, if it is text.
    pub fn expose_text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// A secret that may be under way from one value to the next: make with the current, accept both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// What new things are made with.
    pub current: Secret,
    /// What older things were made with.
    pub previous: Option<Secret>,
}

impl Pair {
    /// Whether either value passes a test, the current one first.
    pub fn any(&self, mut passes: impl FnMut(&Secret) -> bool) -> bool {
        passes(&self.current) || self.previous.as_ref().is_some_and(passes)
    }
}

/// A secret that cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The folder or file cannot be used.
    #[error("the secret file {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The name is not one: lower-case letters, digits and hyphens.
    #[error("{0} is no name for a secret; use lower-case letters, digits and hyphens")]
    Name(String),
    /// The file has no content.
    #[error("the secret file {0} is empty; delete it to have a new one made, or write the secret into it")]
    Empty(String),
    /// The environment decides this one, so it cannot be changed here.
    #[error("{0} is set in the environment; change it there")]
    Fixed(String),
}

/// A folder of secrets; variables called `PREFIX_SECRET_NAME` (and `…_PREVIOUS`) take precedence over its files.
#[derive(Clone)]
pub struct Secrets {
    folder: PathBuf,
    start: String,
    variables: Arc<BTreeMap<String, Secret>>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.folder.display())
    }
}

impl Secrets {
    /// Opens the folder, which only its owner may read; makes it if need be.
    pub fn open(
        folder: &Path,
        prefix: &str,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, SecretError> {
        make_private_folder(folder).map_err(|e| file_error(folder, e))?;
        let start = format!("{prefix}_SECRET_");
        let ours = variables.into_iter().filter(|(name, _)| name.starts_with(&start));
        let variables = Arc::new(ours.map(|(name, value)| (name, Secret::new(value))).collect());
        Ok(Self { folder: folder.to_owned(), start, variables })
    }

    /// The secret of this name; 32 random bytes, as text, are made if there is none yet.
    pub fn made(&self, name: &str) -> Result<Pair, SecretError> {
        if let Some(pair) = self.given(name)? {
            return Ok(pair);
        }
        let path = self.folder.join(name);
        // Two processes on their first run may both come here: the file of one stays, and both read that.
        match self.write(&path, &random(), false) {
            Err(SecretError::File { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
        let current = read(&path)?.ok_or_else(|| file_error(&path, io::ErrorKind::NotFound.into()))?;
        Ok(Pair { current, previous: None })
    }

    /// The secret of this name if somebody put one there; for what cannot be made up, such as a provider's key.
    pub fn given(&self, name: &str) -> Result<Option<Pair>, SecretError> {
        check_name(name)?;
        let variable = self.variable(name);
        if let Some(current) = self.variables.get(&variable) {
            let previous = self.variables.get(&format!("{variable}_PREVIOUS")).cloned();
            return Ok(Some(Pair { current: current.clone(), previous }));
        }
        let path = self.folder.join(name);
        let Some(current) = read(&path)? else { return Ok(None) };
        Ok(Some(Pair { current, previous: read(&self.folder.join(format!("{name}{PREVIOUS}")))? }))
    }

    /// Makes a new random value; the one until now becomes the previous one and stays valid.
    pub fn rotate(&self, name: &str) -> Result<Pair, SecretError> {
        let before = self.made(name)?.current;
        if self.variables.contains_key(&self.variable(name)) {
            return Err(SecretError::Fixed(self.variable(name)));
        }
        // The previous one first: a crash in between leaves both files equal, never one value lost.
        self.write(&self.folder.join(format!("{name}{PREVIOUS}")), before.expose(), true)?;
        self.write(&self.folder.join(name), &random(), true)?;
        self.made(name)
    }

    fn variable(&self, name: &str) -> String {
        format!("{}{}", self.start, name.to_uppercase().replace('-', "_"))
    }

    /// Writes a whole file or none; readable by its owner only from the moment it exists.
    fn write(&self, path: &Path, value: &[u8], replace: bool) -> Result<(), SecretError> {
        let write = || -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
            file.write_all(value)?;
            file.as_file().sync_all()?;
            if replace {
                file.persist(path)?
            } else {
                file.persist_noclobber(path)?
            };
            fs::File::open(&self.folder)?.sync_all()
        };
        write().map_err(|e| file_error(path, e))
    }
}

fn random() -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.encode(secret_bytes::<32>()).into_bytes()
}

fn file_error(path: &Path, source: io::Error) -> SecretError {
    SecretError::File { path: path.display().to_string(), source }
}

fn check_name(name: &str) -> Result<(), SecretError> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if !name.is_empty() && name.bytes().all(good) { Ok(()) } else { Err(SecretError::Name(name.to_owned())) }
}

/// A file's content without the line end that editors add; none if there is no such file.
fn read(path: &Path) -> Result<Option<Secret>, SecretError> {
    let content = match fs::read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(file_error(path, error)),
    };
    let value = content.trim_ascii_end();
    if value.is_empty() {
        return Err(SecretError::Empty(path.display().to_string()));
    }
    warn_if_open(path);
    Ok(Some(Secret::new(value)))
}

#[cfg(unix)]
fn make_private_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn make_private_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

/// Mounted secrets may have modes that we cannot choose, so this is a warning and no refusal.
fn warn_if_open(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        if fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o077 != 0) {
            tracing::warn!(file = %path.display(), "others on this machine may read a secret; chmod 600 would stop them");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path, variables: &[(&str, &str)]) -> Secrets {
        Secrets::open(folder, "FX", variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))).unwrap()
    }

    #[test]
    fn a_secret_is_made_once_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path(), &[]).made("assertion").unwrap();
        assert_eq!(open(folder.path(), &[]).made("assertion").unwrap(), first);
        assert_eq!(first.current.expose().len(), 43, "32 bytes in base 64");
        assert_ne!(open(folder.path(), &[]).made("session").unwrap().current, first.current);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_files_and_folder() {
        use std::os::unix::fs::PermissionsExt as _;
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("secrets");
        let secrets = open(&folder, &[]);
        secrets.made("assertion").unwrap();
        secrets.rotate("assertion").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        assert_eq!([mode(&folder.join("assertion")), mode(&folder.join("assertion.previous"))], [0o600, 0o600]);
    }

    #[test]
    fn after_a_rotation_the_new_and_the_last_value_are_valid_and_older_ones_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = open(folder.path(), &[]);
        let oldest = secrets.made("assertion").unwrap().current;
        let second = secrets.rotate("assertion").unwrap();
        assert_eq!(second.previous.as_ref(), Some(&oldest));
        let third = secrets.rotate("assertion").unwrap();
        assert_eq!(secrets.made("assertion").unwrap(), third);
        assert!(third.any(|one| *one == second.current) && third.any(|one| *one == third.current));
        assert!(!third.any(|one| *one == oldest));
    }

    #[test]
    fn the_environment_takes_precedence_and_cannot_be_rotated_here() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = open(folder.path(), &[("FX_SECRET_CARD_KEY", "a"), ("FX_SECRET_CARD_KEY_PREVIOUS", "b")]);
        let pair = secrets.given("card-key").unwrap().unwrap();
        assert_eq!((pair.current.expose_text(), pair.previous), (Some("a"), Some(Secret::new("b"))));
        assert!(matches!(secrets.rotate("card-key"), Err(SecretError::Fixed(_))));
    }

    #[test]
    fn what_cannot_be_made_up_is_read_without_its_line_end_or_missing() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = open(folder.path(), &[]);
        assert_eq!(secrets.given("provider").unwrap(), None);
        fs::write(folder.path().join("provider"), "sk_1\n").unwrap();
        assert_eq!(secrets.given("provider").unwrap().unwrap().current, Secret::new("sk_1"));
        fs::write(folder.path().join("provider"), "\n").unwrap();
        assert!(matches!(secrets.given("provider"), Err(SecretError::Empty(_))));
        assert!(matches!(secrets.given("../provider"), Err(SecretError::Name(_))));
    }

    #[test]
    fn printing_shows_nothing_of_a_secret() {
        let pair = Pair { current: Secret::new("hush"), previous: Some(Secret::new("hush")) };
        assert_eq!(format!("{pair:?}"), "Pair { current: [secret], previous: Some([secret]) }");
    }
}
