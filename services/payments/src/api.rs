//! Where a request enters: the route table, then the handlers in its order.

use std::sync::Arc;
use std::time::Duration;

use contracts::payments::PaymentStatus;
use contracts::permissions::{ADMIN, LEDGER_READ, PAYMENT_MAKE, PAYMENT_REFUND, SUPPORT};
use kernel::clock::Timestamp;
use kernel::http::{
    Accepted, Body, Caller, Created, Done, Fail, Json, Page, Path, Problem, Query, Request, Routes, Whole, page,
};
use kernel::manifest::Access;
use kernel::store::{Db, StoreError, Tx};
use uuid::Uuid;

use crate::Payments;
use crate::attempt::{AttemptState, Heard};
use crate::ledger::Account;
use crate::reconcile::{self, CompareError, Comparison};
use crate::refund::{MessageRefusal, PaymentRefusal};
use crate::refunding::{self, Wish};
use crate::steps::{self, Case, PayWith};
use crate::store::{self, PaymentRow, Viewer};
use crate::views::{
    AccountView, CurrencyView, LedgerSummary, NewPayment, NewRefund, PaymentDetail, PaymentFilter, PaymentLedger,
    PaymentPath, PaymentView, RefundView, StateCount,
};
use crate::webhook::Message;

/// How fresh a sign-in must be that moves money.
const FRESH: Duration = Duration::from_secs(15 * 60);

pub(crate) fn routes() -> Routes<Payments> {
    let provider = Access::Anyone("the provider signs its body");
    let once = "deduplicated by the provider's event id";
    Routes::new()
        .post(
            "/api/v1/payments",
            Access::May(PAYMENT_MAKE),
            "Try another card for an order whose payment failed",
            pay_again,
        )
        .get("/api/v1/payments", Access::SignedIn, "List payments, newest first", list_payments)
        .get("/api/v1/payments/{id}", Access::SignedIn, "Show one payment with its attempts and refunds", show_payment)
        .post(
            "/api/v1/payments/{id}/refunds",
            Access::May(PAYMENT_REFUND),
            "Give all or part of a payment back",
            refund_payment,
        )
        .get(
            "/api/v1/payments/{id}/ledger",
            Access::May(LEDGER_READ),
            "Show what was booked for one payment",
            show_payment_ledger,
        )
        .get("/api/v1/ledger/summary", Access::May(LEDGER_READ), "Sum up the books", show_ledger_summary)
        .get(
            "/api/v1/ledger/differences",
            Access::May(LEDGER_READ),
            "Compare the books with the provider's",
            compare_books,
        )
        .protocol(
            "/api/v1/provider-events",
            provider,
            once,
            "Take a message of the payment provider",
            take_provider_event,
        )
}

fn viewer(caller: &Caller) -> Viewer {
    if caller.has(ADMIN) || caller.has(SUPPORT) {
        return Viewer::Everything;
    }
    Viewer::Person(caller.id(), caller.orgs.clone())
}

/// The payment, if the caller may know of it.
fn visible(caller: &Caller, payment: Option<PaymentRow>) -> Result<PaymentRow, Fail> {
    let seen = payment.filter(|p| match viewer(caller) {
        Viewer::Everything => true,
        Viewer::Person(person, orgs) => p.customer_id == person || orgs.contains(&p.org_id),
    });
    seen.ok_or_else(Fail::not_found)
}

async fn pay_again(
    tx: Tx,
    state: Arc<Payments>,
    caller: Caller,
    body: Body<NewPayment>,
) -> Result<Accepted<PaymentView>, Fail> {
    let Body(NewPayment { order_id, card }) = body;
    let payment = visible(&caller, store::payment_of_order(&tx, order_id).await?)?;
    if matches!(viewer(&caller), Viewer::Person(person, _) if person != payment.customer_id) {
        return Err(Fail::forbidden());
    }
    let case = Case::of(&tx, payment.org_id, order_id, Heard::default()).await?;
    let mut case = case.ok_or_else(Fail::not_found)?;
    may_try_again(&case, tx.now(), state.settings.get().max_attempts)?;
    steps::try_again(&tx, &mut case, PayWith::new(&card.token, &card.brand, &card.last4)).await?;
    Ok(Accepted(case.payment.into()))
}

