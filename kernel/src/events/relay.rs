//! The relay: where insert order is not commit order (PostgreSQL), one process at a time gives committed events their position.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store::{Scalar, Store, StoreError, WriteError};
use crate::{params, row};

/// Woken by every commit that emitted.
pub(crate) const RELAY: &str = "outbox relay";

const LEASE: &str = "outbox-relay";
/// How long a relay that has gone silent keeps the others waiting.
const LIFE: Duration = Duration::from_secs(3);
/// Events that get their position in one step.
const BATCH: i64 = 200;
/// The next look while events keep coming, in case a notice of another instance was lost.
const BUSY: Duration = Duration::from_millis(100);
/// The next look when there was nothing, where other instances tell of their commits, and where nobody does.
const IDLE: Duration = Duration::from_secs(1);
const IDLE_ALONE: Duration = Duration::from_millis(200);
/// How often a relay that is not in charge looks after the head and the one that is; less where that one tells it.
const FOLLOW: Duration = Duration::from_millis(200);
const FOLLOW_TOLD: Duration = Duration::from_millis(500);

// These texts run on PostgreSQL only, so they are not filed: the lease lives by the database's clock.
const TAKE: &str = "INSERT INTO lease (name, owner, epoch, expires_at) VALUES ($1, $2, 1, clock_timestamp() + make_interval(secs => $3)) ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, epoch = lease.epoch + 1, expires_at = excluded.expires_at WHERE lease.expires_at <= clock_timestamp() OR lease.owner = excluded.owner RETURNING lease.epoch AS value";
const RENEW: &str = "UPDATE lease SET expires_at = clock_timestamp() + make_interval(secs => $3) WHERE name = $1 AND epoch = $2 RETURNING epoch AS value";
const RELEASE: &str =
    "UPDATE lease SET expires_at = clock_timestamp() WHERE name = $1 AND epoch = $2 RETURNING epoch AS value";
/// The row lock keeps a successor from taking over until this step has ended: it then sees all of it or nothing.
const FENCE: &str = "SELECT epoch AS value FROM lease WHERE name = $1 AND epoch = $2 FOR UPDATE";
const PUBLISH: &str = "WITH head AS (SELECT COALESCE(MAX(position), 0) AS last FROM outbox WHERE position IS NOT NULL), batch AS (SELECT seq, row_number() OVER (ORDER BY seq) AS place FROM (SELECT seq FROM outbox WHERE published_at IS NULL ORDER BY seq LIMIT $3) AS waiting), moved AS (UPDATE outbox SET position = head.last + batch.place, published_at = clock_timestamp() FROM batch, head WHERE outbox.seq = batch.seq AND EXISTS (SELECT 1 FROM lease WHERE name = $1 AND epoch = $2) RETURNING outbox.position) SELECT COUNT(*) AS moved, COALESCE(MAX(moved.position), (SELECT last FROM head)) AS head FROM moved";
const LOOK: &str = "SELECT EXISTS (SELECT 1 FROM outbox WHERE published_at IS NULL) AS waiting, COALESCE((SELECT MAX(position) FROM outbox WHERE position IS NOT NULL), 0) AS head, EXISTS (SELECT 1 FROM lease WHERE name = $1 AND owner <> $2 AND expires_at > clock_timestamp()) AS led_by_other";

row! {
    struct Look {
        waiting: bool,
        head: i64,
        led_by_other: bool,
    }
}

row! {
    /// What one step did.
    pub(crate) struct Moved {
        /// Events that got a position.
        pub(crate) moved: i64,
        /// The highest position now.
        pub(crate) head: i64,
    }
}

type Failed = WriteError<StoreError>;

/// The right to give positions, until somebody else has it.
pub(crate) struct Lead {
    epoch: i64,
    renewed: Instant,
}

impl Lead {
    /// Takes the lead if nobody has it, or only a former life of this very owner.
    pub(crate) async fn take(store: &Store, owner: &str) -> Result<Option<Self>, Failed> {
        let (owner, renewed) = (owner.to_owned(), Instant::now());
        let epoch = one(store, TAKE, move || params![LEASE, owner, LIFE.as_secs_f64()]).await?;
        Ok(epoch.map(|epoch| Self { epoch, renewed }))
    }

    /// Keeps the lead; false if it has gone to somebody else.
    async fn renew(&mut self, store: &Store) -> Result<bool, Failed> {
        let (epoch, renewed) = (self.epoch, Instant::now());
        let kept = one(store, RENEW, move || params![LEASE, epoch, LIFE.as_secs_f64()]).await?.is_some();
        if kept {
            self.renewed = renewed;
        }
        Ok(kept)
    }

