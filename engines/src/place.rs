//! The folder of one run: who runs in it, with which ports and passwords.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use parking_lot::Mutex;
use rand::RngExt as _;

use crate::cache::Cache;
use crate::spawn::{Leash, Line};
use crate::table::Engine;
use crate::user::User;

/// What engines keep below the folder that was named: everything of a run is thrown away with it.
const FOLDER: &str = "engines";

/// The folder of one run and what its engines share.
pub(crate) struct Place {
    /// The folder that was named.
    pub(crate) named: PathBuf,
    root: PathBuf,
    user: User,
    pub(crate) leash: Leash,
    pub(crate) cache: Cache,
    password: String,
    kafka_id: String,
    ports: Mutex<BTreeMap<&'static str, BTreeMap<&'static str, u16>>>,
    primary: Mutex<&'static str>,
    _lock: File,
}

impl Place {
    /// Takes the folder and clears it of what an earlier run left.
    ///
    /// # Errors
    /// When a run is going on in it, or when the engines' user cannot reach it.
    pub(crate) fn open(named: &Path, cache: &Path) -> Result<Self> {
        let user = User::of_engines()?;
        let named = made(named)?;
        user.reach(&named)?;
        let root = made(&named.join(FOLDER))?;
        let lock = lock(&named)?;
        for entry in fs::read_dir(&root)?.flatten() {
            // The log of the process that is starting us is open already.
            if entry.path().is_dir() {
                fs::remove_dir_all(entry.path())?;
            }
        }
        for part in ["logs", "pids", "secrets"] {
            made(&root.join(part))?;
        }
        fs::set_permissions(&root, Permissions::from_mode(0o700))?;
        user.own(&root)?;
        Ok(Self {
            named,
            leash: Leash::new(user.clone())?,
            cache: Cache::new(cache, user.clone()),
            user,
            root,
            password: random_word(32),
            // Kafka wants 16 bytes in base64; the last letter holds two bits of them.
            kafka_id: format!("{}A", random_word(21)),
            ports: Mutex::default(),
            primary: Mutex::new("postgres"),
            _lock: lock,
        })
    }

    /// A path in the folder of the run.
    pub(crate) fn path(&self, part: &str) -> PathBuf {
        self.root.join(part)
    }

    /// Whose password this is depends on the engine; it is the same for all of one run.
    pub(crate) fn password(&self) -> &str {
        &self.password
    }

    pub(crate) fn kafka_id(&self) -> &str {
        &self.kafka_id
    }

    /// The node that takes writes of PostgreSQL.
    pub(crate) fn primary(&self) -> &'static str {
        *self.primary.lock()
    }

    pub(crate) fn set_primary(&self, node: &'static str) {
        *self.primary.lock() = node;
    }

    /// A node's ports, if it has any yet.
    pub(crate) fn ports(&self, node: &str) -> Option<BTreeMap<&'static str, u16>> {
        self.ports.lock().get(node).cloned()
    }

    pub(crate) fn set_ports(&self, node: &'static str, ports: BTreeMap<&'static str, u16>) {
        self.ports.lock().insert(node, ports);
    }

    /// Writes a file that the engines' user alone can read.
    pub(crate) fn write(&self, path: &Path, text: &str) -> Result<()> {
        private(path, text)?;
        self.user.own(path)
    }

    /// Makes a folder of the engines' user.
    pub(crate) fn make(&self, folder: &Path) -> Result<()> {
        made(folder)?;
        fs::set_permissions(folder, Permissions::from_mode(0o700))?;
        self.user.own(folder)
    }

    /// Removes what the engines of this run kept, but for their logs.
    pub(crate) fn clear(&self) {
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            if entry.path().is_dir() && entry.file_name() != "logs" {
                // The next run clears what is left.
                drop(fs::remove_dir_all(entry.path()));
            }
        }
    }
}

/// One node at its place.
#[derive(Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) place: &'a Place,
    pub(crate) engine: &'static Engine,
    pub(crate) node: &'static str,
}

impl Site<'_> {
    pub(crate) fn folder(&self) -> PathBuf {
        self.place.path(self.node)
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder().join("data")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.place.path("logs").join(format!("{}.log", self.node))
    }

    /// One of its ports, by the name that the table has for it.
    pub(crate) fn port(&self, name: &str) -> Result<u16> {
        let ports = self.place.ports(self.node).with_context(|| format!("{} has no ports", self.node))?;
        ports.get(name).copied().with_context(|| format!("{} has no port {name}", self.node))
    }

    pub(crate) fn address(&self, name: &str) -> Result<String> {
        Ok(format!("127.0.0.1:{}", self.port(name)?))
    }

    /// The same engine's or another's node at this place.
    pub(crate) fn beside(&self, node: &'static str) -> Result<Self> {
        Ok(Self { place: self.place, engine: crate::table::of_node(node)?, node })
    }

    /// Runs a program of this engine to its end, as the engines' user, in the node's folder.
    pub(crate) async fn run(&self, line: &Line) -> Result<()> {
        self.place.leash.run(line, &self.folder(), &self.log()).await
    }

    /// The program that the table says this engine needs.
    pub(crate) fn program(&self, name: &str) -> Result<PathBuf> {
        let need = self.engine.programs.iter().find(|n| n.program == name);
        need.and_then(crate::program::Need::find).with_context(|| format!("{} needs {name}", self.engine.name))
    }
}

/// Keeps a second run out of the folder while the guard lives.
fn lock(named: &Path) -> Result<File> {
    let file = File::create(lock_file(named))?;
    if file.try_lock().is_err() {
        return Err(taken(named));
    }
    Ok(file)
}

pub(crate) fn taken(named: &Path) -> anyhow::Error {
    let at = named.display();
    anyhow!(
        "engines run in {at} already; stop them with `foodexpress engines down --data {at}`, or name another folder"
    )
}

fn lock_file(named: &Path) -> PathBuf {
    named.join(FOLDER).join("lock")
}

/// Where the process that holds the engines listens for others.
pub(crate) fn control_socket(named: &Path) -> PathBuf {
    named.join(FOLDER).join("control.sock")
}

/// Where a supervisor of its own writes what it says.
pub(crate) fn supervisor_log(named: &Path) -> PathBuf {
    named.join(FOLDER).join("supervisor.log")
}

/// Whether engines run in the folder: the lock dies with whoever holds it.
pub(crate) fn is_taken(named: &Path) -> bool {
    File::open(lock_file(named)).is_ok_and(|file| file.try_lock_shared().is_err())
}

fn made(folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    folder.canonicalize().with_context(|| format!("cannot open {}", folder.display()))
}

/// Writes a file that its owner alone can read, so that whoever reads sees the old text or the new, never half of one.
pub(crate) fn private(path: &Path, text: &str) -> Result<()> {
    let draft = path.with_extension("draft");
    let write = || {
        // A draft that a crash left may have other permissions.
        drop(fs::remove_file(&draft));
        let mut file = File::options().write(true).create_new(true).open(&draft)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(text.as_bytes())?;
        fs::rename(&draft, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn random_word(letters: usize) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut random = rand::rng();
    (0..letters).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()
}
