//! Whom engines run as: PostgreSQL and others refuse to be root, and a test has no business being it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// From root, the first of these that exists.
const STAND_INS: [&str; 2] = ["postgres", "nobody"];

/// Whom engines run as.
#[derive(Clone, Debug)]
pub(crate) struct User {
    name: String,
    uid: u32,
    gid: u32,
    /// Whether we are root and change into it.
    stands_in: bool,
}

impl User {
    /// Ourselves, or a stand-in when we are root.
    pub(crate) fn of_engines() -> Result<Self> {
        let (uid, gid) = ours()?;
        if uid != 0 {
            return Ok(Self { name: format!("uid {uid}"), uid, gid, stands_in: false });
        }
        let known = fs::read_to_string("/etc/passwd").context("cannot read the list of users")?;
        STAND_INS
            .iter()
            .find_map(|name| stand_in(&known, name))
            .with_context(|| format!("engines do not run as root, and there is no user {}", STAND_INS.join(" or ")))
    }

    /// Whether we are root.
    pub(crate) fn stands_in(&self) -> bool {
        self.stands_in
    }

    /// What `setpriv` has to be told; the parent-death signal comes last in it, because a change of user clears it.
    pub(crate) fn setpriv(&self) -> Vec<String> {
        let mut words = Vec::new();
        if self.stands_in {
            words.extend([format!("--reuid={}", self.uid), format!("--regid={}", self.gid), "--clear-groups".into()]);
        }
        words.extend(["--pdeathsig=KILL".into(), "--".into()]);
        words
    }

    /// Gives a file or folder, with everything in it, to this user.
    pub(crate) fn own(&self, path: &Path) -> Result<()> {
        if !self.stands_in {
            return Ok(());
        }
        chown(path, Some(self.uid), Some(self.gid)).with_context(|| format!("cannot give away {}", path.display()))?;
        if path.symlink_metadata()?.is_dir() {
            for entry in fs::read_dir(path)? {
                self.own(&entry?.path())?;
            }
        }
        Ok(())
    }

    /// Makes sure that this user can reach what lies in `folder`. Of a folder of ours the last step is opened; the
    /// folders above it are not ours to open.
    pub(crate) fn reach(&self, folder: &Path) -> Result<()> {
        if !self.stands_in {
            return Ok(());
        }
        for step in folder.ancestors() {
            let known = fs::metadata(step).with_context(|| format!("cannot look at {}", step.display()))?;
            let entry = if known.uid() == self.uid {
                0o100
            } else if known.gid() == self.gid {
                0o010
            } else {
                0o001
            };
            if known.mode() & entry != 0 {
                continue;
            }
            if step != folder {
                bail!(
                    "engines run as {}, who may not enter {}; choose a folder elsewhere, or: chmod o+x {}",
                    self.name,
                    step.display(),
                    step.display()
                );
            }
            fs::set_permissions(step, fs::Permissions::from_mode(known.mode() & 0o7777 | entry))
                .with_context(|| format!("cannot let {} enter {}", self.name, step.display()))?;
        }
        Ok(())
    }
}

/// Our effective user and group.
fn ours() -> Result<(u32, u32)> {
    let status = fs::read_to_string("/proc/self/status").context("engines need Linux with /proc")?;
    let id = |field: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(field))?;
        line.split_ascii_whitespace().nth(1)?.parse().ok()
    };
    id("Uid:").zip(id("Gid:")).context("/proc/self/status does not say who we are")
}

fn stand_in(known: &str, name: &str) -> Option<User> {
    let mut fields = known.lines().find(|l| l.split(':').next() == Some(name))?.split(':').skip(2);
    let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(User { name: name.to_owned(), uid, gid, stands_in: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stand_in_is_found_by_its_whole_name() {
        let known = "root:x:0:0::/:/bin/sh\nnobody2:x:7:7::/:/bin/sh\nnobody:x:65534:65533::/:/usr/sbin/nologin\n";
        let user = stand_in(known, "nobody").expect("it is there");
        assert_eq!((user.uid, user.gid), (65534, 65533));
        assert!(stand_in(known, "postgres").is_none());
    }

    #[test]
    fn a_closed_folder_above_is_named_with_what_opens_it() {
        let top = tempfile::tempdir().unwrap();
        let inner = top.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let stranger = User { name: "a stranger".into(), uid: 4_000_000, gid: 4_000_000, stands_in: true };
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o700)).unwrap();
        fs::set_permissions(top.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let refused = stranger.reach(&inner).unwrap_err().to_string();
        assert!(refused.contains(&format!("chmod o+x {}", top.path().display())), "{refused}");
        fs::set_permissions(top.path(), fs::Permissions::from_mode(0o711)).unwrap();
        stranger.reach(&inner).unwrap();
        assert_eq!(
            fs::metadata(&inner).unwrap().mode() & 0o777,
            0o701,
            "the last step is opened for passing through only"
        );
    }
}
