//! Asking the provider, outside of any unit of work; each answer is committed against the row it was asked for.
//!
//! The job finds the intents that are due and hands them to workers that outlive its run: one call that hangs holds up
//! nobody else. A worker that dies, or whose result does not commit, leaves its intent due: it is asked again.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kernel::events::Fault;
use kernel::jobs::{DueTimer, JobError};
use kernel::store::{StoreError, Tx, WriteError};
use kernel::telemetry::{Trace, in_trace};
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::attempt::Heard;
use crate::steps::{self, Case, Telling};
use crate::store::{self, AttemptRow, DueRow, PaymentRow, RefundRow};
use crate::{Payments, inquiry, refunding};

/// The job's name; units that write an intent wake it.
pub(crate) const ASK: &str = "provider";
/// Rows taken from the database at once.
const BATCH: i64 = 1_024;
/// Messages of the provider are remembered for longer than it repeats them.
const REMEMBER_EVENTS: Duration = Duration::from_secs(30 * 24 * 3600);

/// What the provider can be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Due {
    Attempt(Uuid, Uuid),
    Refund(Uuid, Uuid),
}

/// Intents that workers of this process have in hand, and how many workers there are.
pub(crate) struct Calls {
    most: usize,
    inner: Mutex<InHand>,
    recovered: OnceCell<()>,
}

#[derive(Default)]
struct InHand {
    queue: VecDeque<Due>,
    taken: HashSet<Due>,
    workers: usize,
}

impl Calls {
    pub(crate) fn new(most: usize) -> Self {
        Self { most: most.max(1), inner: Mutex::default(), recovered: OnceCell::new() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, InHand> {
        // Nothing that can panic runs under this lock, so a poisoned one is still whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues what nobody has in hand and says how many more workers that is worth.
    fn offer(&self, due: impl Iterator<Item = Due>) -> usize {
        let mut inner = self.lock();
        for item in due {
            if inner.taken.insert(item) {
                inner.queue.push_back(item);
            }
        }
        let wanted = inner.queue.len().min(self.most.saturating_sub(inner.workers));
        inner.workers += wanted;
        wanted
    }

    /// Whether no worker is at work.
    #[cfg(test)]
    pub(crate) fn are_done(&self) -> bool {
        self.lock().workers == 0
    }

    fn next(&self) -> Option<Due> {
        self.lock().queue.pop_front()
    }

    fn put_back(&self, item: Due) {
        self.lock().taken.remove(&item);
    }
}

/// Leaves the count of workers right however a worker ends.
struct Worker<'a>(&'a Calls);

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        self.0.lock().workers -= 1;
    }
}

/// Gives an intent back however the asking ends.
struct InWork<'a>(&'a Calls, Due);

impl Drop for InWork<'_> {
    fn drop(&mut self) {
        self.0.put_back(self.1);
    }
}

/// Hands every intent that is due to a worker.
pub(crate) async fn ask_provider(state: Arc<Payments>) -> Result<(), JobError> {
    recover(&state).await?;
    hand_out(&state).await?;
    Ok(())
}

/// Once after a start: what was under way when the last process ended is looked up instead of sent.
async fn recover(state: &Payments) -> Result<(), WriteError<StoreError>> {
    let doubt = || state.store.write(|tx| async move { store::doubt_calls_under_way(&tx).await });
    let first = || async {
        let doubted = doubt().await?;
        if doubted > 0 {
            tracing::info!(count = doubted, "calls were under way when the service stopped; the provider's books are asked");
        }
        Ok(())
    };
    state.calls.recovered.get_or_try_init(first).await.map(|()| ())
}

async fn hand_out(state: &Arc<Payments>) -> Result<(), StoreError> {
    let (db, now) = (state.store.read(), state.clock.now());
    let attempts = store::due_attempts(&db, now, BATCH).await?;
    let refunds = store::due_refunds(&db, now, BATCH).await?;
    let attempts = attempts.into_iter().map(|DueRow { org_id, id }| Due::Attempt(org_id, id));
    let refunds = refunds.into_iter().map(|DueRow { org_id, id }| Due::Refund(org_id, id));
    for _ in 0..state.calls.offer(attempts.chain(refunds)) {
        // The handle is of no use: a worker's end is seen in the count, its panic in the log.
        drop(state.tasks.short("ask the provider", work(state.clone())));
    }
    Ok(())
}

async fn work(state: Arc<Payments>) {
    let _worker = Worker(&state.calls);
    while let Some(item) = state.calls.next() {
        let _in_work = InWork(&state.calls, item);
        let asked = match item {
            Due::Attempt(org, id) => ask_about_attempt(&state, org, id).await,
            Due::Refund(org, id) => ask_about_refund(&state, org, id).await,
        };
        match asked {
            Ok(()) | Err(WriteError::Closed) => {}
            Err(error) => tracing::error!(%error, "an answer of the provider was not stored; it is asked again"),
        }
    }
}

