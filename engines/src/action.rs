//! What can be done to a running node, by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What can be done to a running node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// SIGKILL to all its processes; returns when they are gone.
    Kill,
    /// Ends it as its makers meant it to be ended if it runs, starts it on its old addresses, waits until it answers.
    Restart,
    /// SIGSTOP to all its processes: connections stay open, nothing answers.
    Freeze,
    /// SIGCONT after a freeze.
    Thaw,
    /// Kills it, throws its data away and starts it empty.
    Wipe,
    /// Makes the standby the primary and points `PgBouncer` at it. Nothing fences the old primary: kill it before.
    Promote,
    /// Turns the former primary into a standby of the present one by `pg_rewind`.
    Rejoin,
    /// Stops the replay of WAL on the standby, so that its reads grow old.
    Pause,
    /// Lets the replay go on.
    Resume,
    /// Has the primary acknowledge only what its standby has on disk as well, so that a failover loses nothing.
    Synchronize,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Kill,
        Self::Restart,
        Self::Freeze,
        Self::Thaw,
        Self::Wipe,
        Self::Promote,
        Self::Rejoin,
        Self::Pause,
        Self::Resume,
        Self::Synchronize,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Restart => "restart",
            Self::Freeze => "freeze",
            Self::Thaw => "thaw",
            Self::Wipe => "wipe",
            Self::Promote => "promote",
            Self::Rejoin => "rejoin",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Synchronize => "synchronize",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Action {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|a| a.name() == text).ok_or_else(|| format!("{text} is none of {}", known()))
    }
}
