//! Connections to an instance that wait for their next request.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::lanes;
use crate::line::Line;

/// Half of what a service keeps an idle connection, so that we rarely use one that it is just closing.
const KEPT: Duration = Duration::from_secs(30);
/// More are closed: so many are needed only for a moment.
const MOST: usize = 256;

type Waiting = VecDeque<Box<Line>>;

/// Those of one instance, the last used at the back. Each lane has its own: a connection wakes the runtime that opened it.
#[derive(Debug)]
pub(crate) struct Idle(Box<[Mutex<Waiting>]>);

impl Default for Idle {
    fn default() -> Self {
        Self((0..=lanes::count()).map(|_| Mutex::default()).collect())
    }
}

impl Idle {
    /// Those of the calling lane.
    fn here(&self) -> MutexGuard<'_, Waiting> {
        self.0[lanes::here()].lock()
    }

    /// The one that was used last, if it is fit for another request: the busiest stay warm, the others grow old and go.
    pub(crate) fn take(&self, now: Instant) -> Option<Box<Line>> {
        loop {
            let line = self.here().pop_back()?;
            if is_fit(&line, now) {
                return Some(line);
            }
        }
    }

    /// Keeps one whose exchange is over.
    pub(crate) fn put(&self, line: Box<Line>) {
        let mut lines = self.here();
        lines.push_back(line);
        let surplus = if lines.len() > MOST { lines.pop_front() } else { None };
        // Closing is a system call; others need not wait for it.
        drop(lines);
        drop(surplus);
    }

    /// Closes those that waited for too long or were closed by the instance.
    pub(crate) fn forget(&self) {
        let now = Instant::now();
        for lines in &self.0 {
            lines.lock().retain(|line| is_fit(line, now));
        }
    }
}

fn is_fit(line: &Line, now: Instant) -> bool {
    now.duration_since(line.used) < KEPT && line.is_quiet()
}