async fn ask_about_attempt(state: &Arc<Payments>, org: Uuid, id: Uuid) -> Result<(), WriteError<StoreError>> {
    let found = store::attempt(&state.store.read(), org, id).await.map_err(WriteError::Store)?;
    let Some(row) = found.filter(|a| a.next_try_at.is_some()) else { return Ok(()) };
    in_trace(trace_of(&row.traceparent), async {
        let started = Instant::now();
        let finding =
            inquiry::about_attempt(&*state.provider, &row, state.clock.now(), state.settings.key_window()).await;
        let settings = state.settings.clone();
        let unit = move |tx: Tx| {
            let (row, finding, settings) = (row.clone(), finding.clone(), settings.clone());
            async move {
                let Some(mut case) = case_for_attempt(&tx, &row).await? else { return Ok(None) };
                let telling = steps::learn(&tx, &settings, &mut case, &finding).await?;
                Ok(telling.map(|telling| (telling, case.payment)))
            }
        };
        let told = state.store.write(unit).await?;
        state.durations.observe(&[], started.elapsed());
        report(state, told);
        Ok(())
    })
    .await
}

/// The case, if the attempt is still exactly as it was when the provider was asked.
async fn case_for_attempt(tx: &Tx, asked: &AttemptRow) -> Result<Option<Case>, StoreError> {
    let case = Case::of(tx, asked.org_id, asked.order_id, Heard::default()).await?;
    Ok(case.filter(|c| (c.attempt.id, c.attempt.version, c.attempt.state) == (asked.id, asked.version, asked.state)))
}

async fn ask_about_refund(state: &Arc<Payments>, org: Uuid, id: Uuid) -> Result<(), WriteError<StoreError>> {
    let found = store::refund(&state.store.read(), org, id).await.map_err(WriteError::Store)?;
    let Some(row) = found.filter(|r| r.next_try_at.is_some()) else { return Ok(()) };
    in_trace(trace_of(&row.traceparent), async {
        let started = Instant::now();
        let finding =
            inquiry::about_refund(&*state.provider, &row, state.clock.now(), state.settings.key_window()).await;
        let unit = move |tx: Tx| {
            let (row, finding) = (row.clone(), finding.clone());
            async move {
                let Some((mut case, now)) = case_for_refund(&tx, &row).await? else { return Ok(None) };
                let telling = refunding::learn(&tx, &mut case, &now, &finding).await?;
                Ok(telling.map(|telling| (telling, case.payment)))
            }
        };
        let told = state.store.write(unit).await?;
        state.durations.observe(&[], started.elapsed());
        report(state, told);
        Ok(())
    })
    .await
}

async fn case_for_refund(tx: &Tx, asked: &RefundRow) -> Result<Option<(Case, RefundRow)>, StoreError> {
    let case = Case::of(tx, asked.org_id, asked.order_id, Heard::default()).await?;
    let now = store::refund(tx, asked.org_id, asked.id).await?;
    let same = now.filter(|r| (r.version, r.state) == (asked.version, asked.state));
    Ok(case.zip(same))
}

fn trace_of(traceparent: &str) -> Trace {
    Trace::parse(traceparent).unwrap_or_default().child()
}

/// Counts and logs what a committed unit told the world.
fn report(state: &Payments, told: Option<(Telling, PaymentRow)>) {
    let Some((telling, p)) = told else { return };
    let (status, message) = match telling {
        Telling::Authorized => ("authorized", "payment authorised"),
        Telling::Succeeded => ("success", "payment captured"),
        Telling::Failed => ("failed", "payment failed"),
        Telling::Voided => ("voided", "payment voided"),
        Telling::Refunded => ("refunded", "payment refunded"),
    };
    state.requests.count(&[status, "card"]);
    tracing::info!(
        orderId = %p.order_id, paymentId = %p.id, amount = p.amount_minor, currency = %p.currency, maskedCard = p.masked_card,
        "{message}"
    );
}

/// A look at the provider's books is due.
pub(crate) async fn look_again(tx: Tx, _: Arc<Payments>, _: DueTimer) -> Result<(), Fault> {
    tx.wake(ASK);
    Ok(())
}

/// No further card is tried for an order whose last one was refused; one that is being tried decides by itself.
pub(crate) async fn retry_window_over(tx: Tx, _: Arc<Payments>, due: DueTimer) -> Result<(), Fault> {
    let Some(payment) = store::payment(&tx, due.entity).await? else { return Ok(()) };
    let Some(mut case) = Case::of(&tx, payment.org_id, payment.order_id, Heard::default()).await? else { return Ok(()) };
    let telling = steps::give_up(&tx, &mut case).await?;
    if telling.is_some() {
        case.finish(&tx, telling).await?;
    }
    Ok(())
}

/// Forgets messages of the provider that it no longer repeats.
pub(crate) async fn forget_provider_events(state: Arc<Payments>) -> Result<(), JobError> {
    let forget = |tx: Tx| async move { store::forget_provider_events(&tx, tx.now().minus(REMEMBER_EVENTS)).await };
    state.store.write(forget).await?;
    Ok(())
}
