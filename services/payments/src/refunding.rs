//! What follows for refunds: setting money aside, the intent, and what the provider's answer changes.

use std::time::Duration;

use kernel::ids;
use kernel::store::{StoreError, Tx};
use uuid::Uuid;

use crate::attempt::{AttemptState, key, wait_before_look};
use crate::jobs;
use crate::ledger::TransferKind;
use crate::refund::{PaymentRefusal, RefundFinding, RefundState};
use crate::steps::{Case, LOOK_AGAIN, Telling};
use crate::store::{self, RefundRow};

/// When a refund that the card refused is asked for once more, because its order has ended and nobody will ask by hand.
pub(crate) const REFUND_AGAIN: &str = "refund_again";
/// Waits before the second, third, … try; cards are unblocked and accounts reopened within days, if ever.
const AGAIN_AFTER: [Duration; 4] = [hours(1), hours(6), hours(24), hours(72)];

const fn hours(n: u64) -> Duration {
    Duration::from_secs(n * 3600)
}

/// A refund as it is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) amount_minor: i64,
    pub(crate) reason: String,
    pub(crate) requested_by: Option<Uuid>,
    /// The provider's key, where it is not simply the next number.
    pub(crate) key: Option<String>,
}

/// Sets the money aside and writes the intent, or says why not.
pub(crate) async fn ask(tx: &Tx, case: &mut Case, wish: Wish) -> Result<Result<RefundRow, PaymentRefusal>, StoreError> {
    let provider_id = match (&case.attempt.provider_id, case.attempt.state) {
        (Some(id), AttemptState::Captured) => id.clone(),
        _ => return Ok(Err(PaymentRefusal::NothingTaken)),
    };
    if !store::promise(tx, case.payment.org_id, case.payment.id, wish.amount_minor).await? {
        return Ok(Err(PaymentRefusal::RefundTooLarge));
    }
    case.payment.promised_minor += wish.amount_minor;
    case.payment.refunds += 1;
    let number = case.payment.refunds;
    let row = RefundRow {
        org_id: case.payment.org_id,
        id: ids::fresh(),
        payment_id: case.payment.id,
        order_id: case.payment.order_id,
        number,
        state: RefundState::Pending,
        version: 1,
        amount_minor: wish.amount_minor,
        currency: case.payment.currency,
        provider_id,
        key: wish.key.unwrap_or_else(|| key(case.payment.id, "refund", number)),
        keyed_at: tx.now(),
        reason: wish.reason,
        requested_by: wish.requested_by,
        failure_code: None,
        tries: 0,
        next_try_at: Some(tx.now()),
        last_error: None,
        traceparent: case.attempt.traceparent.clone(),
        created_at: tx.now(),
        updated_at: tx.now(),
    };
    tx.insert(&row).await?;
    case.finish(tx, None).await?;
    tx.wake(jobs::ASK);
    Ok(Ok(row))
}

/// Everything that was taken and is not yet on its way back goes back.
pub(crate) async fn give_all_back(tx: &Tx, case: &mut Case, key: Option<String>) -> Result<(), StoreError> {
    let left = case.payment.captured_minor - case.payment.promised_minor;
    if left <= 0 {
        return Ok(());
    }
    let wish = Wish { amount_minor: left, reason: "the order ended".into(), requested_by: None, key };
    if let Err(refusal) = ask(tx, case, wish).await? {
        tracing::error!(paymentId = %case.payment.id, error = ?refusal, "what is left of a capture could not be given back");
    }
    Ok(())
}

/// Takes in what a call or the provider's books told of a refund.
pub(crate) async fn learn(
    tx: &Tx,
    case: &mut Case,
    before: &RefundRow,
    finding: &RefundFinding,
) -> Result<Option<Telling>, StoreError> {
    let Some(state) = before.state.after(finding) else { return Ok(None) };
    let mut refund = before.clone();
    refund.state = state;
    schedule(tx, &mut refund, finding).await?;
    if let RefundFinding::Refused(code) = finding {
        refund.failure_code = Some(code.clone());
        store::unpromise(tx, refund.org_id, refund.payment_id, refund.amount_minor).await?;
        case.payment.promised_minor -= refund.amount_minor;
        if case.heard.ended {
            ask_again_later(tx, case, &refund, code).await?;
        }
    }
    refund.updated_at = tx.now();
    store::save_refund(tx, before, &refund).await?;
    if state != RefundState::Succeeded {
        return Ok(None);
    }
    case.payment.refunded_minor += refund.amount_minor;
    let cause = case.cause(refund.id, refund.amount_minor, refund.key.clone());
    store::ledger::book(tx, TransferKind::Refund, &cause).await?;
    case.finish(tx, Some(Telling::Refunded)).await?;
    Ok(Some(Telling::Refunded))
}

/// Each try is a refund of its own with the next number in its key. After the last one it takes a person.
async fn ask_again_later(tx: &Tx, case: &Case, refund: &RefundRow, code: &str) -> Result<(), StoreError> {
    let tries = usize::try_from(case.payment.refunds).unwrap_or(usize::MAX);
    match AGAIN_AFTER.get(tries.saturating_sub(1)) {
        Some(wait) => tx.set_timer(case.payment.org_id, case.payment.id, REFUND_AGAIN, tx.now().plus(*wait)).await,
        None => {
            tracing::error!(
                paymentId = %case.payment.id, orderId = %case.payment.order_id, amount = refund.amount_minor, code, tries,
                "the card takes no money of an ended order back; somebody has to pay it out another way"
            );
            Ok(())
        }
    }
}

async fn schedule(tx: &Tx, refund: &mut RefundRow, finding: &RefundFinding) -> Result<(), StoreError> {
    let (why, wait) = match finding {
        RefundFinding::Silent(why) => {
            refund.tries += 1;
            (Some(why.clone()), Some(wait_before_look(refund.tries - 1)))
        }
        RefundFinding::NothingNew(why) => (Some(why.clone()), Some(wait_before_look(0))),
        RefundFinding::Done | RefundFinding::Refused(_) => (None, None),
    };
    refund.last_error = why;
    refund.next_try_at = wait.map(|wait| tx.now().plus(wait));
    match refund.next_try_at {
        Some(at) => tx.set_timer(refund.org_id, refund.id, LOOK_AGAIN, at).await,
        None => tx.clear_timer(refund.org_id, refund.id, LOOK_AGAIN).await.map(drop),
    }
}
