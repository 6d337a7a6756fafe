//! Secrets in a folder: one file each, readable by their owner only, made at random on first use.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use futures::future::BoxFuture;

use super::{Pair, Provider, Secret, check_name};

const NEXT: &str = ".next";
const PREVIOUS: &str = ".previous";

/// A folder of secrets.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder; it is made if it is not there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(folder: &Path) -> io::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        Ok(Self(folder.to_owned()))
    }

    fn load(&self, file: &str) -> io::Result<Option<Secret>> {
        let path = self.0.join(file);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(Secret::new(&bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        }
    }

    /// A draft beside its place, so that nobody ever reads half a secret.
    fn draft(&self, secret: &Secret) -> io::Result<PathBuf> {
        let draft = self.0.join(format!(".{}", crate::ids::fresh().simple()));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(secret.reveal())?;
        file.sync_all()?;
        Ok(draft)
    }

    /// Made at random and linked into place: of several processes that start at once, one wins and all read the same.
    fn make(&self, name: &str) -> io::Result<Secret> {
        let draft = self.draft(&Secret::random())?;
        let placed = std::fs::hard_link(&draft, self.0.join(name));
        std::fs::remove_file(&draft)?;
        match placed {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => self.load(name)?.ok_or_else(|| io::Error::other(format!("the secret {name} vanished"))),
        }
    }

    fn put(&self, file: &str, secret: Option<&Secret>) -> io::Result<()> {
        let path = self.0.join(file);
        match secret {
            Some(secret) => std::fs::rename(self.draft(secret)?, path),
            None if path.exists() => std::fs::remove_file(path),
            None => Ok(()),
        }
    }
}

impl Folder {
    /// Lays a secret and what is accepted beside it into their files.
    ///
    /// # Errors
    /// A name that cannot be a file, or a folder that cannot be written.
    pub fn lay(&self, name: &str, pair: &Pair) -> io::Result<()> {
        check_name(name)?;
        // Beside it first: whoever reads between the moves accepts one too many, never one too few.
        self.put(&format!("{name}{PREVIOUS}"), pair.previous.as_ref())?;
        if pair.next.is_some() {
            self.put(&format!("{name}{NEXT}"), pair.next.as_ref())?;
        }
        self.put(name, Some(&pair.current))?;
        if pair.next.is_none() {
            self.put(&format!("{name}{NEXT}"), None)?;
        }
        Ok(())
    }
}

impl Provider for Folder {
    fn kind(&self) -> &'static str {
        "file"
    }

    fn read(&self, name: &str) -> io::Result<Pair> {
        check_name(name)?;
        let mut current = match self.load(name)? {
            Some(current) => current,
            None => self.make(name)?,
        };
        loop {
            let (next, previous) = (self.load(&format!("{name}{NEXT}"))?, self.load(&format!("{name}{PREVIOUS}"))?);
            // The three files are one only if none took its place meanwhile.
            match self.load(name)? {
                Some(still) if still != current => current = still,
                _ => {
                    // In the moment between the two moves of a promotion the next one is in place already.
                    let next = next.filter(|next| *next != current);
                    let previous = previous.filter(|previous| next.is_none() && *previous != current);
                    return Ok(Pair { current, next, previous });
                }
            }
        }
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.0)? {
            names.extend(entry?.file_name().into_string().ok().filter(|name| check_name(name).is_ok()));
        }
        names.sort();
        Ok(names)
    }

    fn write<'a>(&'a self, name: &'a str, pair: &'a Pair) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(std::future::ready(self.lay(name, pair)))
    }
}
