//! Background work: the demo city, founded once where it was asked for.

use std::sync::Arc;

use kernel::jobs::JobError;

use crate::{Restaurants, demo, store};

/// Fills an empty database with the demo city if the settings ask for it; runs at start and does nothing afterwards.
pub(crate) async fn found_demo_city(state: Arc<Restaurants>) -> Result<(), JobError> {
    if !state.settings.demo_city || !store::is_empty(&state.store.read()).await? {
        return Ok(());
    }
    let opened = state.store.write(|tx| async move { demo::found(&tx).await }).await?;
    tracing::info!(restaurants = opened, "the demo city is founded");
    Ok(())
}
