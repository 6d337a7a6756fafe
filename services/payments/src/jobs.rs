//! Asking the provider, outside of any unit of work; each answer is committed against the row it was asked for.
//!
//! The job finds the intents that are due and hands them to workers that outlive its run: one call that hangs holds up
//! nobody else. A worker that dies, or whose result does not commit, leaves its intent due: it is asked again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kernel::clock::Timestamp;
use kernel::events::Fault;
use kernel::jobs::{DueTimer, JobError};
use kernel::store::{StoreError, Tx, WriteError};
use kernel::telemetry::{Name, Role, Span};
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::attempt::Heard;
use crate::steps::{self, Case, Telling};
use crate::store::{self, AttemptRow, DueRow, PaymentRow, RefundRow};
use crate::{Payments, inquiry, refunding};

/// The job's name; units that write an intent wake it.
pub(crate) const ASK: &str = "provider";
/// One intent from its row to the stored answer; part of the order's trace.
const ASKING: Name = Name("ask the provider", "");
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
    /// What is queued or being asked, and whether it was found due once more meanwhile.
    taken: HashMap<Due, bool>,
    workers: usize,
    /// The last look found as many rows as it takes at once, so there may be more.
    more: bool,
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
    fn offer(&self, due: impl Iterator<Item = Due>, more: bool) -> usize {
        let mut inner = self.lock();
        for item in due {
            match inner.taken.get_mut(&item) {
                // Its answer may just have made it due again; whoever has it in hand looks once more.
                Some(again) => *again = true,
                None => {
                    inner.taken.insert(item, false);
                    inner.queue.push_back(item);
                }
            }
        }
        inner.more = more;
        let wanted = inner.queue.len().min(self.most.saturating_sub(inner.workers));
        inner.workers += wanted;
        wanted
    }

    /// Whether no worker is at work.
    #[cfg(test)]
    pub(crate) fn are_done(&self) -> bool {
        self.lock().workers == 0
    }

    /// The next intent, or the worker's leave: both under one lock, so that nothing is queued for one who is going.
    fn next(&self, worker: &mut Worker<'_>) -> Option<Due> {
        let mut inner = self.lock();
        let item = inner.queue.pop_front();
        if item.is_none() {
            inner.workers -= 1;
            worker.left = true;
        }
        item
    }

    fn put_back(&self, item: Due) {
        let mut inner = self.lock();
        if inner.taken.remove(&item) == Some(true) {
            inner.taken.insert(item, false);
            inner.queue.push_back(item);
        }
    }

    fn has_more(&self) -> bool {
        std::mem::take(&mut self.lock().more)
    }
}

/// Leaves the count of workers right however a worker ends.
struct Worker<'a> {
    calls: &'a Calls,
    left: bool,
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        if !self.left {
            self.calls.lock().workers -= 1;
        }
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
            tracing::info!(
                count = doubted,
                "calls were under way when the service stopped; the provider's books are asked"
            );
        }
        Ok(())
    };
    state.calls.recovered.get_or_try_init(first).await.copied()
}

async fn hand_out(state: &Arc<Payments>) -> Result<(), StoreError> {
    let (db, now) = (state.store.read(), state.clock.now());
    let attempts = store::due_attempts(&db, now, BATCH).await?;
    let refunds = store::due_refunds(&db, now, BATCH).await?;
    let more = [attempts.len(), refunds.len()].into_iter().any(|n| i64::try_from(n).is_ok_and(|n| n == BATCH));
    let attempts = attempts.into_iter().map(|DueRow { org_id, id }| Due::Attempt(org_id, id));
    let refunds = refunds.into_iter().map(|DueRow { org_id, id }| Due::Refund(org_id, id));
    for _ in 0..state.calls.offer(attempts.chain(refunds), more) {
        // The handle is of no use: a worker's end is seen in the count, its panic in the log.
        drop(state.tasks.short("ask the provider", work(state.clone())));
    }
    Ok(())
}

