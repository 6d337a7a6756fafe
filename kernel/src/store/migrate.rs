//! Schema steps: written once with PostgreSQL's type words, run in order, each in a transaction of its own.

use super::error::StoreError;

/// One schema step. Its text never changes once it has been released; a new step follows it.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Unique within the service, such as `001_orders`.
    pub name: &'static str,
    /// The statements, separated by semicolons.
    pub sql: &'static str,
}

/// The tables that every service's database has: outbox, inbox, projections, idempotency, timers, leases.
pub(crate) const KERNEL: &[Migration] = &[
    Migration { name: "kernel_001", sql: include_str!("../../migrations/001_kernel.sql") },
    Migration { name: "kernel_002", sql: include_str!("../../migrations/002_lighter_inbox.sql") },
    Migration { name: "kernel_003_kafka", sql: include_str!("../../migrations/003_kafka.sql") },
];

/// The table in which a database remembers its steps.
pub(crate) const LEDGER: &str = "CREATE TABLE IF NOT EXISTS schema_steps (name TEXT NOT NULL PRIMARY KEY, checksum TEXT NOT NULL, applied_at TIMESTAMPTZ NOT NULL)";

/// The checksum of a step's text: a released step that changed is refused.
pub(crate) fn checksum(sql: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, sql.as_bytes());
    digest.as_ref().iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// The steps that still have to run, given what the database remembers.
///
/// # Errors
/// A step whose text changed after it ran, or a database that knows steps this program does not (made by a newer version).
pub(crate) fn pending(all: &[Migration], applied: &[(String, String)]) -> Result<Vec<Migration>, StoreError> {
    for (name, sum) in applied {
        match all.iter().find(|m| m.name == name) {
            None => {
                return Err(StoreError::Refused(format!(
                    "the database has schema step {name}, which this program does not know: it was made by a newer version; start that version"
                )));
            }
            Some(step) if checksum(step.sql) != *sum => {
                return Err(StoreError::Refused(format!(
                    "schema step {name} was changed after it had run; put its text back and add a new step"
                )));
            }
            Some(_) => {}
        }
    }
    Ok(all.iter().filter(|m| !applied.iter().any(|(name, _)| name == m.name)).copied().collect())
}
