//! All SQL of the payments: what was heard of orders, payments, attempts and refunds. The books are in `store::ledger`.

pub(crate) mod ledger;

use contracts::payments::PaymentStatus;
use kernel::clock::Timestamp;
use kernel::money::Currency;
use kernel::store::{Db, List, Migration, Scalar, StoreError, Tx, any};
use kernel::{params, row, sql};
use uuid::Uuid;

use crate::attempt::{AttemptState, Heard, Move};
use crate::refund::RefundState;

pub(crate) const STEPS: &[Migration] =
    &[Migration { name: "001_payments", sql: include_str!("../migrations/001_payments.sql") }];

row! {
    /// A payment: one for each order.
    pub(crate) struct PaymentRow in "payments" {
        pub(crate) org_id: Uuid,
        pub(crate) id: Uuid,
        pub(crate) order_id: Uuid,
        pub(crate) customer_id: Uuid,
        pub(crate) customer_email: String,
        pub(crate) version: i64,
        pub(crate) status: PaymentStatus,
        pub(crate) currency: Currency,
        pub(crate) amount_minor: i64,
        pub(crate) captured_minor: i64,
        pub(crate) promised_minor: i64,
        pub(crate) refunded_minor: i64,
        pub(crate) masked_card: String,
        pub(crate) decline_code: Option<String>,
        pub(crate) retry_until: Option<Timestamp>,
        pub(crate) closed: bool,
        pub(crate) attempts: i64,
        pub(crate) refunds: i64,
        pub(crate) created_at: Timestamp,
        pub(crate) updated_at: Timestamp,
    }
}

row! {
    /// One try to take the money.
    pub(crate) struct AttemptRow in "payment_attempts" {
        pub(crate) org_id: Uuid,
        pub(crate) id: Uuid,
        pub(crate) payment_id: Uuid,
        pub(crate) order_id: Uuid,
        pub(crate) number: i64,
        pub(crate) state: AttemptState,
        pub(crate) version: i64,
        pub(crate) amount_minor: i64,
        pub(crate) currency: Currency,
        pub(crate) card_token: String,
        pub(crate) masked_card: String,
        pub(crate) authorize_key: String,
        pub(crate) operation_key: String,
        pub(crate) keyed_at: Timestamp,
        pub(crate) provider_id: Option<String>,
        pub(crate) challenge_url: Option<String>,
        pub(crate) decline_code: Option<String>,
        pub(crate) tries: i64,
        pub(crate) next_try_at: Option<Timestamp>,
        pub(crate) last_error: Option<String>,
        pub(crate) traceparent: String,
        pub(crate) created_at: Timestamp,
        pub(crate) updated_at: Timestamp,
    }
}

row! {
    /// Money on its way back.
    pub(crate) struct RefundRow in "refunds" {
        pub(crate) org_id: Uuid,
        pub(crate) id: Uuid,
        pub(crate) payment_id: Uuid,
        pub(crate) order_id: Uuid,
        pub(crate) number: i64,
        pub(crate) state: RefundState,
        pub(crate) version: i64,
        pub(crate) amount_minor: i64,
        pub(crate) currency: Currency,
        pub(crate) provider_id: String,
        pub(crate) key: String,
        pub(crate) keyed_at: Timestamp,
        pub(crate) reason: String,
        pub(crate) requested_by: Option<Uuid>,
        pub(crate) failure_code: Option<String>,
        pub(crate) tries: i64,
        pub(crate) next_try_at: Option<Timestamp>,
        pub(crate) last_error: Option<String>,
        pub(crate) traceparent: String,
        pub(crate) created_at: Timestamp,
        pub(crate) updated_at: Timestamp,
    }
}

row! {
    /// A row that the provider has to be asked about now.
    pub(crate) struct DueRow {
        pub(crate) org_id: Uuid,
        pub(crate) id: Uuid,
    }
}

row! {
    struct HeardRow {
        ended: bool,
        accepted: bool,
    }
}

macro_rules! payment_columns {
    () => {
        "org_id, id, order_id, customer_id, customer_email, version, status, currency, amount_minor, captured_minor, promised_minor, refunded_minor, masked_card, decline_code, retry_until, closed, attempts, refunds, created_at, updated_at"
    };
}
macro_rules! attempt_columns {
    () => {
        "org_id, id, payment_id, order_id, number, state, version, amount_minor, currency, card_token, masked_card, authorize_key, operation_key, keyed_at, provider_id, challenge_url, decline_code, tries, next_try_at, last_error, traceparent, created_at, updated_at"
    };
}
macro_rules! refund_columns {
    () => {
        "org_id, id, payment_id, order_id, number, state, version, amount_minor, currency, provider_id, key, keyed_at, reason, requested_by, failure_code, tries, next_try_at, last_error, traceparent, created_at, updated_at"
    };
}