pub(crate) fn may_try_again(case: &Case, now: Timestamp, max_attempts: i64) -> Result<(), PaymentRefusal> {
    if case.attempt.state == AttemptState::Captured {
        return Err(PaymentRefusal::AlreadyPaid);
    }
    if !case.attempt.state.is_over() {
        return Err(PaymentRefusal::AttemptUnderWay);
    }
    let in_time = case.payment.retry_until.is_some_and(|until| now < until);
    let allowed = in_time && !case.heard.ended && !case.payment.closed && case.payment.attempts < max_attempts;
    if allowed { Ok(()) } else { Err(PaymentRefusal::TooLate) }
}

async fn list_payments(
    state: Arc<Payments>,
    caller: Caller,
    filter: Query<PaymentFilter>,
) -> Result<Json<Page<PaymentView>>, Fail> {
    let Query(PaymentFilter { order_id, page_size, page_token }) = filter;
    let before = page_token.map(|token| read_token(&token)).transpose()?;
    let size = page_size.unwrap_or(20);
    let rows = store::payments(&state.store.read(), viewer(&caller), order_id, before, size + 1).await?;
    let token = |p: &PaymentRow| format!("{}.{}", p.created_at.micros(), p.id.simple());
    Ok(Json(Page::cut(rows, size, token).map(PaymentView::from)))
}

fn read_token(token: &str) -> Result<page::Place, Fail> {
    let parts = token.split_once('.').and_then(|(micros, id)| Some((micros.parse().ok()?, id.parse().ok()?)));
    let (micros, id) = parts.ok_or_else(page::not_ours)?;
    Ok((Timestamp::from_micros(micros), id))
}

async fn show_payment(
    state: Arc<Payments>,
    caller: Caller,
    path: Path<PaymentPath>,
) -> Result<Json<PaymentDetail>, Fail> {
    let db = state.store.read();
    let payment = visible(&caller, store::payment(&db, path.0.id).await?)?;
    Ok(Json(detail(&db, payment, caller.id()).await?))
}

async fn detail(db: &Db, payment: PaymentRow, viewer: Uuid) -> Result<PaymentDetail, StoreError> {
    let attempts = store::attempts(db, payment.org_id, payment.id).await?;
    let refunds = store::refunds(db, payment.org_id, payment.id).await?;
    // Whoever opens the challenge can pass it, so nobody but the one who pays gets to see where it is.
    let challenge =
        attempts.last().filter(|a| a.state == AttemptState::RequiresAction && payment.customer_id == viewer);
    Ok(PaymentDetail {
        challenge_url: challenge.and_then(|a| a.challenge_url.clone()),
        payment: payment.into(),
        attempts: attempts.into_iter().map(Into::into).collect(),
        refunds: refunds.into_iter().map(Into::into).collect(),
    })
}

async fn refund_payment(
    tx: Tx,
    _: Arc<Payments>,
    caller: Caller,
    path: Path<PaymentPath>,
    body: Body<NewRefund>,
) -> Result<Created<RefundView>, Fail> {
    let payment = visible(&caller, store::payment(&tx, path.0.id).await?)?;
    // Giving money away is not for whoever finds a signed-in tablet.
    caller.signed_in_within(FRESH, tx.now())?;
    let case = Case::of(&tx, payment.org_id, payment.order_id, Heard::default()).await?;
    let mut case = case.ok_or_else(Fail::not_found)?;
    let Body(NewRefund { amount_minor, reason }) = body;
    let wish = Wish { amount_minor, reason, requested_by: Some(caller.id()), key: None };
    let refund = refunding::ask(&tx, &mut case, wish).await??;
    tracing::info!(
        orderId = %payment.order_id, paymentId = %payment.id, amount = amount_minor, currency = %payment.currency,
        maskedCard = payment.masked_card, "refund asked for"
    );
    Ok(Created(format!("/api/v1/payments/{}", payment.id), refund.into()))
}

async fn show_payment_ledger(
    state: Arc<Payments>,
    caller: Caller,
    path: Path<PaymentPath>,
) -> Result<Json<PaymentLedger>, Fail> {
    let db = state.store.read();
    let payment = visible(&caller, store::payment(&db, path.0.id).await?)?;
    let transfers = store::ledger::of_payment(&db, payment.id).await?;
    Ok(Json(PaymentLedger { payment_id: payment.id, transfers: transfers.into_iter().map(Into::into).collect() }))
}

