//! What follows from each thing heard or learnt: moves, bookings, intents and events, in the unit that learnt it.
//!
//! Every step works on a [`Case`], and taking a case takes the order's row: all that is decided about one order's
//! money is decided one after another.

use contracts::orders::OrderState;
use contracts::payments::{
    PaymentAuthorized, PaymentFailed, PaymentRefunded, PaymentState, PaymentStatus, PaymentSucceeded, PaymentVoided,
};
use kernel::clock::Timestamp;
use kernel::ids;
use kernel::store::{StoreError, Tx};
use uuid::Uuid;

use crate::attempt::{AttemptState, Finding, Heard, IllegalMove, Move, Operation, key, late_key, wait_before_look};
use crate::jobs;
use crate::ledger::{Cause, TransferKind, bookings};
use crate::settings::Settings;
use crate::store::{self, AttemptRow, PaymentRow};

/// The deadline after which no further card is tried.
pub(crate) const RETRY_WINDOW: &str = "retry_window";
/// When the provider's books are looked at again.
pub(crate) const LOOK_AGAIN: &str = "look_again";

/// What a unit tells the world of a payment; at most one thing each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Telling {
    Authorized,
    Succeeded,
    Failed,
    Voided,
    Refunded,
}

/// A card as it may be kept.
#[derive(Clone, Debug)]
pub(crate) struct PayWith {
    pub(crate) token: String,
    pub(crate) masked: String,
}

impl PayWith {
    pub(crate) fn new(token: &str, brand: &str, last4: &str) -> Self {
        Self { token: token.to_owned(), masked: format!("{brand} ****{last4}") }
    }
}

/// A payment with its newest attempt and what was heard of its order, while nobody else decides about them.
pub(crate) struct Case {
    pub(crate) heard: Heard,
    pub(crate) payment: PaymentRow,
    pub(crate) attempt: AttemptRow,
    stored: AttemptRow,
    booked: Vec<(TransferKind, Cause)>,
    asks: bool,
}

impl Case {
    /// The case of an order, with what has just been heard of it written down; none if it has no payment yet.
    pub(crate) async fn of(tx: &Tx, org: Uuid, order: Uuid, news: Heard) -> Result<Option<Self>, StoreError> {
        let heard = store::take_order(tx, org, order, news).await?;
        let Some(payment) = store::payment_of_order(tx, order).await?.filter(|p| p.org_id == org) else {
            return Ok(None);
        };
        let attempt = store::attempts(tx, org, payment.id).await?.pop().ok_or(StoreError::NoRow)?;
        Ok(Some(Self { heard, payment, stored: attempt.clone(), attempt, booked: Vec::new(), asks: false }))
    }

    fn go(&mut self, step: Move) -> Result<(), IllegalMove> {
        let (from, to) = (self.attempt.state, self.attempt.state.after(step)?);
        let cause = self.cause(self.attempt.id, self.attempt.amount_minor, self.attempt.operation_key.clone());
        self.booked.extend(bookings(from, to).into_iter().map(|kind| (kind, cause.clone())));
        self.attempt.state = to;
        Ok(())
    }

    pub(crate) fn cause(&self, source: Uuid, amount_minor: i64, provider_key: String) -> Cause {
        let (org_id, payment_id, order_id) = (self.payment.org_id, self.payment.id, self.payment.order_id);
        Cause { org_id, source, payment_id, order_id, amount_minor, currency: self.payment.currency, provider_key }
    }

    /// Writes the intent that the order's fate asks for, if any; `late` says that the success came after the end.
    fn follow(&mut self, now: Timestamp, late: bool) {
        let Some(operation) = self.attempt.state.wanted(self.heard) else { return };
        let withdraws = operation == Operation::Authorize && self.attempt.provider_id.is_some();
        self.go(Move::Send(operation)).expect("only a legal move is wanted");
        let (payment, number) = (self.payment.id, self.attempt.number);
        self.attempt.operation_key = match operation {
            _ if withdraws => late_key(payment),
            Operation::Authorize => self.attempt.authorize_key.clone(),
            Operation::Capture => key(payment, "capture", number),
            Operation::Void if late => late_key(payment),
            Operation::Void => key(payment, "void", number),
        };
        (self.attempt.keyed_at, self.attempt.next_try_at) = (now, Some(now));
        (self.attempt.tries, self.attempt.last_error) = (0, None);
        self.asks = true;
    }