/// Writes down what was heard of an order, gives all that was, and keeps everybody else from deciding on it meanwhile.
pub(crate) async fn take_order(tx: &Tx, org: Uuid, order: Uuid, news: Heard) -> Result<Heard, StoreError> {
    let sql = sql!(
        HeardRow,
        "INSERT INTO orders_heard (org_id, order_id, ended, accepted, touched) VALUES ($1, $2, $3, $4, 1) ON CONFLICT (org_id, order_id) DO UPDATE SET ended = orders_heard.ended OR excluded.ended, accepted = orders_heard.accepted OR excluded.accepted, touched = orders_heard.touched + 1 RETURNING ended, accepted"
    );
    let HeardRow { ended, accepted } = tx.one(sql, params![org, order, news.ended, news.accepted]).await?;
    Ok(Heard { ended, accepted })
}

pub(crate) async fn payment(db: &Db, id: Uuid) -> Result<Option<PaymentRow>, StoreError> {
    let sql = sql!(PaymentRow, concat!("SELECT ", payment_columns!(), " FROM payments WHERE id = $1"));
    db.maybe(sql, params![id]).await
}

pub(crate) async fn payment_of_order(db: &Db, order: Uuid) -> Result<Option<PaymentRow>, StoreError> {
    let sql = sql!(PaymentRow, concat!("SELECT ", payment_columns!(), " FROM payments WHERE order_id = $1"));
    db.maybe(sql, params![order]).await
}

/// Who asks for a list of payments.
#[derive(Clone, Debug)]
pub(crate) enum Viewer {
    /// Support and administrators see all.
    Everything,
    /// Others see what they pay and what their organisations are paid.
    Person(Uuid, Vec<Uuid>),
}

/// Payments that the viewer may see, newest first.
pub(crate) async fn payments(
    db: &Db,
    viewer: Viewer,
    order: Option<Uuid>,
    before: Option<(Timestamp, Uuid)>,
    limit: i64,
) -> Result<Vec<PaymentRow>, StoreError> {
    let list = List::new(concat!("SELECT ", payment_columns!(), " FROM payments"));
    let list = match viewer {
        Viewer::Everything => list,
        Viewer::Person(person, orgs) => {
            list.and_pair("(customer_id = {} OR org_id = ANY({}))", Some((person, any(&orgs))))
        }
    };
    let list = list.and_if("order_id = {}", order).and_pair("(created_at, id) < ({}, {})", before);
    list.fetch(db, "created_at DESC, id DESC", limit).await
}

/// Saves what may change, but for what refunds promise; `before` must still be the stored version.
pub(crate) async fn save_payment(tx: &Tx, before: i64, p: &PaymentRow) -> Result<(), StoreError> {
    let sql = sql!(
        "UPDATE payments SET version = $4, status = $5, captured_minor = $6, refunded_minor = $7, masked_card = $8, decline_code = $9, retry_until = $10, closed = $11, attempts = $12, refunds = $13, updated_at = $14 WHERE org_id = $1 AND id = $2 AND version = $3"
    );
    let values = params![
        p.org_id,
        p.id,
        before,
        p.version,
        p.status,
        p.captured_minor,
        p.refunded_minor,
        p.masked_card,
        p.decline_code,
        p.retry_until,
        p.closed,
        p.attempts,
        p.refunds,
        p.updated_at
    ];
    one_row(tx.run(sql, values).await?, "payment")
}

/// Sets money aside for a refund; false if less than that is left of the capture.
pub(crate) async fn promise(tx: &Tx, org: Uuid, payment: Uuid, amount_minor: i64) -> Result<bool, StoreError> {
    let sql = sql!(
        "UPDATE payments SET promised_minor = promised_minor + $3 WHERE org_id = $1 AND id = $2 AND captured_minor - promised_minor >= $3"
    );
    Ok(tx.run(sql, params![org, payment, amount_minor]).await? == 1)
}

/// Takes back what was set aside for a refund that failed.
pub(crate) async fn unpromise(tx: &Tx, org: Uuid, payment: Uuid, amount_minor: i64) -> Result<(), StoreError> {
    let sql = sql!(
        "UPDATE payments SET promised_minor = promised_minor - $3 WHERE org_id = $1 AND id = $2 AND promised_minor - refunded_minor >= $3"
    );
    one_row(tx.run(sql, params![org, payment, amount_minor]).await?, "promise")
}

