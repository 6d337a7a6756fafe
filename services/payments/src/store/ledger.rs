//! SQL of the books: transfers are inserted and read, never changed and never removed.

use contracts::payments::PaymentStatus;
use kernel::clock::Timestamp;
use kernel::money::Currency;
use kernel::store::{Db, Scalar, StoreError, Tx, any};
use kernel::{params, row, sql};
use uuid::Uuid;

use crate::attempt::AttemptState;
use crate::ledger::{Account, Cause, TransferKind};
use crate::refund::RefundState;

row! {
    /// One movement between two accounts.
    pub(crate) struct TransferRow in "ledger_transfers" {
        pub(crate) org_id: Uuid,
        pub(crate) source_event_id: Uuid,
        pub(crate) leg: i64,
        pub(crate) payment_id: Uuid,
        pub(crate) order_id: Uuid,
        pub(crate) kind: TransferKind,
        pub(crate) debit_account: Account,
        pub(crate) credit_account: Account,
        pub(crate) amount_minor: i64,
        pub(crate) currency: Currency,
        pub(crate) provider_key: String,
        pub(crate) booked_at: Timestamp,
    }
}

row! {
    /// What one account holds in one currency.
    pub(crate) struct BalanceRow {
        pub(crate) currency: Currency,
        pub(crate) account: Account,
        pub(crate) debit_minor: i64,
        pub(crate) credit_minor: i64,
    }
}

row! {
    /// Money of one currency as the payments have it, beside the books.
    pub(crate) struct TotalRow {
        pub(crate) currency: Currency,
        pub(crate) captured_minor: i64,
        pub(crate) refunded_minor: i64,
    }
}

row! {
    /// How many attempts are in a state.
    pub(crate) struct AttemptCount {
        pub(crate) state: AttemptState,
        pub(crate) total: i64,
    }
}

row! {
    /// How many payments are in a public state.
    pub(crate) struct PaymentCount {
        pub(crate) status: PaymentStatus,
        pub(crate) total: i64,
    }
}

row! {
    /// How many refunds are in a state.
    pub(crate) struct RefundCount {
        pub(crate) state: RefundState,
        pub(crate) total: i64,
    }
}

/// Books one transfer; a second one for the same source and leg breaks the unit.
pub(crate) async fn book(tx: &Tx, kind: TransferKind, cause: &Cause) -> Result<(), StoreError> {
    let (debit_account, credit_account) = kind.accounts();
    let row = TransferRow {
        org_id: cause.org_id,
        source_event_id: cause.source,
        leg: kind.leg(),
        payment_id: cause.payment_id,
        order_id: cause.order_id,
        kind,
        debit_account,
        credit_account,
        amount_minor: cause.amount_minor,
        currency: cause.currency,
        provider_key: cause.provider_key.clone(),
        booked_at: tx.now(),
    };
    tx.insert(&row).await
}

/// The transfers of one payment, oldest first.
pub(crate) async fn of_payment(db: &Db, payment: Uuid) -> Result<Vec<TransferRow>, StoreError> {
    let sql = sql!(
        TransferRow,
        "SELECT org_id, source_event_id, leg, payment_id, order_id, kind, debit_account, credit_account, amount_minor, currency, provider_key, booked_at FROM ledger_transfers WHERE payment_id = $1 ORDER BY booked_at, source_event_id, leg"
    );
    db.all(sql, params![payment]).await
}

/// Captures and refunds in the order of their provider keys, from after `after`.
pub(crate) async fn moved_money(db: &Db, after: &str, limit: i64) -> Result<Vec<TransferRow>, StoreError> {
    let sql = sql!(
        TransferRow,
        "SELECT org_id, source_event_id, leg, payment_id, order_id, kind, debit_account, credit_account, amount_minor, currency, provider_key, booked_at FROM ledger_transfers WHERE kind IN ('CAPTURE', 'REFUND') AND provider_key > $1 ORDER BY provider_key LIMIT $2"
    );
    db.all(sql, params![*after, limit]).await
}

/// Captures and refunds with these provider keys.
pub(crate) async fn booked(db: &Db, keys: &[String]) -> Result<Vec<TransferRow>, StoreError> {
    let sql = sql!(
        TransferRow,
        "SELECT org_id, source_event_id, leg, payment_id, order_id, kind, debit_account, credit_account, amount_minor, currency, provider_key, booked_at FROM ledger_transfers WHERE kind IN ('CAPTURE', 'REFUND') AND provider_key = ANY($1)"
    );
    db.all(sql, params![any(keys)]).await
}

/// What each account was debited and credited, per currency.
pub(crate) async fn balances(db: &Db) -> Result<Vec<BalanceRow>, StoreError> {
    let sql = sql!(
        BalanceRow,
        "SELECT currency, account, CAST(SUM(debit) AS BIGINT) AS debit_minor, CAST(SUM(credit) AS BIGINT) AS credit_minor FROM (SELECT currency, debit_account AS account, amount_minor AS debit, 0 AS credit FROM ledger_transfers UNION ALL SELECT currency, credit_account AS account, 0 AS debit, amount_minor AS credit FROM ledger_transfers) AS sides GROUP BY currency, account ORDER BY currency, account"
    );
    db.all(sql, params![]).await
}

/// What the payments say was captured and refunded, per currency.
pub(crate) async fn totals(db: &Db) -> Result<Vec<TotalRow>, StoreError> {
    let sql = sql!(
        TotalRow,
        "SELECT currency, CAST(SUM(captured_minor) AS BIGINT) AS captured_minor, CAST(SUM(refunded_minor) AS BIGINT) AS refunded_minor FROM payments GROUP BY currency ORDER BY currency"
    );
    db.all(sql, params![]).await
}

pub(crate) async fn attempts_by_state(db: &Db) -> Result<Vec<AttemptCount>, StoreError> {
    let sql = sql!(AttemptCount, "SELECT state, COUNT(*) AS total FROM payment_attempts GROUP BY state ORDER BY state");
    db.all(sql, params![]).await
}

pub(crate) async fn payments_by_status(db: &Db) -> Result<Vec<PaymentCount>, StoreError> {
    let sql = sql!(PaymentCount, "SELECT status, COUNT(*) AS total FROM payments GROUP BY status ORDER BY status");
    db.all(sql, params![]).await
}

pub(crate) async fn refunds_by_state(db: &Db) -> Result<Vec<RefundCount>, StoreError> {
    let sql = sql!(RefundCount, "SELECT state, COUNT(*) AS total FROM refunds GROUP BY state ORDER BY state");
    db.all(sql, params![]).await
}

/// Orders whose money was booked as taken more than once; anything but zero is a fault.
pub(crate) async fn orders_captured_twice(db: &Db) -> Result<i64, StoreError> {
    let sql = sql!(
        Scalar<i64>,
        "SELECT COUNT(*) AS value FROM (SELECT order_id FROM ledger_transfers WHERE kind = 'CAPTURE' GROUP BY order_id HAVING COUNT(*) > 1) AS twice"
    );
    db.one(sql, params![]).await.map(|Scalar(count)| count)
}

#[cfg(test)]
mod tests {
    use kernel::store::STATEMENTS;

    #[test]
    fn no_statement_of_this_service_changes_or_removes_a_transfer() {
        let ours = STATEMENTS.iter().filter(|s| s.module.starts_with("payments") && s.text.contains("ledger_transfers"));
        let texts: Vec<&str> = ours.map(|s| s.text).collect();
        assert!(texts.len() >= 4, "the statements of the books are filed: {texts:?}");
        for text in texts {
            assert!(text.starts_with("SELECT "), "{text}");
        }
    }
}
