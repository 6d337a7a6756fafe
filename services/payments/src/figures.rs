//! Figures of what is still open with the provider, looked up when somebody reads the metrics.

use kernel::store::Store;
use kernel::telemetry::Metrics;

use crate::store;

/// Intents by how they stand: asked or to be asked, or without an answer.
const STANDINGS: [&str; 2] = ["asked", "unknown"];

/// Shows how many intents have no outcome yet, and since when.
pub(crate) fn show_open_intents(metrics: &Metrics, store: &Store) {
    let open = metrics.gauge("payments_unresolved", "Intents whose outcome is not stored yet", ["state"]);
    let age = metrics.gauge("payments_oldest_unresolved_seconds", "Age of the oldest of them", ["state"]);
    let store = store.across("a figure of the whole service");
    metrics.ask_when_read(move || {
        let (open, age, store) = (open.clone(), age.clone(), store.clone());
        async move {
            // A database that does not answer is told by readiness; these figures stay as they were.
            let Ok(found) = store::open_intents(&store.read()).await else { return };
            let now = store.clock().now();
            for state in STANDINGS {
                let of_state = found.iter().find(|found| found.state == state);
                open.set(&[state], of_state.map_or(0, |found| found.intents));
                let oldest = of_state.map_or(0, |found| now.since(found.since).as_secs());
                age.set(&[state], i64::try_from(oldest).unwrap_or(i64::MAX));
            }
        }
    });
}
