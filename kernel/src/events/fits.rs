//! How many events one unit takes: many, as they share its commit, but not so many that others wait for it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Events of one unit, at most …
pub(crate) const MERGE: usize = 512;
/// … and as many bytes of them, so that memory stays bounded.
pub(crate) const MERGE_BYTES: usize = 4 << 20;
/// Positions or offsets that had nothing for us are written down with the next event, or after this many.
pub(crate) const SKIP: i64 = 256;
/// How long a unit may keep the only writer of a database. On a server units run side by side, and it does not count.
const QUANTUM: Duration = Duration::from_millis(2);

/// How many events of one publisher fit into a unit, as far as is known.
pub(crate) struct Fits(AtomicUsize);

impl Default for Fits {
    fn default() -> Self {
        Self(AtomicUsize::new(MERGE))
    }
}

impl Fits {
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// So many took longer than a unit may.
    pub(crate) fn too_many(&self, events: usize) {
        self.0.store((events / 2).max(1), Ordering::Relaxed);
    }

    /// So many kept the only writer for this long. Half of what was known stays: one look may have been disturbed.
    pub(crate) fn kept_the_writer(&self, events: usize, took: Duration) {
        let micros = took.as_micros().max(1);
        let fitting = (events as u128 * QUANTUM.as_micros() / micros).min(2 * MERGE as u128);
        let fitting = usize::try_from(fitting).unwrap_or(MERGE);
        self.0.store(self.get().midpoint(fitting).clamp(1, MERGE), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_shrink_to_the_time_that_others_can_wait_and_grow_again() {
        let fits = Fits::default();
        for _ in 0..20 {
            fits.kept_the_writer(fits.get(), Duration::from_micros(100) * u32::try_from(fits.get()).unwrap());
        }
        assert!((18..=22).contains(&fits.get()), "at 100 µs each: {}", fits.get());
        fits.kept_the_writer(1, Duration::from_secs(1));
        assert!((8..=11).contains(&fits.get()), "one slow event halves it: {}", fits.get());
        for _ in 0..20 {
            fits.kept_the_writer(10, Duration::from_micros(1));
        }
        assert_eq!(fits.get(), MERGE);
        fits.too_many(1);
        assert_eq!(fits.get(), 1, "never nothing");
    }
}
