//! Background work: keys in time, sessions ended at their end, old rows forgotten.

use std::sync::Arc;
use std::time::Duration;

use kernel::http::{Fail, Problem};
use kernel::jobs::JobError;

use crate::demo;
use crate::grant::GRACE;
use crate::session::{self, Reason};
use crate::state::Auth;
use crate::store;

/// Sessions ended in one run of the loop; small, so that sign-ins get in between.
const BATCH: i64 = 100;
/// How long people can see that and why a session ended.
const KEEP_ENDED: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long a used code is remembered, so that its second use is noticed; far longer than it may travel.
const KEEP_CODES: Duration = Duration::from_secs(24 * 3600);

fn failed(fail: Fail) -> JobError {
    JobError::from(Problem::from(fail))
}

/// Keeps one key signing and the next one published.
pub(crate) async fn rotate_keys(state: Arc<Auth>) -> Result<(), JobError> {
    state.keys.tend(&state.store).await.map_err(failed)
}

/// Ends sessions whose time is over, so that everybody hears of it.
pub(crate) async fn end_sessions(state: Arc<Auth>) -> Result<(), JobError> {
    loop {
        let due = store::sessions_due(&state.store.read(), state.now(), BATCH).await?;
        for id in &due {
            let id = *id;
            let ended = state.store.write(move |tx| async move {
                if let Some(session) = store::session(&tx, id).await? {
                    session::end(&tx, &session, Reason::Expired).await?;
                }
                Ok::<_, Fail>(())
            });
            ended.await.map_err(|e| failed(e.into()))?;
        }
        if due.is_empty() {
            return Ok(());
        }
    }
}

/// Forgets what nobody can ask for any more.
pub(crate) async fn forget(state: Arc<Auth>) -> Result<(), JobError> {
    let done = state.store.write(|tx| async move {
        let now = tx.now();
        store::forget_successors(&tx, now.minus(GRACE)).await?;
        store::forget_codes(&tx, now.minus(KEEP_CODES)).await?;
        store::forget_sessions(&tx, now.minus(KEEP_ENDED)).await?;
        Ok::<_, Fail>(())
    });
    done.await.map_err(|e| failed(e.into()))
}

/// Makes the demo city's accounts, if there is a demo city.
pub(crate) async fn demo_city(state: Arc<Auth>) -> Result<(), JobError> {
    demo::ensure(&state).await.map_err(failed)
}