pub(crate) async fn attempt(db: &Db, org: Uuid, id: Uuid) -> Result<Option<AttemptRow>, StoreError> {
    let sql = sql!(
        AttemptRow,
        concat!("SELECT ", attempt_columns!(), " FROM payment_attempts WHERE org_id = $1 AND id = $2")
    );
    db.maybe(sql, params![org, id]).await
}

/// The attempts of a payment, oldest first.
pub(crate) async fn attempts(db: &Db, org: Uuid, payment: Uuid) -> Result<Vec<AttemptRow>, StoreError> {
    let sql = sql!(
        AttemptRow,
        concat!(
            "SELECT ",
            attempt_columns!(),
            " FROM payment_attempts WHERE org_id = $1 AND payment_id = $2 ORDER BY number"
        )
    );
    db.all(sql, params![org, payment]).await
}

/// Saves an attempt if it is still in the version and state that the decision was made on.
pub(crate) async fn save_attempt(tx: &Tx, before: &AttemptRow, a: &AttemptRow) -> Result<(), StoreError> {
    let sql = sql!(
        "UPDATE payment_attempts SET state = $5, version = $6, operation_key = $7, keyed_at = $8, provider_id = $9, challenge_url = $10, decline_code = $11, tries = $12, next_try_at = $13, last_error = $14, updated_at = $15 WHERE org_id = $1 AND id = $2 AND version = $3 AND state = $4"
    );
    let values = params![
        a.org_id,
        a.id,
        before.version,
        before.state,
        a.state,
        before.version + 1,
        a.operation_key,
        a.keyed_at,
        a.provider_id,
        a.challenge_url,
        a.decline_code,
        a.tries,
        a.next_try_at,
        a.last_error,
        a.updated_at
    ];
    one_row(tx.run(sql, values).await?, "attempt")
}

pub(crate) async fn refund(db: &Db, org: Uuid, id: Uuid) -> Result<Option<RefundRow>, StoreError> {
    let sql = sql!(RefundRow, concat!("SELECT ", refund_columns!(), " FROM refunds WHERE org_id = $1 AND id = $2"));
    db.maybe(sql, params![org, id]).await
}

/// The refunds of a payment, oldest first.
pub(crate) async fn refunds(db: &Db, org: Uuid, payment: Uuid) -> Result<Vec<RefundRow>, StoreError> {
    let sql = sql!(
        RefundRow,
        concat!("SELECT ", refund_columns!(), " FROM refunds WHERE org_id = $1 AND payment_id = $2 ORDER BY number")
    );
    db.all(sql, params![org, payment]).await
}

/// Saves a refund if it is still in the version and state that the decision was made on.
pub(crate) async fn save_refund(tx: &Tx, before: &RefundRow, r: &RefundRow) -> Result<(), StoreError> {
    let sql = sql!(
        "UPDATE refunds SET state = $5, version = $6, failure_code = $7, tries = $8, next_try_at = $9, last_error = $10, updated_at = $11 WHERE org_id = $1 AND id = $2 AND version = $3 AND state = $4"
    );
    let values = params![
        r.org_id,
        r.id,
        before.version,
        before.state,
        r.state,
        before.version + 1,
        r.failure_code,
        r.tries,
        r.next_try_at,
        r.last_error,
        r.updated_at
    ];
    one_row(tx.run(sql, values).await?, "refund")
}

/// Attempts that the provider has to be asked about, the longest waiting first.
pub(crate) async fn due_attempts(db: &Db, now: Timestamp, limit: i64) -> Result<Vec<DueRow>, StoreError> {
    let sql = sql!(
        DueRow,
        "SELECT org_id, id FROM payment_attempts WHERE next_try_at IS NOT NULL AND next_try_at <= $1 ORDER BY next_try_at, id LIMIT $2"
    );
    db.all(sql, params![now, limit]).await
}

/// Refunds that the provider has to be asked about, the longest waiting first.
pub(crate) async fn due_refunds(db: &Db, now: Timestamp, limit: i64) -> Result<Vec<DueRow>, StoreError> {
    let sql = sql!(
        DueRow,
        "SELECT org_id, id FROM refunds WHERE next_try_at IS NOT NULL AND next_try_at <= $1 ORDER BY next_try_at, id LIMIT $2"
    );
    db.all(sql, params![now, limit]).await
}