    /// Nothing was taken: says until when another card may be tried, or that this is final.
    fn fail(&mut self, now: Timestamp, settings: &Settings, may_retry: bool) -> Telling {
        let until = self.payment.retry_until.unwrap_or_else(|| now.plus(settings.retry_window()));
        let again = may_retry && !self.heard.ended && self.payment.attempts < settings.max_attempts && until > now;
        self.payment.retry_until = again.then_some(until);
        self.payment.closed = !again;
        self.payment.decline_code = self.attempt.decline_code.clone();
        Telling::Failed
    }

    /// Saves everything that changed and publishes what there is to tell.
    pub(crate) async fn finish(&mut self, tx: &Tx, telling: Option<Telling>) -> Result<(), StoreError> {
        if self.attempt != self.stored {
            self.attempt.updated_at = tx.now();
            store::save_attempt(tx, &self.stored, &self.attempt).await?;
            self.attempt.version = self.stored.version + 1;
            self.stored = self.attempt.clone();
        }
        for (kind, cause) in std::mem::take(&mut self.booked) {
            store::ledger::book(tx, kind, &cause).await?;
        }
        let before = self.payment.version;
        self.payment.version += i64::from(telling.is_some());
        self.payment.status = public_status(&self.payment, self.attempt.state);
        self.payment.updated_at = tx.now();
        store::save_payment(tx, before, &self.payment).await?;
        if std::mem::take(&mut self.asks) {
            tx.wake(jobs::ASK);
        }
        telling.map_or(Ok(()), |telling| tell(tx, telling, &self.payment))
    }
}

/// The public state: refunds outweigh the newest attempt.
fn public_status(payment: &PaymentRow, attempt: AttemptState) -> PaymentStatus {
    let all_back = payment.captured_minor > 0 && payment.refunded_minor == payment.captured_minor;
    if all_back { PaymentStatus::Refunded } else { attempt.public() }
}

fn tell(tx: &Tx, telling: Telling, payment: &PaymentRow) -> Result<(), StoreError> {
    let state = PaymentState {
        org_id: payment.org_id,
        payment_id: payment.id,
        version: payment.version,
        order_id: payment.order_id,
        customer_id: payment.customer_id,
        customer_email: payment.customer_email.clone(),
        status: payment.status,
        currency: payment.currency,
        amount_minor: payment.amount_minor,
        captured_minor: payment.captured_minor,
        refunded_minor: payment.refunded_minor,
        masked_card: payment.masked_card.clone(),
        decline_code: payment.decline_code.clone().filter(|_| telling == Telling::Failed),
        retry_until: payment.retry_until.filter(|_| telling == Telling::Failed),
        at: tx.now(),
    };
    match telling {
        Telling::Authorized => tx.emit(PaymentAuthorized(state)),
        Telling::Succeeded => tx.emit(PaymentSucceeded(state)),
        Telling::Failed => tx.emit(PaymentFailed(state)),
        Telling::Voided => tx.emit(PaymentVoided(state)),
        Telling::Refunded => tx.emit(PaymentRefunded(state)),
    }
}

/// A new order: its payment and the intent to hold the money. Nothing if the order's end was heard first, or twice.
pub(crate) async fn start(tx: &Tx, order: &OrderState, traceparent: String) -> Result<(), StoreError> {
    let heard = store::take_order(tx, order.org_id, order.order_id, Heard::default()).await?;
    if heard.ended || store::payment_of_order(tx, order.order_id).await?.is_some() {
        return Ok(());
    }
    let card = PayWith::new(&order.card.token, &order.card.brand, &order.card.last4);
    let payment = PaymentRow {
        org_id: order.org_id,
        id: ids::fresh(),
        order_id: order.order_id,
        customer_id: order.customer_id,
        customer_email: order.customer_email.clone(),
        version: 0,
        status: AttemptState::Authorizing.public(),
        currency: order.currency,
        amount_minor: order.total_minor,
        captured_minor: 0,
        promised_minor: 0,
        refunded_minor: 0,
        masked_card: card.masked.clone(),
        decline_code: None,
        retry_until: None,
        closed: false,
        attempts: 1,
        refunds: 0,
        created_at: tx.now(),
        updated_at: tx.now(),
    };
    tx.insert(&payment).await?;
    tx.insert(&new_attempt(&payment, card, traceparent, tx.now())).await?;
    tx.wake(jobs::ASK);
    Ok(())
}

