//! Background work: deadlines of tickets, and filling stock up for a new day.

use std::sync::Arc;

use kernel::events::Fault;
use kernel::jobs::{DueTimer, JobError};
use kernel::store::Tx;

use crate::reactions::{step, utc_offset};
use crate::stock::local_day;
use crate::ticket::Step;
use crate::{Kitchen, store};

/// Nowhere on Earth is local time further ahead.
const FURTHEST_AHEAD_MINUTES: i64 = 14 * 60;

/// Nobody answered in time.
pub(crate) async fn acceptance_due(tx: Tx, _: Arc<Kitchen>, due: DueTimer) -> Result<(), Fault> {
    step(&tx, due.org, due.entity, Step::Expire).await.map(drop)
}

/// A demo kitchen is done.
pub(crate) async fn ready_due(tx: Tx, _: Arc<Kitchen>, due: DueTimer) -> Result<(), Fault> {
    step(&tx, due.org, due.entity, Step::Finish).await.map(drop)
}

/// Fills stock up where a new local day has begun; each row says to which day it belongs, so twice does nothing.
pub(crate) async fn restock(state: Arc<Kitchen>) -> Result<(), JobError> {
    let (db, now) = (state.store.read(), state.clock.now());
    for at in store::counting(&db, local_day(now, FURTHEST_AHEAD_MINUTES)).await? {
        let today = local_day(now, utc_offset(&db, &at).await?);
        let filled = state
            .store
            .write(move |tx| {
                let at = at.clone();
                async move { store::restock(&tx, &at, today).await }
            })
            .await?;
        if filled > 0 {
            tracing::info!(items = filled, "stock is filled up for a new day");
        }
    }
    Ok(())
}