row! {
    /// Intents without an outcome that stand alike.
    pub(crate) struct OpenIntents {
        pub(crate) state: String,
        pub(crate) intents: i64,
        pub(crate) since: Timestamp,
    }
}

/// How many intents have no outcome, and since when, by whether the provider's answer is missing. Where the cardholder has
/// to act, nobody waits for the provider.
pub(crate) async fn open_intents(db: &Db) -> Result<Vec<OpenIntents>, StoreError> {
    let sql = sql!(
        OpenIntents,
        "SELECT CASE WHEN state LIKE 'UNKNOWN%' THEN 'unknown' ELSE 'asked' END AS state, COUNT(*) AS intents, MIN(keyed_at) AS since FROM (SELECT state, keyed_at FROM payment_attempts WHERE next_try_at IS NOT NULL AND state <> 'REQUIRES_ACTION' UNION ALL SELECT state, keyed_at FROM refunds WHERE next_try_at IS NOT NULL) AS open GROUP BY 1"
    );
    db.all(sql, params![]).await
}

/// After a start nobody knows which calls were made: what was under way is to be looked up. Returns how many rows.
pub(crate) async fn doubt_calls_under_way(tx: &Tx) -> Result<u64, StoreError> {
    let mut doubted = 0;
    for from in [AttemptState::Authorizing, AttemptState::Capturing, AttemptState::Voiding] {
        let to = from.after(Move::Silent).expect("a call under way may stay without an answer");
        let sql = sql!(
            "UPDATE payment_attempts SET state = $2, version = version + 1, tries = 0, next_try_at = $3, last_error = 'the service was restarted', updated_at = $3 WHERE state = $1"
        );
        doubted += tx.run(sql, params![from, to, tx.now()]).await?;
    }
    let sql = sql!(
        "UPDATE refunds SET state = $2, version = version + 1, tries = 0, next_try_at = $3, last_error = 'the service was restarted', updated_at = $3 WHERE state = $1"
    );
    Ok(doubted + tx.run(sql, params![RefundState::Pending, RefundState::Unknown, tx.now()]).await?)
}

/// Has the provider's books looked at now for what waits about this order; returns how many rows.
pub(crate) async fn look_now(tx: &Tx, order: Uuid, states: &[AttemptState]) -> Result<u64, StoreError> {
    let sql = sql!("UPDATE payment_attempts SET next_try_at = $2 WHERE order_id = $1 AND state = ANY($3)");
    let attempts = tx.run(sql, params![order, tx.now(), any(states)]).await?;
    let sql = sql!("UPDATE refunds SET next_try_at = $2 WHERE order_id = $1 AND state = $3");
    Ok(attempts + tx.run(sql, params![order, tx.now(), RefundState::Unknown]).await?)
}

/// Remembers an event of the provider; false if it was taken before.
pub(crate) async fn take_provider_event(tx: &Tx, id: &str, kind: &str) -> Result<bool, StoreError> {
    let sql = sql!(
        "INSERT INTO provider_events (org_id, event_id, kind, received_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"
    );
    Ok(tx.run(sql, params![Uuid::nil(), *id, *kind, tx.now()]).await? == 1)
}

pub(crate) async fn forget_provider_events(tx: &Tx, before: Timestamp) -> Result<u64, StoreError> {
    tx.run(sql!("DELETE FROM provider_events WHERE received_at < $1"), params![before]).await
}

/// How many of these provider keys belong to operations whose outcome is still to come.
pub(crate) async fn open_keys(db: &Db, keys: &[String]) -> Result<Vec<String>, StoreError> {
    let open: Vec<AttemptState> = AttemptState::ALL.iter().copied().filter(|s| s.is_open()).collect();
    let sql = sql!(
        Scalar<String>,
        "SELECT operation_key AS value FROM payment_attempts WHERE operation_key = ANY($1) AND state = ANY($2) UNION ALL SELECT key AS value FROM refunds WHERE key = ANY($1) AND state = ANY($3)"
    );
    let refunds = [RefundState::Pending, RefundState::Unknown];
    let found = db.all(sql, params![any(keys), any(&open), any(&refunds)]).await?;
    Ok(found.into_iter().map(|Scalar(key)| key).collect())
}

/// All deciding happens under the order's row, so a guard that fails there means that the guard is wrong.
fn one_row(touched: u64, what: &str) -> Result<(), StoreError> {
    if touched == 1 { Ok(()) } else { Err(StoreError::Conflict(format!("the {what} was changed by somebody else"))) }
}
