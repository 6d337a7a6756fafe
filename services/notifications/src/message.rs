//! A message's states, and what a failed try leads to.

use std::time::Duration;

use kernel::clock::Timestamp;

use crate::Settings;

/// No wait between two tries is longer than this.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

kernel::words! {
    /// Where a message stands. The last two are ends.
    pub(crate) enum MessageStatus {
        /// Written down, to be handed to its channel.
        Queued = "QUEUED",
        /// Its channel has taken it.
        Sent = "SENT",
        /// Its channel would not take it, and will not be asked again.
        Failed = "FAILED",
    }
}

/// Why a channel did not take a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    /// Trying again may help.
    #[error("{0}")]
    Passing(String),
    /// Trying again cannot help, as with an address that does not exist.
    #[cfg_attr(not(test), expect(dead_code, reason = "the mailbox takes every message; a provider outside may not"))]
    #[error("{0}")]
    Final(String),
}

/// When to try again after the `tries`th try failed; never, once there have been enough.
pub(crate) fn next_try(settings: &Settings, tries: i64, trouble: &Trouble, now: Timestamp) -> Option<Timestamp> {
    let past = u32::try_from(tries).unwrap_or(u32::MAX);
    if matches!(trouble, Trouble::Final(_)) || past >= settings.most_tries {
        return None;
    }
    let doubled = 1_u64.checked_shl(past.saturating_sub(1)).unwrap_or(u64::MAX);
    let wait = Duration::from_millis(settings.first_wait_ms.saturating_mul(doubled));
    Some(now.plus(wait.min(LONGEST_WAIT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_end() {
        let (settings, now) = (Settings::default(), Timestamp::from_micros(0));
        let trouble = Trouble::Passing("busy".into());
        let waits: Vec<_> =
            (1..=8).map(|tries| next_try(&settings, tries, &trouble, now).map(Timestamp::seconds)).collect();
        assert_eq!(waits, [Some(1), Some(2), Some(4), Some(8), Some(16), Some(32), Some(60), None]);
        let endless = Settings { most_tries: u32::MAX, ..settings };
        assert_eq!(next_try(&endless, 1_000_000, &trouble, now).map(Timestamp::seconds), Some(60));
    }

    #[test]
    fn what_cannot_help_is_not_tried_again() {
        let settings = Settings::default();
        assert_eq!(next_try(&settings, 1, &Trouble::Final("no such address".into()), Timestamp::default()), None);
    }
}