async fn show_ledger_summary(state: Arc<Payments>) -> Result<Json<LedgerSummary>, Fail> {
    let db = state.store.read();
    let balances = store::ledger::balances(&db).await?;
    let accounts: Vec<AccountView> = balances
        .into_iter()
        .map(|b| AccountView {
            currency: b.currency,
            account: b.account,
            debit_minor: b.debit_minor,
            credit_minor: b.credit_minor,
            balance_minor: b.debit_minor - b.credit_minor,
        })
        .collect();
    let sum = |currency, account: Option<Account>| -> i64 {
        let counted = accounts.iter().filter(|a| a.currency == currency && account.is_none_or(|one| one == a.account));
        counted.map(|a| a.balance_minor).sum()
    };
    let totals = store::ledger::totals(&db).await?.into_iter().map(|t| CurrencyView {
        currency: t.currency,
        captured_minor: t.captured_minor,
        refunded_minor: t.refunded_minor,
        receivable_minor: sum(t.currency, Some(Account::ProviderReceivable)),
        total_minor: sum(t.currency, None),
    });
    let currencies: Vec<CurrencyView> = totals.collect();
    let agree = |c: &CurrencyView| c.total_minor == 0 && c.captured_minor - c.refunded_minor == c.receivable_minor;
    let balanced = currencies.iter().all(agree);
    let (payments, attempts, refunds, unresolved) = counts(&db).await?;
    let captured_twice = store::ledger::orders_captured_twice(&db).await?;
    Ok(Json(LedgerSummary { balanced, currencies, accounts, payments, attempts, refunds, unresolved, captured_twice }))
}

async fn counts(db: &Db) -> Result<(Vec<StateCount>, Vec<StateCount>, Vec<StateCount>, i64), StoreError> {
    let payments = store::ledger::payments_by_status(db).await?;
    let attempts = store::ledger::attempts_by_state(db).await?;
    let refunds = store::ledger::refunds_by_state(db).await?;
    let open_attempts = attempts.iter().filter(|a| a.state.is_open()).map(|a| a.total);
    let open_refunds = refunds.iter().filter(|r| r.state.is_open()).map(|r| r.total);
    let unresolved = open_attempts.chain(open_refunds).sum();
    let named = |state: &str, count| StateCount { state: state.to_owned(), count };
    let status = |s: PaymentStatus, count| named(s.word(), count);
    Ok((
        payments.into_iter().map(|p| status(p.status, p.total)).collect(),
        attempts.iter().map(|a| named(a.state.word(), a.total)).collect(),
        refunds.iter().map(|r| named(r.state.word(), r.total)).collect(),
        unresolved,
    ))
}

async fn compare_books(state: Arc<Payments>) -> Result<Json<Comparison>, Fail> {
    match reconcile::compare(&state.store.read(), &*state.provider).await {
        Ok(comparison) => Ok(Json(comparison)),
        Err(CompareError::Store(error)) => Err(error.into()),
        Err(CompareError::Provider(error)) => {
            tracing::warn!(%error, "the books could not be compared");
            let detail = "The provider's books cannot be read now; ask again later.";
            Err(Problem::new(503, "provider_unreachable", detail).retry_after(Duration::from_secs(5)).into())
        }
    }
}

/// Answered only after the message is stored, so that the provider repeats one that was lost.
async fn take_provider_event(state: Arc<Payments>, request: Whole) -> Result<Done, Fail> {
    let header = |name: &str| text_header(&request.0, name);
    let message = Message {
        id: header("webhook-id")?,
        timestamp: header("webhook-timestamp")?,
        signature: header("webhook-signature")?,
        body: &request.0.body,
    };
    let hint = message.believe(&state.webhook_secret.get(), state.clock.now())?;
    let unit = move |tx: Tx| {
        let hint = hint.clone();
        async move {
            if !store::take_provider_event(&tx, &hint.event_id, &hint.kind).await? {
                return Ok::<_, Fail>(Done);
            }
            let Some(order) = hint.order else { return Ok(Done) };
            if store::look_now(&tx, order, hint.concerns()).await? > 0 {
                tx.wake(crate::jobs::ASK);
            }
            Ok(Done)
        }
    };
    Ok(state.store.write(unit).await?)
}

fn text_header<'a>(request: &'a Request, name: &str) -> Result<&'a str, MessageRefusal> {
    let value = request.headers.get(name).and_then(|v| v.to_str().ok());
    value.filter(|text| (1..=255).contains(&text.len())).ok_or(MessageRefusal::BadSignature)
}
