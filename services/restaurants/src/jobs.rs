//! Background work: the demo city, founded once where it was asked for.

use std::sync::Arc;

use kernel::jobs::JobError;

use crate::{Restaurants, demo, store};

/// Fills an empty database with the demo city if the settings ask for it, or goes on where that was broken off; a city of
/// other people's restaurants is left alone.
pub(crate) async fn found_demo_city(state: Arc<Restaurants>) -> Result<(), JobError> {
    if !state.settings.demo_city {
        return Ok(());
    }
    let first = contracts::demo::restaurant(0);
    let read = state.store.read();
    if !store::is_empty(&read).await? && store::find(&read, first).await?.is_none() {
        return Ok(());
    }
    let mut opened = 0;
    // A unit each: together they would take longer than one unit may, where every statement crosses a network.
    for number in 0..demo::restaurants()? {
        opened += usize::from(state.store.write(move |tx| async move { demo::found_one(&tx, number).await }).await?);
    }
    if opened > 0 {
        tracing::info!(restaurants = opened, "the demo city is founded");
    }
    Ok(())
}