async fn work(state: Arc<Payments>) {
    let mut worker = Worker { calls: &state.calls, left: false };
    while let Some(item) = state.calls.next(&mut worker) {
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
    if state.calls.has_more() {
        let wake = |tx: Tx| async move {
            tx.wake(ASK);
            Ok::<(), StoreError>(())
        };
        if let Err(error) = state.store.write(wake).await {
            tracing::warn!(%error, "the rest of the intents waits for the next sweep");
        }
    }
}

async fn ask_about_attempt(state: &Arc<Payments>, org: Uuid, id: Uuid) -> Result<(), WriteError<StoreError>> {
    let found = store::attempt(&state.store.read(), org, id).await.map_err(WriteError::Store)?;
    let Some(row) = found.filter(|a| is_due(a.next_try_at, state)) else { return Ok(()) };
    let span = Span::after(&row.traceparent, Role::Internal, ASKING);
    let asking = async {
        let started = Instant::now();
        let finding =
            inquiry::about_attempt(&*state.provider, &row, state.clock.now(), state.settings.get().key_window()).await;
        let settings = state.settings.get();
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
    };
    span.around(asking).await
}

/// The case, if the attempt is still exactly as it was when the provider was asked.
async fn case_for_attempt(tx: &Tx, asked: &AttemptRow) -> Result<Option<Case>, StoreError> {
    let case = Case::of(tx, asked.org_id, asked.order_id, Heard::default()).await?;
    Ok(case.filter(|c| (c.attempt.id, c.attempt.version, c.attempt.state) == (asked.id, asked.version, asked.state)))
}

async fn ask_about_refund(state: &Arc<Payments>, org: Uuid, id: Uuid) -> Result<(), WriteError<StoreError>> {
    let found = store::refund(&state.store.read(), org, id).await.map_err(WriteError::Store)?;
    let Some(row) = found.filter(|r| is_due(r.next_try_at, state)) else { return Ok(()) };
    let span = Span::after(&row.traceparent, Role::Internal, ASKING);
    let asking = async {
        let started = Instant::now();
        let finding =
            inquiry::about_refund(&*state.provider, &row, state.clock.now(), state.settings.get().key_window()).await;
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
    };
    span.around(asking).await
}

async fn case_for_refund(tx: &Tx, asked: &RefundRow) -> Result<Option<(Case, RefundRow)>, StoreError> {
    let case = Case::of(tx, asked.org_id, asked.order_id, Heard::default()).await?;
    let now = store::refund(tx, asked.org_id, asked.id).await?;
    let same = now.filter(|r| (r.version, r.state) == (asked.version, asked.state));
    Ok(case.zip(same))
}

fn is_due(at: Option<Timestamp>, state: &Payments) -> bool {
    at.is_some_and(|at| at <= state.clock.now())
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
    let Some(mut case) = Case::of(&tx, payment.org_id, payment.order_id, Heard::default()).await? else {
        return Ok(());
    };
    let telling = steps::give_up(&tx, &mut case).await?;
    if telling.is_some() {
        case.finish(&tx, telling).await?;
    }
    Ok(())
}

/// A card that refused a refund is tried once more.
pub(crate) async fn refund_again(tx: Tx, _: Arc<Payments>, due: DueTimer) -> Result<(), Fault> {
    let Some(payment) = store::payment(&tx, due.entity).await? else { return Ok(()) };
    if let Some(mut case) = Case::of(&tx, payment.org_id, payment.order_id, Heard::default()).await? {
        refunding::give_all_back(&tx, &mut case, None).await?;
    }
    Ok(())
}

/// Forgets messages of the provider that it no longer repeats.
pub(crate) async fn forget_provider_events(state: Arc<Payments>) -> Result<(), JobError> {
    let forget = |tx: Tx| async move { store::forget_provider_events(&tx, tx.now().minus(REMEMBER_EVENTS)).await };
    state.store.write(forget).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_intent_is_in_one_hand_at_a_time_and_one_that_is_due_again_meanwhile_is_not_forgotten() {
        let calls = Calls::new(2);
        let item = Due::Attempt(Uuid::nil(), Uuid::nil());
        assert_eq!(calls.offer([item].into_iter(), false), 1);
        let mut worker = Worker { calls: &calls, left: false };
        let in_work = calls.next(&mut worker).map(|item| InWork(&calls, item));
        assert_eq!(calls.offer([item].into_iter(), false), 0, "somebody has it in hand");
        drop(in_work);
        let again = calls.next(&mut worker).map(|item| InWork(&calls, item));
        assert!(again.is_some(), "it was found due while it was being asked");
        drop(again);
        assert!(calls.next(&mut worker).is_none());
        drop(worker);
        assert!(calls.are_done());
        assert_eq!(calls.offer([item].into_iter(), false), 1, "given back, it may be taken again");
    }

    #[test]
    fn no_more_workers_are_asked_for_than_there_may_be() {
        let calls = Calls::new(3);
        let items = (0..10).map(|n| Due::Refund(Uuid::nil(), Uuid::from_u128(n)));
        assert_eq!(calls.offer(items.clone(), true), 3);
        assert_eq!(calls.offer(items, true), 0);
        assert!(calls.has_more() && !calls.has_more());
    }
}