/// An attempt whose intent to hold the money is written down with its key.
fn new_attempt(payment: &PaymentRow, card: PayWith, traceparent: String, now: Timestamp) -> AttemptRow {
    let sent = AttemptState::Created.after(Move::Send(Operation::Authorize));
    let authorize_key = key(payment.id, "authorize", payment.attempts);
    AttemptRow {
        org_id: payment.org_id,
        id: ids::fresh(),
        payment_id: payment.id,
        order_id: payment.order_id,
        number: payment.attempts,
        state: sent.expect("a new attempt may be sent"),
        version: 1,
        amount_minor: payment.amount_minor,
        currency: payment.currency,
        card_token: card.token,
        masked_card: card.masked,
        operation_key: authorize_key.clone(),
        authorize_key,
        keyed_at: now,
        provider_id: None,
        challenge_url: None,
        decline_code: None,
        tries: 0,
        next_try_at: Some(now),
        last_error: None,
        traceparent,
        created_at: now,
        updated_at: now,
    }
}

/// Another card for an order whose last one was refused; the caller has checked that it may be tried.
pub(crate) async fn try_again(tx: &Tx, case: &mut Case, card: PayWith) -> Result<(), StoreError> {
    case.payment.attempts += 1;
    case.payment.masked_card.clone_from(&card.masked);
    case.payment.decline_code = None;
    let attempt = new_attempt(&case.payment, card, tx.trace().traceparent(), tx.now());
    tx.insert(&attempt).await?;
    (case.stored, case.attempt, case.asks) = (attempt.clone(), attempt, true);
    case.finish(tx, None).await
}

/// The kitchen accepted: what is held is taken.
pub(crate) async fn accepted(tx: &Tx, case: &mut Case) -> Result<(), StoreError> {
    case.follow(tx.now(), false);
    case.finish(tx, None).await
}

/// The order ended without success: let go what is held, give back what was taken, await what is under way.
pub(crate) async fn ended(tx: &Tx, case: &mut Case) -> Result<(), StoreError> {
    case.follow(tx.now(), false);
    let telling = give_up(tx, case).await?;
    case.finish(tx, telling).await?;
    if case.attempt.state == AttemptState::Captured {
        crate::refunding::give_all_back(tx, case, None).await?;
    }
    Ok(())
}

/// No further card will be tried: says so once, if the last one was refused and nobody has said it.
pub(crate) async fn give_up(tx: &Tx, case: &mut Case) -> Result<Option<Telling>, StoreError> {
    if case.payment.closed || !case.attempt.state.is_over() {
        return Ok(None);
    }
    (case.payment.closed, case.payment.retry_until) = (true, None);
    tx.clear_timer(case.payment.org_id, case.payment.id, RETRY_WINDOW).await?;
    Ok(Some(Telling::Failed))
}

