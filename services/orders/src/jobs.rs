//! What happens by time alone: deadlines, the sweeper behind them, and carts that nobody wants.

use std::sync::Arc;
use std::time::Duration;

use kernel::events::Fault;
use kernel::jobs::{DueTimer, JobError};
use kernel::store::Tx;

use crate::store::OrderKey;
use crate::{Orders, progress, store};

/// How many overdue orders one sweep ends.
const SWEEP: i64 = 200;

/// Ends the order if its deadline has indeed passed; the row decides, not the timer.
pub(crate) async fn deadline_passed(tx: Tx, orders: Arc<Orders>, due: DueTimer) -> Result<(), Fault> {
    progress::expire(&tx, &orders.settings.get(), due.org, due.entity).await?;
    Ok(())
}

/// Ends overdue orders whose timer is late or lost, from the orders' own rows: neither timers nor events are trusted.
pub(crate) async fn sweep_overdue(orders: Arc<Orders>) -> Result<(), JobError> {
    let before = orders.store.clock().now().minus(Duration::from_secs(orders.settings.get().sweep_after_s));
    let overdue = store::overdue(&orders.store.read(), before, SWEEP).await?;
    for OrderKey { org_id, id } in overdue {
        let settings = orders.settings.get();
        let ended = orders
            .store
            .write(move |tx| {
                let settings = settings.clone();
                async move { progress::expire(&tx, &settings, org_id, id).await.map_err(Fault::from) }
            })
            .await;
        match ended {
            Ok(true) => tracing::warn!(order_id = %id, "ended an overdue order that its timer had not ended"),
            Ok(false) => {}
            // One order must not keep the others waiting; the next sweep meets it again.
            Err(error) => tracing::error!(order_id = %id, %error, "an overdue order could not be ended"),
        }
    }
    Ok(())
}

/// Throws away carts that nobody touched for a long time.
pub(crate) async fn drop_old_carts(orders: Arc<Orders>) -> Result<(), JobError> {
    let kept = Duration::from_secs(orders.settings.get().keep_carts_days.saturating_mul(24 * 3600));
    let before = orders.store.clock().now().minus(kept);
    let drop_them = move |tx: Tx| async move { store::carts::drop_older(&tx, before).await.map_err(Fault::from) };
    let dropped = orders.store.write(drop_them).await?;
    if dropped > 0 {
        tracing::info!(dropped, "threw away carts that nobody touched");
    }
    Ok(())
}
