//! Sending what is queued: channels are called between two units, and each try is written down by its outcome.

use std::sync::Arc;

use contracts::notifications::{NotificationFailed, NotificationSent};
use kernel::events::Fault;
use kernel::jobs::{DueTimer, JobError};
use kernel::store::{StoreError, Tx};

use crate::channel::Letter;
use crate::message::{MessageStatus, Trouble, next_try};
use crate::store::{self, MessageRow};
use crate::{Notifications, Settings};

/// The job's name; units that queue a message wake it.
pub(crate) const SEND: &str = "send";
/// When a message is tried again.
pub(crate) const SEND_AGAIN: &str = "send-again";
/// How many messages one unit writes down, so that it stays short.
const BATCH: i64 = 100;

/// Hands every message that is due to its channel. A crash in between leaves it due: it goes out again under its identity.
pub(crate) async fn send_queued(state: Arc<Notifications>) -> Result<(), JobError> {
    loop {
        let due = store::due(&state.store.read(), state.store.clock().now(), BATCH).await?;
        if due.is_empty() {
            return Ok(());
        }
        let outcomes = state.channel.send(due.iter().map(Letter::from).collect()).await;
        if outcomes.len() != due.len() {
            return Err(JobError::new("the channel did not say what became of each letter"));
        }
        let tried: Arc<[(MessageRow, Result<(), Trouble>)]> = due.into_iter().zip(outcomes).collect();
        let settings = state.settings.get();
        let unit = move |tx: Tx| {
            let (tried, settings) = (tried.clone(), settings.clone());
            async move { write_down(&tx, &settings, &tried).await }
        };
        state.store.write(unit).await?;
    }
}

async fn write_down(
    tx: &Tx,
    settings: &Settings,
    tried: &[(MessageRow, Result<(), Trouble>)],
) -> Result<(), StoreError> {
    for (message, outcome) in tried {
        let now = after(tx, settings, message, outcome);
        if !store::move_message(tx, message, &now).await? {
            continue;
        }
        let telling = async {
            match now.status {
                MessageStatus::Queued => Ok(()),
                MessageStatus::Sent => tx.emit(NotificationSent(now.state(tx.now()))),
                MessageStatus::Failed => tx.emit(NotificationFailed(now.state(tx.now()))),
            }
        };
        message.span().around(telling).await?;
        if let Some(again) = now.next_try_at {
            tx.set_timer(now.org_id, now.id, SEND_AGAIN, again).await?;
        }
    }
    Ok(())
}

/// The message after a try.
fn after(tx: &Tx, settings: &Settings, message: &MessageRow, outcome: &Result<(), Trouble>) -> MessageRow {
    let mut now = message.clone();
    now.tries += 1;
    (now.status, now.next_try_at, now.error) = match outcome {
        Ok(()) => (MessageStatus::Sent, None, None),
        Err(trouble) => match next_try(settings, now.tries, trouble, tx.now()) {
            Some(again) => (MessageStatus::Queued, Some(again), Some(trouble.to_string())),
            None => (MessageStatus::Failed, None, Some(trouble.to_string())),
        },
    };
    if now.status != MessageStatus::Queued {
        now.version += 1;
        now.ended_at = Some(tx.now());
    }
    now
}

/// A message is due for another try.
pub(crate) async fn send_again(tx: Tx, _: Arc<Notifications>, _: DueTimer) -> Result<(), Fault> {
    tx.wake(SEND);
    Ok(())
}