/// Takes in what a call or the provider's books told of the newest attempt; gives what was told to the world.
pub(crate) async fn learn(
    tx: &Tx,
    settings: &Settings,
    case: &mut Case,
    finding: &Finding,
) -> Result<Option<Telling>, StoreError> {
    let (before, now) = (case.attempt.state, tx.now());
    let path = before.moves(finding);
    // A finding that the machine does not allow is a contradiction between the books: nothing moves, people look.
    let contradiction = path.iter().try_fold(before, |state, step| state.after(*step)).err();
    if let Some(illegal) = contradiction {
        tracing::error!(orderId = %case.payment.order_id, paymentId = %case.payment.id, error = %illegal, "the provider contradicts us");
        schedule(tx, case, before, &Finding::Silent(illegal.to_string())).await?;
        case.finish(tx, None).await?;
        return Ok(None);
    }
    for step in path {
        case.go(step).expect("the whole path was checked");
    }
    take_details(&mut case.attempt, finding);
    schedule(tx, case, before, finding).await?;
    let telling = if case.attempt.state == before { None } else { conclude(case, now, settings, before) };
    if case.payment.retry_until.is_some_and(|_| telling == Some(Telling::Failed)) {
        let until = case.payment.retry_until.unwrap_or(now);
        tx.set_timer(case.payment.org_id, case.payment.id, RETRY_WINDOW, until).await?;
    }
    case.finish(tx, telling).await?;
    if case.attempt.state == AttemptState::Captured && case.heard.ended {
        crate::refunding::give_all_back(tx, case, Some(late_key(case.payment.id))).await?;
    }
    Ok(telling)
}

fn take_details(attempt: &mut AttemptRow, finding: &Finding) {
    match finding {
        Finding::Held(id) => (attempt.provider_id, attempt.challenge_url) = (Some(id.clone()), None),
        Finding::Challenged(id, url) => {
            (attempt.provider_id, attempt.challenge_url) = (Some(id.clone()), Some(url.clone()));
        }
        Finding::Refused(code) => (attempt.decline_code, attempt.challenge_url) = (Some(code.clone()), None),
        Finding::Lapsed => attempt.decline_code = Some("authorization_expired".into()),
        Finding::Taken | Finding::Released | Finding::Silent(_) | Finding::Doubtful(_) | Finding::NothingNew(_) => {}
    }
}

/// When the provider is asked again; never, once the outcome is known.
async fn schedule(tx: &Tx, case: &mut Case, before: AttemptState, finding: &Finding) -> Result<(), StoreError> {
    let (attempt, now) = (&mut case.attempt, tx.now());
    let wait = match finding {
        // Nobody tells for sure that the cardholder has acted: messages may be lost.
        _ if attempt.state == AttemptState::RequiresAction => Some(std::time::Duration::from_secs(10)),
        Finding::Doubtful(_) if !before.is_unknown() => Some(std::time::Duration::ZERO),
        Finding::Silent(_) | Finding::Doubtful(_) => {
            attempt.tries += 1;
            Some(wait_before_look(attempt.tries - 1))
        }
        Finding::NothingNew(_) if attempt.state.is_open() => Some(wait_before_look(0)),
        _ => None,
    };
    attempt.last_error = match finding {
        Finding::Silent(why) | Finding::Doubtful(why) | Finding::NothingNew(why) => Some(why.clone()),
        _ => None,
    };
    attempt.next_try_at = wait.map(|wait| now.plus(wait));
    match attempt.next_try_at {
        Some(at) if at > now => tx.set_timer(attempt.org_id, attempt.id, LOOK_AGAIN, at).await?,
        Some(_) => case.asks = true,
        None => {
            tx.clear_timer(attempt.org_id, attempt.id, LOOK_AGAIN).await?;
        }
    }
    Ok(())
}

/// What a new state means for the payment.
fn conclude(case: &mut Case, now: Timestamp, settings: &Settings, before: AttemptState) -> Option<Telling> {
    match case.attempt.state {
        AttemptState::Authorized => {
            case.follow(now, true);
            (!case.heard.ended).then_some(Telling::Authorized)
        }
        AttemptState::RequiresAction => {
            case.follow(now, true);
            None
        }
        AttemptState::Declined => Some(case.fail(now, settings, true)),
        // A challenge nobody answered is like a refusal; a hold that ran out comes too late for another card.
        AttemptState::Expired => Some(case.fail(now, settings, before == AttemptState::RequiresAction)),
        AttemptState::Voided => {
            case.payment.closed = true;
            Some(Telling::Voided)
        }
        AttemptState::Captured => {
            case.payment.closed = true;
            case.payment.captured_minor = case.attempt.amount_minor;
            Some(Telling::Succeeded)
        }
        _ => None,
    }
}
