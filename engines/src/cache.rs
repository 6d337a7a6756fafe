//! Where slow builds are kept between runs: by name and version, outside of any checkout, built once even if two runs want
//! them at the same time.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::user::User;

/// Tells whoever waits what takes so long.
pub(crate) type Say = dyn Fn(&str) + Send + Sync;

/// Where builds are kept unless somebody says otherwise: the user's cache; from root the system's, because engines run as
/// another user, whom root's home is closed to.
///
/// # Errors
/// When it cannot be told who we are, or where our home is.
pub fn default_cache() -> Result<PathBuf> {
    const OURS: &str = "foodexpress/engines";
    if User::of_engines()?.stands_in() {
        return Ok(Path::new("/var/cache").join(OURS));
    }
    let named = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    let cache = named.or_else(|| Some(std::env::home_dir()?.join(".cache")));
    Ok(cache.context("no home folder; name a cache by FX_ENGINE_CACHE")?.join(OURS))
}

/// The folder of slow builds.
pub(crate) struct Cache {
    root: PathBuf,
    user: User,
}

/// What the cache has of one build.
pub(crate) enum Found {
    /// It is there.
    There,
    /// It is to be built, and nobody else does.
    ToBuild(Draft),
}

/// A build that is under way.
pub(crate) struct Draft {
    /// Where to build.
    pub(crate) folder: PathBuf,
    whole: PathBuf,
    _lock: File,
}

impl Cache {
    pub(crate) fn new(root: &Path, user: User) -> Self {
        Self { root: root.to_owned(), user }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Whom the engines run as that use what lies here.
    pub(crate) fn user(&self) -> &User {
        &self.user
    }

    /// The build of this name, or the right to make it; waits for whoever makes it now.
    pub(crate) async fn find(&self, name: &str) -> Result<Found> {
        fs::create_dir_all(&self.root).with_context(|| format!("cannot make {}", self.root.display()))?;
        self.user.reach(&self.root)?;
        let whole = self.root.join(name);
        if whole.exists() {
            return Ok(Found::There);
        }
        let lock = self.lock(name).await?;
        if whole.exists() {
            return Ok(Found::There);
        }
        let folder = self.root.join(format!("{name}.draft"));
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir(&folder)?;
        Ok(Found::ToBuild(Draft { folder, whole, _lock: lock }))
    }

    /// Keeps everybody else from making the thing of this name while the guard lives.
    pub(crate) async fn lock(&self, name: &str) -> Result<File> {
        let path = self.root.join(format!("{name}.lock"));
        let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
        tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await?.context("cannot lock the cache")
    }
}

impl Draft {
    /// The build is whole: everybody may see it now.
    pub(crate) fn finish(self) -> Result<()> {
        open_to_all(&self.folder)?;
        fs::rename(&self.folder, &self.whole).with_context(|| format!("cannot make {}", self.whole.display()))
    }
}

/// Readable for the engines' user, whatever mask the builder had.
pub(crate) fn open_to_all(path: &Path) -> Result<()> {
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    let runs = path.is_dir() || mode & 0o100 != 0;
    fs::set_permissions(path, Permissions::from_mode(if runs { mode | 0o755 } else { mode | 0o644 }))?;
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            open_to_all(&entry?.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn two_who_want_the_same_build_get_one() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::new(root.path(), User::of_engines().unwrap());
        let Found::ToBuild(draft) = cache.find("thing-1").await.unwrap() else { panic!("nothing is there yet") };
        fs::write(draft.folder.join("program"), "whole").unwrap();
        let second = cache.find("thing-1");
        tokio::pin!(second);
        let early = tokio::time::timeout(Duration::from_millis(200), &mut second).await;
        assert!(early.is_err(), "the second waits for the first");
        draft.finish().unwrap();
        assert!(matches!(second.await.unwrap(), Found::There), "built twice");
        assert_eq!(fs::read_to_string(root.path().join("thing-1/program")).unwrap(), "whole");
    }

    #[tokio::test]
    async fn a_build_that_was_broken_off_begins_anew() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::new(root.path(), User::of_engines().unwrap());
        let Found::ToBuild(draft) = cache.find("thing-1").await.unwrap() else { panic!("nothing is there yet") };
        fs::write(draft.folder.join("program"), "half").unwrap();
        drop(draft);
        let Found::ToBuild(again) = cache.find("thing-1").await.unwrap() else { panic!("half a build is none") };
        assert_eq!(fs::read_dir(&again.folder).unwrap().count(), 0);
    }
}
