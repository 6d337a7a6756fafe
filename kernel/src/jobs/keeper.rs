//! Keeps a lease while there is work to do under it, and only then: an idle service writes nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::lease::{LIFE, Lease};
use super::record::{self, RunRow};
use crate::store::{Store, StoreError, WriteError};

/// How often one looks whether a taken lease has become free, and how often where its holder is told of the same work.
const LOOK: Duration = Duration::from_millis(250);
const LOOK_TOLD: Duration = Duration::from_secs(1);
/// A lease is kept this long after the last work: under load it is not taken and given back for each commit.
const LINGER: Duration = Duration::from_millis(250);
/// The same where one process has the database to itself, and nobody waits for what it holds.
const LINGER_ALONE: Duration = Duration::from_secs(4);
/// A pause after the database failed, so that its log stays readable.
const TROUBLE: Duration = Duration::from_secs(1);
/// Work under way at shutdown may go on for this long.
pub(super) const GRACE: Duration = Duration::from_secs(5);

pub(super) struct Keeper {
    store: Store,
    name: String,
    owner: Arc<str>,
    held: Option<Held>,
}

struct Held {
    lease: Lease,
    /// When we last asked for it successfully, by the clock that never jumps.
    since: Instant,
}

impl Keeper {
    pub(super) fn new(store: Store, name: String, owner: Arc<str>) -> Self {
        Self { store, name, owner, held: None }
    }

    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// How long to keep the lease after the last work. Taking it is a commit of its own that the next work waits for.
    pub(super) fn linger(&self) -> Duration {
        if self.store.orders_by_insert() { LINGER_ALONE } else { LINGER }
    }

    /// Waits until the lease is ours; none at shutdown. A wake-up means that its holder may have just given it back.
    pub(super) async fn hold(&mut self, shutdown: &CancellationToken, wake: Option<&Notify>) -> Option<Lease> {
        loop {
            if shutdown.is_cancelled() {
                return None;
            }
            let pause = match self.try_hold().await {
                Ok(Some(lease)) => return Some(lease),
                Ok(None) if self.store.hears_siblings() => LOOK_TOLD,
                Ok(None) => LOOK,
                Err(error) => {
                    tracing::warn!(lease = self.name, %error, "a lease could not be asked for");
                    TROUBLE
                }
            };
            let woken = async {
                match wake {
                    Some(wake) => wake.notified().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return None,
                () = woken => {}
                () = sleep(pause) => {}
            }
        }
    }

    async fn try_hold(&mut self) -> Result<Option<Lease>, WriteError<StoreError>> {
        let asked = Instant::now();
        if let Some(held) = &mut self.held {
            if held.since.elapsed() < LIFE / 3 {
                return Ok(Some(held.lease.clone()));
            }
            if held.lease.renew(&self.store, LIFE).await? {
                held.since = asked;
                return Ok(Some(held.lease.clone()));
            }
            self.held = None;
        }
        let lease = Lease::acquire(&self.store, &self.name, &self.owner, LIFE).await?;
        self.held = lease.clone().map(|lease| Held { lease, since: asked });
        Ok(lease)
    }

    /// Runs `work` under the held lease, renewing it; none if the lease was lost or the time after shutdown is over.
    pub(super) async fn run<F: Future>(&mut self, work: F, shutdown: &CancellationToken) -> Option<F::Output> {
        let held = self.held.as_mut()?;
        let grace = async {
            shutdown.cancelled().await;
            sleep(GRACE).await;
        };
        tokio::select! {
            biased;
            output = work => return Some(output),
            () = keep(&self.store, held) => {
                tracing::warn!(lease = self.name, "a lease was lost; its work stops");
                self.held = None;
            }
            () = grace => tracing::warn!(lease = self.name, "work was dropped at shutdown; it is done after the next start"),
        }
        None
    }

    /// The lease turned out to be another's.
    pub(super) fn forget(&mut self) {
        self.held = None;
    }

    /// Gives the lease back, and notes in the same unit how the last run under it ended.
    pub(super) async fn release(&mut self, ran: Option<RunRow>) {
        let lease = self.held.take().map(|held| held.lease);
        if lease.is_none() && ran.is_none() {
            return;
        }
        let unit = move |tx: crate::store::Tx| {
            let (lease, ran) = (lease.clone(), ran.clone());
            async move {
                let ours = match &lease {
                    Some(lease) => lease.release(&tx).await?,
                    None => false,
                };
                match &ran {
                    // A run whose lease has gone is the next holder's to report.
                    Some(ran) if ours => record::save(&tx, ran).await,
                    _ => Ok(()),
                }
            }
        };
        if let Err(error) = self.store.write::<(), StoreError, _, _>(unit).await {
            tracing::warn!(lease = self.name, %error, "a lease was not given back; it expires by itself");
        }
    }
}

/// Renews at a third of the life; ends when the lease is another's, or at two thirds without an answer.
async fn keep(store: &Store, held: &mut Held) {
    loop {
        sleep_until(held.since + LIFE / 3).await;
        let asked = Instant::now();
        let mut renewed = timeout_at(held.since + LIFE * 2 / 3, held.lease.renew(store, LIFE)).await;
        while let Ok(Err(error)) = &renewed {
            tracing::warn!(%error, "a lease could not be renewed; it is tried again");
            sleep(TROUBLE).await;
            renewed = timeout_at(held.since + LIFE * 2 / 3, held.lease.renew(store, LIFE)).await;
        }
        match renewed {
            Ok(Ok(true)) => held.since = asked,
            _ => return,
        }
    }
}
