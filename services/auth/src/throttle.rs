//! Slows guessing at one account. An address that no account has is slowed alike, so it does not show which exist.
//!
//! Kept in memory: a restart forgives, and the gateway's limits per address hold whatever this forgets.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use kernel::clock::Timestamp;

/// Wrong passwords in a row that cost nothing yet: people mistype.
const FREE: u32 = 5;
/// The longest wait. Somebody who guesses on purpose can keep the owner waiting this long, but not locked out.
const LONGEST: Duration = Duration::from_secs(60);
/// When old failures are forgotten.
const FORGET: Duration = Duration::from_secs(15 * 60);
/// So many addresses are remembered; a flood of made-up ones must not fill the memory.
const MOST: usize = 10_000;

type Key = [u8; 32];

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Timestamp,
}

impl Failures {
    fn wait(self) -> Duration {
        match self.count.checked_sub(FREE) {
            None => Duration::ZERO,
            Some(over) => Duration::from_secs(1 << over.min(6)).min(LONGEST),
        }
    }
}

/// Remembers wrong passwords per address.
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<HashMap<Key, Failures>>);

impl Throttle {
    /// How long the next try has to wait, if it has to.
    pub(crate) fn wait(&self, email: &str, now: Timestamp) -> Option<Duration> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = known.get(&key(email))?;
        let free_at = failures.last.plus(failures.wait());
        (now < free_at).then(|| free_at.since(now))
    }

    /// A wrong password.
    pub(crate) fn failed(&self, email: &str, now: Timestamp) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = key(email);
        if known.len() >= MOST && !known.contains_key(&key) {
            make_room(&mut known, now);
        }
        let failures = known.entry(key).or_insert(Failures { count: 0, last: now });
        let forgotten = now.since(failures.last) >= FORGET;
        *failures = Failures { count: if forgotten { 1 } else { failures.count.saturating_add(1) }, last: now };
    }

    /// The right password.
    pub(crate) fn succeeded(&self, email: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&key(email));
    }
}

fn make_room(known: &mut HashMap<Key, Failures>, now: Timestamp) {
    known.retain(|_, failures| now.since(failures.last) < FORGET);
    if known.len() >= MOST
        && let Some(oldest) = known.iter().min_by_key(|(_, failures)| failures.last).map(|(key, _)| *key)
    {
        known.remove(&oldest);
    }
}

fn key(email: &str) -> Key {
    digest(&SHA256, email.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

    #[test]
    fn each_failure_past_the_free_ones_doubles_the_wait_up_to_a_minute() {
        let throttle = Throttle::default();
        let mut waits = Vec::new();
        for _ in 0..14 {
            throttle.failed("a@b", START);
            waits.push(throttle.wait("a@b", START).map_or(0, |wait| wait.as_secs()));
        }
        assert_eq!(waits, [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60, 60]);
        assert_eq!(throttle.wait("a@b", START.plus(LONGEST)), None);
        assert_eq!(throttle.wait("c@d", START), None);
        throttle.succeeded("a@b");
        assert_eq!(throttle.wait("a@b", START), None);
    }

    #[test]
    fn failures_are_forgotten_after_a_while_and_memory_is_bounded() {
        let throttle = Throttle::default();
        for _ in 0..9 {
            throttle.failed("a@b", START);
        }
        let later = START.plus(FORGET);
        throttle.failed("a@b", later);
        assert_eq!(throttle.wait("a@b", later), None, "this one counts as the first");
        for n in 0..=MOST {
            throttle.failed(&format!("{n}@b"), later);
        }
        assert_eq!(throttle.0.lock().unwrap().len(), MOST);
    }
}
