//! Proofs that come out of time: whose clock differs from ours, by how much, and what to do about it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::assertion::{LIFE, SKEW};
use crate::clock::Timestamp;

/// Between two lines about the same caller.
const TELL: Duration = Duration::from_secs(60);

/// When a proof was made by the clock of whoever made it, and what time it was here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfTime {
    /// By the caller's clock.
    pub made: Timestamp,
    /// By this machine's.
    pub here: Timestamp,
}

impl fmt::Display for OutOfTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { made, here } = *self;
        let (by, word) = if made > here { (made.since(here), "ahead") } else { (here.since(made), "old") };
        write!(
            f,
            "the proof was made at {made} by the caller's clock, and here it is {here}: it is {} s {word}, where {SKEW} s ahead and {} s old are allowed; set the clocks of both machines by NTP",
            by.as_secs(),
            LIFE + SKEW
        )
    }
}

/// Who was told of, and when.
#[derive(Debug, Default)]
pub(super) struct Late(Mutex<BTreeMap<String, Instant>>);

impl Late {
    /// Tells of a caller whose proof came out of time, once a minute: it may call a thousand times in it. Only who holds
    /// the secret is told of, so there are no more of them than members.
    pub(super) fn tell(&self, caller: &str, apart: OutOfTime) {
        if self.is_news(caller, Instant::now()) {
            tracing::warn!(caller, error = %apart, "a call was refused because of its time");
        }
    }

    fn is_news(&self, caller: &str, now: Instant) -> bool {
        let mut told = self.0.lock();
        let news = told.get(caller).is_none_or(|last| now.duration_since(*last) >= TELL);
        if news {
            told.insert(caller.to_owned(), now);
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

    #[test]
    fn a_clock_an_hour_off_is_told_with_both_times_and_the_remedy() {
        let hour = Duration::from_secs(3600);
        for (here, word) in [(NOW.plus(hour), "3600 s old"), (NOW.minus(hour), "3600 s ahead")] {
            let said = OutOfTime { made: NOW, here }.to_string();
            for part in [&*NOW.to_string(), &*here.to_string(), word, "NTP"] {
                assert!(said.contains(part), "{part} in {said}");
            }
        }
    }

    #[test]
    fn each_caller_is_told_of_once_a_minute() {
        let (late, now) = (Late::default(), Instant::now());
        let news = |caller, after| late.is_news(caller, now + Duration::from_secs(after));
        assert_eq!(
            [("a", 0), ("a", 59), ("b", 59), ("a", 60), ("b", 61)].map(|(c, s)| news(c, s)),
            [true, false, true, true, false]
        );
    }
}
