//! CPU time of processes that are measured, finer than the system's own steps of 10 ms where it tells.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use crate::city::cpu_micros;

/// What some processes have used up to a moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Used(BTreeMap<u32, Accounts>);

/// The process's own account counts threads that have ended, in whole steps; its threads' are exact, but end with them.
#[derive(Clone, Copy, Debug, Default)]
struct Accounts {
    process: Duration,
    threads: Duration,
}

impl Used {
    /// Reads the accounts of these processes.
    pub(super) fn by(pids: impl IntoIterator<Item = u32>) -> Self {
        let accounts = |pid| {
            let process = Duration::from_micros(cpu_micros(pid).unwrap_or(0));
            (pid, Accounts { process, threads: threads(pid).unwrap_or_default() })
        };
        Self(pids.into_iter().map(accounts).collect())
    }

    /// The same with all processes below these. What ends in between is lost but for what is still running then: workers
    /// of a server that live as long as a round are counted whole.
    pub(super) fn by_all_below(tops: &[u32]) -> Self {
        let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
                let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
                let parent = stat.rsplit(')').next()?.split_ascii_whitespace().nth(1)?.parse().ok()?;
                Some((pid, parent))
            })
            .collect();
        let mut family = tops.to_vec();
        let mut grown = 0;
        while grown < family.len() {
            let parent = family[grown];
            family.extend(parents.iter().filter(|(_, above)| *above == parent).map(|(pid, _)| *pid));
            grown += 1;
        }
        Self::by(family)
    }

    /// What they have used since then.
    pub(super) fn since(&self, before: &Self) -> Duration {
        let grown = |(pid, now): (&u32, &Accounts)| {
            let then = before.0.get(pid).copied().unwrap_or_default();
            now.process.saturating_sub(then.process).max(now.threads.saturating_sub(then.threads))
        };
        self.0.iter().map(grown).sum()
    }
}

fn threads(pid: u32) -> Option<Duration> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let nanos = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split_ascii_whitespace().next()?.parse::<u64>().ok()
    });
    Some(Duration::from_nanos(nanos.sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_shows_in_the_time_of_this_process_and_of_nobody() {
        let here = || Used::by([std::process::id()]);
        let before = here();
        let mut sum = 0_u64;
        while here().since(&before).is_zero() {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert_eq!(Used::by([]).since(&before), Duration::ZERO);
    }
}
