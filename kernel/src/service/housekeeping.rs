//! What every service does for itself once an hour: it forgets events, receipts and answers that nobody may ask for again.

use std::time::Duration;

use crate::events;
use crate::idempotency;
use crate::jobs::{Job, JobError, Trigger};
use crate::store::Store;

/// Events older than this go, but for the newest of each aggregate, so that a copy can still be made anew.
const KEEP_EVENTS: Duration = Duration::from_secs(7 * 24 * 3600);
/// Between two rounds.
const ROUND: Duration = Duration::from_secs(3600);

/// The job of the service that owns `store`.
pub(super) fn housekeeping(store: Store) -> Job {
    Job::new("housekeeping", Trigger::Every(ROUND), move || {
        let store = store.clone();
        async move {
            let mut answers = 0;
            loop {
                let some = store.write(|tx| async move { idempotency::purge(&tx, tx.now()).await }).await;
                let some = some.map_err(|e| JobError::new(e.to_string()))?;
                answers += some;
                if some < idempotency::PURGE_AT_ONCE {
                    break;
                }
            }
            let purged = events::purge(&store, KEEP_EVENTS).await?;
            tracing::debug!(events = purged.events, receipts = purged.receipts, answers, "forgot what is over");
            Ok(())
        }
    })
}
