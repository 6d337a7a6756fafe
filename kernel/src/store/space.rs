//! Room on the disk that holds a store's data: noticed when it runs out, told, and looked for until there is some again.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::Rng as _;

use super::engine::Engine;
use super::error::StoreError;

/// What the disk must take before units are let at it again, or it would be full again after the first few.
const ENOUGH: usize = 1 << 20;
/// Between two looks for room: at first, and at the most after doubling.
const FIRST: Duration = Duration::from_millis(250);
const MOST: Duration = Duration::from_secs(5);
/// A disk that is full again so soon after there was room is the same trouble, and the looks go on getting rarer.
const SAME: Duration = Duration::from_secs(10);
/// Nobody can look at a server's disk, and some units find room on it where others do not: it counts as full for so long
/// after it last said so.
const BELIEVED: Duration = Duration::from_secs(10);

/// The disk of one store.
pub(crate) struct Space {
    disk: Disk,
    state: Mutex<State>,
}

enum Disk {
    /// The folder of a file, and what is written there to see whether there is room.
    Folder {
        folder: PathBuf,
        trial: PathBuf,
    },
    Server,
}

#[derive(Default)]
struct State {
    full: bool,
    pause: Duration,
    /// When it was last said to be full, or found to have room again.
    at: Option<Instant>,
    /// When to look for room, and when to tell of it again.
    next: Option<Instant>,
}

impl State {
    /// The disk is full at this moment; says whether that is to be told.
    fn filled(&mut self, now: Instant) -> bool {
        let same = self.at.is_some_and(|at| now < at + SAME);
        let told = self.full && self.next.is_some_and(|next| now < next);
        (self.full, self.at) = (true, Some(now));
        if told {
            return false;
        }
        self.pause = if same { (self.pause * 2).clamp(FIRST, MOST) } else { FIRST };
        self.next = Some(now + self.pause);
        true
    }

    fn emptied(&mut self, now: Instant) {
        (self.full, self.at) = (false, Some(now));
    }

    fn is_time_to_look(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| now >= next)
    }
}

impl Space {
    /// The disk that this engine writes to.
    pub(super) fn of(engine: &Engine) -> Self {
        let disk = match engine {
            Engine::Postgres(_) => Disk::Server,
            Engine::Sqlite { path } => {
                let name = path.file_name().map_or_else(|| "store".into(), |name| name.to_string_lossy());
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                let folder = folder.unwrap_or(Path::new(".")).to_owned();
                Disk::Folder { trial: folder.join(format!(".{name}.room")), folder }
            }
        };
        Self { disk, state: Mutex::default() }
    }

    /// What a unit is told for which there is no room. The same at all times, so that whoever repeats it can leave it out.
    pub(super) fn no_room(&self) -> StoreError {
        StoreError::full(self.remedy())
    }

    fn remedy(&self) -> String {
        match &self.disk {
            Disk::Folder { folder, .. } => format!(
                "the disk that holds {} is full: make room there, or start the city with its folder (--data) on a larger one; once there is room, work goes on without a restart",
                folder.display()
            ),
            Disk::Server => "the disk of the server that postgres.url names is full: make room there; work goes on without a restart".to_owned(),
        }
    }

    /// Notes an error that may be about room.
    pub(super) fn heed(&self, error: Option<&StoreError>) {
        if let Some(error) = error.filter(|error| error.is_full()) {
            self.ran_out(error);
        }
    }

    /// The error as what it is: a full disk shows as one thing in a statement, and as others where files are opened.
    pub(super) fn explain(&self, error: StoreError) -> StoreError {
        let full = error.is_full() || (matches!(error, StoreError::Engine(_)) && self.is_full());
        if !full {
            return error;
        }
        self.ran_out(&error);
        self.no_room()
    }

    fn ran_out(&self, said: &StoreError) {
        let mut state = self.state.lock();
        if state.filled(Instant::now()) {
            tracing::error!(error = %said, again_in_s = state.pause.as_secs_f32(), "{}", self.remedy());
        }
    }

    /// Lets a unit in unless the disk is known to be full; looks, when it is time to, whether it still is.
    pub(super) fn admit(&self) -> Result<(), StoreError> {
        let now = Instant::now();
        {
            let state = self.state.lock();
            if !state.full || matches!(self.disk, Disk::Server) {
                return Ok(());
            }
            if !state.is_time_to_look(now) {
                return Err(self.no_room());
            }
        }
        // Without the lock: only the writer looks, and probes need not wait for the disk.
        let full = self.is_full();
        let mut state = self.state.lock();
        if full {
            state.filled(now);
            tracing::error!(again_in_s = state.pause.as_secs_f32(), "{}", self.remedy());
            return Err(self.no_room());
        }
        state.emptied(now);
        tracing::info!("there is room on the disk again, and work goes on");
        Ok(())
    }

    /// Whether units find room, as far as is known.
    pub(super) fn has_room(&self) -> Result<(), String> {
        let state = self.state.lock();
        let over = matches!(self.disk, Disk::Server) && state.at.is_none_or(|at| at.elapsed() > BELIEVED);
        if state.full && !over { Err(self.remedy()) } else { Ok(()) }
    }

    /// Tries whether the disk takes a file of a useful size. Of a server's nothing is known.
    fn is_full(&self) -> bool {
        let Disk::Folder { trial, .. } = &self.disk else { return false };
        let tried = try_to_write(trial);
        // Where it could not even be made there is nothing to remove.
        drop(fs::remove_file(trial));
        tried.is_err_and(|e| matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

fn try_to_write(path: &Path) -> io::Result<()> {
    // Nothing that a file system could store in less room than it has.
    let mut noise = vec![0; ENOUGH];
    rand::rng().fill_bytes(&mut noise);
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(path)?;
    file.write_all(&noise)?;
    // Some file systems notice only now.
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_get_rarer_and_each_is_told_once() {
        let (mut state, mut now) = (State::default(), Instant::now());
        let mut told = Vec::new();
        for _ in 0..4000 {
            if state.filled(now) {
                told.push(state.pause.as_millis());
            }
            now += Duration::from_millis(5);
        }
        assert_eq!(told, [250, 500, 1000, 2000, 4000, 5000, 5000, 5000]);
    }

    #[test]
    fn a_disk_that_is_full_again_at_once_is_the_same_trouble_and_later_a_new_one() {
        let (mut state, now) = (State::default(), Instant::now());
        assert!(state.filled(now));
        state.emptied(now + FIRST);
        assert!(state.filled(now + FIRST * 2) && state.pause == FIRST * 2);
        state.emptied(now + FIRST * 4);
        assert!(state.filled(now + FIRST * 4 + SAME) && state.pause == FIRST);
    }

    #[test]
    fn a_folder_with_room_takes_the_trial_and_keeps_nothing_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let space = Space::of(&Engine::Sqlite { path: folder.path().join("a.sqlite") });
        assert!(!space.is_full());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let other = space.explain(StoreError::Engine("disk I/O error".to_owned()));
        assert!(matches!(other, StoreError::Engine(_)), "{other}");
    }

    #[test]
    fn a_server_that_once_had_no_room_lets_units_in_and_is_not_ready() {
        let space = Space::of(&Engine::Postgres(super::super::Server::new("postgres://db/city", "orders")));
        space.heed(Some(&StoreError::full("could not extend file (53100)")));
        assert!(space.admit().is_ok());
        assert!(space.has_room().unwrap_err().contains("postgres.url"));
    }
}
