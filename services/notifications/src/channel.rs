//! Channels that take messages to people, and the built-in one: a mailbox in our own database.

use std::pin::Pin;
use std::sync::Arc;

use kernel::store::{Store, StoreError, Tx};
use uuid::Uuid;

use crate::message::Trouble;
use crate::preferences::Via;
use crate::store::{self, LetterRow, MessageRow};

/// A message as a channel gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) org_id: Uuid,
    /// Its identity: the same letter may come again, and must not reach anybody twice.
    pub(crate) message_id: Uuid,
    pub(crate) user_id: Uuid,
    pub(crate) order_id: Uuid,
    pub(crate) via: Via,
    pub(crate) address: String,
    pub(crate) title: String,
    pub(crate) body: String,
    pub(crate) trace_id: String,
}

impl From<&MessageRow> for Letter {
    fn from(row: &MessageRow) -> Self {
        Self {
            org_id: row.org_id,
            message_id: row.id,
            user_id: row.user_id,
            order_id: row.order_id,
            via: row.via,
            address: row.address.clone(),
            title: row.title.clone(),
            body: row.body.clone(),
            trace_id: row.trace_id.clone(),
        }
    }
}

/// What became of each letter, in their order.
pub(crate) type Sending<'a> = Pin<Box<dyn Future<Output = Vec<Result<(), Trouble>>> + Send + 'a>>;

/// Takes letters to people; called outside of any unit of work.
pub(crate) trait Channel: Send + Sync {
    /// Tries each letter once.
    fn send(&self, letters: Vec<Letter>) -> Sending<'_>;
}

/// The built-in channel, for every way to reach people: it keeps what it gets, to be read over the API.
pub(crate) struct Mailbox {
    store: Store,
}

impl Mailbox {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }
}

impl Channel for Mailbox {
    fn send(&self, letters: Vec<Letter>) -> Sending<'_> {
        Box::pin(async move {
            let letters: Arc<[Letter]> = letters.into();
            let batch = letters.clone();
            let unit = move |tx: Tx| {
                let letters = batch.clone();
                async move { put_all(&tx, &letters).await }
            };
            let put = self.store.write(unit).await.map_err(|error| Trouble::Passing(format!("the mailbox: {error}")));
            vec![put; letters.len()]
        })
    }
}

async fn put_all(tx: &Tx, letters: &[Letter]) -> Result<(), StoreError> {
    for letter in letters {
        store::put_in_mailbox(tx, &LetterRow::new(letter, tx.now())).await?;
    }
    Ok(())
}