    /// Gives positions to the oldest waiting events; nothing if the lead has gone to somebody else.
    pub(crate) async fn publish(&self, store: &Store) -> Result<Option<Moved>, Failed> {
        let epoch = self.epoch;
        let moved = store
            .write(move |tx| async move {
                if tx.rows::<Scalar<i64>>(FENCE, params![LEASE, epoch]).await?.is_empty() {
                    return Ok(None);
                }
                Ok(tx.rows::<Moved>(PUBLISH, params![LEASE, epoch, BATCH]).await?.pop())
            })
            .await?;
        if let Some(moved) = &moved {
            store.publish_head(moved.head);
            if moved.moved > 0 {
                // Whoever follows this outbox, or sends it to Kafka, may be at another instance.
                store.wake_siblings(RELAY);
            }
        }
        Ok(moved)
    }

    async fn release(self, store: &Store) -> Result<(), Failed> {
        let epoch = self.epoch;
        one(store, RELEASE, move || params![LEASE, epoch]).await.map(drop)
    }
}

/// Runs one of the texts above as a unit of its own.
async fn one(
    store: &Store,
    text: &'static str,
    params: impl Fn() -> Vec<crate::store::Value> + Send + Sync + 'static,
) -> Result<Option<i64>, Failed> {
    let unit = move |tx: crate::store::Tx| {
        let params = params();
        async move { Ok(tx.rows::<Scalar<i64>>(text, params).await?.pop().map(|Scalar(epoch)| epoch)) }
    };
    store.write(unit).await
}

/// Gives events their positions until `shutdown`. Every instance of a service runs one; only one of them is in charge.
///
/// `owner` names this process among them: two under one name would take the lead from each other without end.
pub(crate) async fn run(store: Store, owner: String, shutdown: CancellationToken) {
    if store.orders_by_insert() {
        // One writer: the outbox number is the position, given by the commit itself.
        return shutdown.cancelled().await;
    }
    let signal = store.wake_signal(RELAY);
    let mut relay = Relay { store, owner, lead: None };
    let mut woken = true;
    while !shutdown.is_cancelled() {
        let pause = relay.step(woken).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "the outbox relay could not do its step; it tries again");
            FOLLOW
        });
        woken = tokio::select! {
            () = shutdown.cancelled() => break,
            () = signal.notified() => true,
            () = tokio::time::sleep(pause) => pause.is_zero(),
        };
    }
    if let Some(lead) = relay.lead
        && let Err(error) = lead.release(&relay.store).await
    {
        tracing::debug!(%error, "the outbox relay's lease ends by itself");
    }
}

struct Relay {
    store: Store,
    owner: String,
    lead: Option<Lead>,
}

impl Relay {
    /// One round; gives the time until the next one if nothing wakes it. `woken` says that there is something to do.
    async fn step(&mut self, woken: bool) -> Result<Duration, Failed> {
        self.keep_lead().await?;
        if self.lead.is_none() || !woken {
            let look = self.look().await?;
            self.store.publish_head(look.head);
            if self.lead.is_none() && !look.led_by_other {
                self.lead = Lead::take(&self.store, &self.owner).await?;
            }
            if self.lead.is_some() && !look.waiting {
                return Ok(self.idle());
            }
        }
        let Some(lead) = &self.lead else {
            return Ok(if self.store.hears_siblings() { FOLLOW_TOLD } else { FOLLOW });
        };
        match lead.publish(&self.store).await? {
            None => {
                self.lead = None;
                Ok(FOLLOW)
            }
            Some(Moved { moved: 0, .. }) => Ok(self.idle()),
            Some(Moved { moved: BATCH, .. }) => Ok(Duration::ZERO),
            Some(_) => Ok(BUSY),
        }
    }

    fn idle(&self) -> Duration {
        if self.store.hears_siblings() { IDLE } else { IDLE_ALONE }
    }

    /// Renews from a third of the lease's life on; from two thirds on an unrenewed lead is none.
    async fn keep_lead(&mut self) -> Result<(), Failed> {
        let Some(lead) = &mut self.lead else { return Ok(()) };
        if lead.renewed.elapsed() < LIFE / 3 {
            return Ok(());
        }
        let kept = lead.renew(&self.store).await;
        let too_old = lead.renewed.elapsed() >= LIFE * 2 / 3;
        if too_old || matches!(kept, Ok(false)) {
            self.lead = None;
        }
        if too_old { kept.map(drop) } else { Ok(()) }
    }

    async fn look(&self) -> Result<Look, Failed> {
        let rows = self.store.read().rows::<Look>(LOOK, params![LEASE, self.owner]).await.map_err(WriteError::Store)?;
        rows.into_iter().next().ok_or(WriteError::Store(StoreError::NoRow))
    }
}
