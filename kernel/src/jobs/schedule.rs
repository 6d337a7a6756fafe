//! When a job is due: triggers, cron expressions in their time zone, and waiting on either kind of clock.

use std::str::FromStr as _;
use std::time::Duration;

use chrono_tz::Tz;
use croner::Cron;

use crate::clock::{Clock, Timestamp};

/// How often a clock moved by hand is looked at.
const MANUAL_LOOK: Duration = Duration::from_millis(5);
/// A machine's clock may be set; nothing sleeps on its word for longer than this.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// What makes a job run.
#[derive(Clone, Copy, Debug)]
pub enum Trigger {
    /// At start if that much time has passed since the last run, then each time it passes again.
    Every(Duration),
    /// At the times of a cron expression on the wall clocks of a zone; a time missed while down is made up for once.
    Cron {
        /// Five fields, or six with seconds first.
        expr: &'static str,
        /// The zone, such as `Tz::UTC` or `Tz::Europe__Berlin`.
        zone: Tz,
    },
    /// After a unit that called [`Tx::wake`](crate::store::Tx::wake) with the job's name, and at start.
    Woken {
        /// And this long after the last run, in case a wake-up was lost with its process.
        sweep: Duration,
    },
}

/// The rule of a job that runs by time, checked.
pub(super) enum Schedule {
    Every(Duration),
    Cron(Box<Cron>, Tz),
}

impl Schedule {
    pub(super) fn cron(expr: &str, zone: Tz) -> Result<Self, String> {
        let cron =
            Cron::from_str(expr).map_err(|e| format!("has a cron expression that does not read: {expr}: {e}"))?;
        Ok(Self::Cron(Box::new(cron), zone))
    }

    /// The next due moment after a run; none for an expression that names no future time.
    pub(super) fn after(&self, last: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every(pause) => Some(last.plus(*pause)),
            Self::Cron(cron, zone) => {
                let local = last.to_chrono().with_timezone(zone);
                cron.find_next_occurrence(&local, false).ok().map(|next| next.to_utc().into())
            }
        }
    }
}

/// Waits until the clock shows `due`, or for as long as one may trust it; whoever waits looks again either way.
pub(super) async fn reach(clock: &Clock, due: Timestamp) {
    if clock.is_manual() {
        while clock.now() < due {
            tokio::time::sleep(MANUAL_LOOK).await;
        }
        return;
    }
    tokio::time::sleep(due.since(clock.now()).min(LONGEST_SLEEP)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_cron_time_keeps_to_the_wall_clock_of_its_zone_across_summer_time() {
        let daily = Schedule::cron("30 3 * * *", Tz::Europe__Berlin).unwrap();
        assert_eq!(daily.after(at("2026-03-27T12:00:00Z")), Some(at("2026-03-28T02:30:00Z")));
        assert_eq!(daily.after(at("2026-03-28T12:00:00Z")), Some(at("2026-03-29T01:30:00Z")));
    }

    #[test]
    fn a_cron_expression_that_does_not_read_is_refused_with_its_text() {
        assert!(Schedule::cron("often", Tz::UTC).err().unwrap().contains("often"));
    }

    #[test]
    fn an_interval_counts_from_the_last_run() {
        let every = Schedule::Every(Duration::from_secs(60));
        assert_eq!(every.after(at("2026-01-01T00:00:00Z")), Some(at("2026-01-01T00:01:00Z")));
    }
}
