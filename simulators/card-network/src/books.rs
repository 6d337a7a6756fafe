//! The books: an append-only journal of every operation and its double entries. Written here, read in `audit`.
use rusqlite::params;
use serde::Serialize;
use serde_json::Value;

use crate::authorizations::Authorization;
use crate::clock::rfc3339;
use crate::network::{Work, new_id};
use crate::problem::{Code, Problem};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Authorization,
    Challenge,
    Capture,
    Void,
    Refund,
    Expiry,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Authorization => "authorization",
            Self::Challenge => "challenge",
            Self::Capture => "capture",
            Self::Void => "void",
            Self::Refund => "refund",
            Self::Expiry => "expiry",
        }
    }

    const fn id_prefix(self) -> &'static str {
        match self {
            Self::Authorization => "auth",
            Self::Challenge => "chl",
            Self::Capture => "cap",
            Self::Void => "void",
            Self::Refund => "ref",
            Self::Expiry => "exp",
        }
    }
}

/// A transfer from one account to another.
#[derive(Clone, Copy)]
pub(crate) enum Movement {
    /// The operation's own amount.
    Money { debit: &'static str, credit: &'static str },
    /// The whole authorised amount, whatever part of it the operation is about.
    Hold { debit: &'static str, credit: &'static str },
}

/// The cardholder can no longer spend the amount, the merchant may yet get it.
pub(crate) const RESERVE: Movement = Movement::Hold { debit: "cardholder_hold", credit: "merchant_pending" };
/// The opposite: both clearing accounts are at zero when no authorisation is open.
pub(crate) const RELEASE: Movement = Movement::Hold { debit: "merchant_pending", credit: "cardholder_hold" };

/// One line of the journal before it is written.
pub(crate) struct Operation<'a> {
    kind: Kind,
    id: Option<&'a str>,
    status: &'a str,
    code: Option<&'a str>,
    authorization: &'a Authorization,
    reference: &'a str,
    amount_minor: i64,
}

impl<'a> Operation<'a> {
    /// An operation on all of an authorisation.
    pub(crate) fn whole(kind: Kind, authorization: &'a Authorization) -> Self {
        Self::part(kind, authorization, &authorization.reference, authorization.amount_minor)
    }

    pub(crate) fn part(kind: Kind, authorization: &'a Authorization, reference: &'a str, amount_minor: i64) -> Self {
        let code = authorization.decline_code.as_deref();
        Self { kind, id: None, status: authorization.status.name(), code, authorization, reference, amount_minor }
    }

    pub(crate) fn named(self, id: &'a str) -> Self {
        Self { id: Some(id), ..self }
    }

    pub(crate) fn ended(self, status: &'a str, code: Option<&'a str>) -> Self {
        Self { status, code: code.or(self.code), ..self }
    }
}

/// One line of the journal as callers see it.
#[derive(Serialize)]
pub(crate) struct JournalRow {
    pub(crate) seq: i64,
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<String>,
    pub(crate) authorization: String,
    pub(crate) authorization_reference: String,
    pub(crate) reference: String,
    pub(crate) amount_minor: i64,
    pub(crate) currency: String,
    pub(crate) idempotency_key: Option<String>,
    pub(crate) at: String,
}

/// Writes an operation and its movements; the answer is the line as written.
pub(crate) fn post(work: &Work<'_>, operation: &Operation<'_>, movements: &[Movement]) -> Result<Value, Problem> {
    let authorization = operation.authorization;
    let row = JournalRow {
        id: operation.id.map_or_else(|| new_id(operation.kind.id_prefix()), str::to_owned),
        seq: 0,
        kind: operation.kind.name().to_owned(),
        status: operation.status.to_owned(),
        code: operation.code.map(str::to_owned),
        authorization: authorization.id.clone(),
        authorization_reference: authorization.reference.clone(),
        reference: operation.reference.to_owned(),
        amount_minor: operation.amount_minor,
        currency: authorization.currency.clone(),
        idempotency_key: work.key.map(str::to_owned),
        at: rfc3339(work.now),
    };
    let seq = append(work, &row)?;
    for movement in movements {
        let (debit, credit, amount) = match *movement {
            Movement::Money { debit, credit } => (debit, credit, operation.amount_minor),
            Movement::Hold { debit, credit } => (debit, credit, authorization.amount_minor),
        };
        enter(work, seq, debit, (amount, 0), &row.currency)?;
        enter(work, seq, credit, (0, amount), &row.currency)?;
    }
    serde_json::to_value(JournalRow { seq, ..row }).map_err(|_| Code::Internal.into())
}

fn append(work: &Work<'_>, row: &JournalRow) -> Result<i64, Problem> {
    work.conn
        .prepare_cached(
            "INSERT INTO journal
                 (id, kind, status, code, authorization, reference, amount_minor, currency, idempotency_key, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute(params![
            row.id,
            row.kind,
            row.status,
            row.code,
            row.authorization,
            row.reference,
            row.amount_minor,
            row.currency,
            row.idempotency_key,
            work.now
        ])?;
    Ok(work.conn.last_insert_rowid())
}

fn enter(work: &Work<'_>, seq: i64, account: &str, (debit, credit): (i64, i64), currency: &str) -> Result<(), Problem> {
    work.conn
        .prepare_cached(
            "INSERT INTO entries (operation, account, debit_minor, credit_minor, currency) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![seq, account, debit, credit, currency])?;
    Ok(())
}
