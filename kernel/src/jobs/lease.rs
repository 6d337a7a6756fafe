//! A lease: the right to do one kind of work for a while, with an epoch that tells the holder from its predecessors.
//!
//! The time in the row only says when somebody else may try; nothing correct rests on it. Correct is what
//! [`Lease::guard`] checks inside the unit that does the work: the epoch is still ours.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::store::{Scalar, Store, StoreError, Tx, WriteError};
use crate::{params, row, sql};

/// How long a lease lasts without being renewed.
pub const LIFE: Duration = Duration::from_secs(15);

row! {
    struct LeaseRow in "lease" {
        name: String,
        owner: String,
        epoch: i64,
        expires_at: Timestamp,
    }
}

/// A lease as it was given to its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    name: Arc<str>,
    owner: Arc<str>,
    epoch: i64,
}

impl Lease {
    /// Takes the lease if it is free, has expired, or was this owner's already; none if somebody else has it.
    ///
    /// Two processes that live at the same time must not share an owner name. One that starts again under its old name
    /// need not wait for its own lease to expire.
    pub async fn acquire(
        store: &Store,
        name: &str,
        owner: &str,
        life: Duration,
    ) -> Result<Option<Self>, WriteError<StoreError>> {
        if is_taken(store, name, owner).await.map_err(WriteError::Store)? {
            return Ok(None);
        }
        let (name, owner): (Arc<str>, Arc<str>) = (name.into(), owner.into());
        let epoch = {
            let (name, owner) = (name.clone(), owner.clone());
            store.write(move |tx| take(tx, name.clone(), owner.clone(), life)).await?
        };
        Ok(epoch.map(|epoch| Self { name, owner, epoch }))
    }

    /// Which term this is; each new holder's is higher.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Makes it last `life` from now on; false if another holder has it.
    ///
    /// A lease that expired without anybody taking it is still ours: its epoch says so.
    pub async fn renew(&self, store: &Store, life: Duration) -> Result<bool, WriteError<StoreError>> {
        let lease = self.clone();
        store
            .write(move |tx| {
                let lease = lease.clone();
                async move { lease.until(&tx, tx.now().plus(life)).await }
            })
            .await
    }

    /// Gives it back inside a unit; the epoch stays for the next holder to exceed.
    pub async fn release(&self, tx: &Tx) -> Result<bool, StoreError> {
        self.until(tx, Timestamp::default()).await
    }

    async fn until(&self, tx: &Tx, expires_at: Timestamp) -> Result<bool, StoreError> {
        let ours = sql!("UPDATE lease SET expires_at = $4 WHERE name = $1 AND owner = $2 AND epoch = $3");
        Ok(tx.run(ours, params![*self.name, *self.owner, self.epoch, expires_at]).await? == 1)
    }

    /// Whether this is still the lease's epoch; if so it stays so until the unit ends.
    pub async fn is_ours(&self, tx: &Tx) -> Result<bool, StoreError> {
        if tx.has_the_database_to_itself() {
            let ours =
                sql!(Scalar<i64>, "SELECT epoch AS value FROM lease WHERE name = $1 AND owner = $2 AND epoch = $3");
            return Ok(tx.maybe(ours, params![*self.name, *self.owner, self.epoch]).await?.is_some());
        }
        // An update that changes nothing: it locks the row, so that a takeover waits for this unit.
        let ours = sql!("UPDATE lease SET epoch = epoch WHERE name = $1 AND owner = $2 AND epoch = $3");
        Ok(tx.run(ours, params![*self.name, *self.owner, self.epoch]).await? == 1)
    }

    /// Lets a unit go on only if this is still the lease's epoch; call it with `?` in whatever the lease protects.
    ///
    /// # Errors
    /// Another holder took over: whoever asks woke up as a zombie, and its work must not count.
    pub async fn guard(&self, tx: &Tx) -> Result<(), StoreError> {
        if self.is_ours(tx).await? {
            return Ok(());
        }
        Err(StoreError::Refused(format!("the lease {} of epoch {} has gone to another holder", self.name, self.epoch)))
    }
}

/// A look without a write, so that waiting for a lease costs its database nothing.
async fn is_taken(store: &Store, name: &str, owner: &str) -> Result<bool, StoreError> {
    let sql = sql!(LeaseRow, "SELECT name, owner, epoch, expires_at FROM lease WHERE name = $1");
    let row = store.read().maybe(sql, params![*name]).await?;
    Ok(row.is_some_and(|row| row.owner != owner && row.expires_at > store.clock().now()))
}

async fn take(tx: Tx, name: Arc<str>, owner: Arc<str>, life: Duration) -> Result<Option<i64>, StoreError> {
    let expires_at = tx.now().plus(life);
    let over = sql!(
        "UPDATE lease SET owner = $2, epoch = epoch + 1, expires_at = $3 WHERE name = $1 AND (expires_at <= $4 OR owner = $2)"
    );
    if tx.run(over, params![*name, *owner, expires_at, tx.now()]).await? == 1 {
        let epoch = sql!(Scalar<i64>, "SELECT epoch AS value FROM lease WHERE name = $1");
        return tx.one(epoch, params![*name]).await.map(|Scalar(epoch)| Some(epoch));
    }
    let first = LeaseRow { name: name.as_ref().to_owned(), owner: owner.as_ref().to_owned(), epoch: 1, expires_at };
    Ok(tx.add(&first).await?.then_some(1))
}
