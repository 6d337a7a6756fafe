//! Secrets: one file each, readable by their owner only, made at random on first use, two valid at a time.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A secret that does not show itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The bytes. Hand them to what needs them and nowhere else.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }

    /// The secret as text, for keys that travel in headers.
    pub fn reveal_text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The secrets of one city: a folder of files.
#[derive(Clone, Debug)]
pub struct Secrets {
    folder: PathBuf,
}

/// A secret and the one it replaced, which stays good until everybody has the new one.
#[derive(Clone, Debug)]
pub struct Pair {
    /// What to sign with.
    pub current: Secret,
    /// What to accept as well.
    pub previous: Option<Secret>,
}

impl Secrets {
    /// The secrets in this folder; it is made if it is not there.
    pub fn open(folder: &Path) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// The secret of this name; made at random the first time anybody asks.
    pub fn get(&self, name: &str) -> io::Result<Secret> {
        let path = self.folder.join(name);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Secret(bytes.trim_ascii().to_vec())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make(name, &path),
            Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        }
    }

    /// The secret and its predecessor.
    pub fn pair(&self, name: &str) -> io::Result<Pair> {
        let current = self.get(name)?;
        let previous =
            std::fs::read(self.folder.join(format!("{name}.previous"))).ok().map(|b| Secret(b.trim_ascii().to_vec()));
        Ok(Pair { current, previous })
    }

    /// Replaces a secret; the old one stays valid as its predecessor until the next rotation.
    pub fn rotate(&self, name: &str) -> io::Result<Secret> {
        let path = self.folder.join(name);
        self.get(name)?;
        std::fs::rename(&path, self.folder.join(format!("{name}.previous")))?;
        self.make(name, &path)
    }

    fn make(&self, name: &str, path: &Path) -> io::Result<Secret> {
        let text: String = crate::ids::secret_bytes::<32>().iter().map(|b| format!("{b:02x}")).collect();
        // Written aside and linked into place: of several processes that start at once, one wins and all read the same.
        let draft = self.folder.join(format!(".{name}.{}", crate::ids::fresh().simple()));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        let placed = std::fs::hard_link(&draft, path);
        std::fs::remove_file(&draft)?;
        match placed {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(Secret(std::fs::read(path)?.trim_ascii().to_vec())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_secret_is_made_once_kept_private_and_rotated_with_its_predecessor() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::open(&folder.path().join("secrets")).unwrap();
        let first = secrets.get("internal").unwrap();
        assert_eq!(secrets.get("internal").unwrap(), first);
        assert_eq!(first.reveal().len(), 64);
        let mode = std::fs::metadata(folder.path().join("secrets/internal")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = secrets.rotate("internal").unwrap();
        let pair = secrets.pair("internal").unwrap();
        assert_ne!(second, first);
        assert_eq!((pair.current, pair.previous), (second, Some(first.clone())));
        assert!(!format!("{first:?}").contains(&first.reveal_text()));
    }
}
