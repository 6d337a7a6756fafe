//! Reading the books: the paged journal, the look-up by reference and the summary an auditor compares with.
use rusqlite::{Params, Row};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::authorizations::with_reference;
use crate::books::JournalRow;
use crate::clock::rfc3339;
use crate::network::Work;
use crate::problem::{Code, Problem};

const LARGEST_PAGE: i64 = 1_000;

#[derive(Deserialize)]
pub(crate) struct Page {
    after: Option<i64>,
    limit: Option<i64>,
}

#[derive(Deserialize)]
pub(crate) struct Lookup {
    pub(crate) reference: String,
}

const SELECT: &str = "SELECT j.seq, j.id, j.kind, j.status, j.code, j.authorization, a.reference, j.reference,
    j.amount_minor, j.currency, j.idempotency_key, j.at
    FROM journal j JOIN authorizations a ON a.id = j.authorization";

fn read(row: &Row<'_>) -> rusqlite::Result<JournalRow> {
    Ok(JournalRow {
        seq: row.get(0)?,
        id: row.get(1)?,
        kind: row.get(2)?,
        status: row.get(3)?,
        code: row.get(4)?,
        authorization: row.get(5)?,
        authorization_reference: row.get(6)?,
        reference: row.get(7)?,
        amount_minor: row.get(8)?,
        currency: row.get(9)?,
        idempotency_key: row.get(10)?,
        at: rfc3339(row.get(11)?),
    })
}

fn journal(work: &Work<'_>, rest: &str, params: impl Params) -> Result<Vec<JournalRow>, Problem> {
    let mut query = work.conn.prepare_cached(&format!("{SELECT} {rest}"))?;
    Ok(query.query_map(params, read)?.collect::<Result<_, _>>()?)
}

/// One page of the journal in the order in which it was written.
pub(crate) fn books(work: &Work<'_>, page: &Page) -> Result<Value, Problem> {
    let limit = page.limit.unwrap_or(100);
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(Problem::with_detail(Code::InvalidParameter, "limit is not between 1 and 1000"));
    }
    let after = page.after.unwrap_or(0);
    let rows = journal(work, "WHERE j.seq > ?1 ORDER BY j.seq LIMIT ?2", [after, limit])?;
    let full = i64::try_from(rows.len()).is_ok_and(|count| count == limit);
    let next_after = rows.last().filter(|_| full).map(|row| row.seq);
    Ok(json!({ "operations": rows, "next_after": next_after }))
}

/// Everything the network knows about one of the merchant's references.
pub(crate) fn lookup(work: &Work<'_>, reference: &str) -> Result<Value, Problem> {
    let found = with_reference(work, reference)?;
    if found.is_empty() {
        return Err(Code::ReferenceNotFound.into());
    }
    let mut authorizations = Vec::new();
    for authorization in found {
        let operations = journal(work, "WHERE j.authorization = ?1 ORDER BY j.seq", [&authorization.id])?;
        let of_kind = |kind: &str| operations.iter().filter(|row| row.kind == kind).collect::<Vec<_>>();
        let mut known = authorization.snapshot(&work.rules.base_url);
        known["captures"] = json!(of_kind("capture"));
        known["voids"] = json!(of_kind("void"));
        known["refunds"] = json!(of_kind("refund"));
        known["idempotency_keys"] = operations.iter().filter_map(|row| row.idempotency_key.clone()).collect();
        authorizations.push(known);
    }
    Ok(json!({ "reference": reference, "authorizations": authorizations }))
}

fn rows(work: &Work<'_>, sql: &str, names: &[&str]) -> Result<Vec<Value>, Problem> {
    let mut query = work.conn.prepare_cached(sql)?;
    let found = query.query_map([], |row| {
        let cell = |place: usize| -> rusqlite::Result<Value> {
            Ok(match row.get_ref(place)? {
                rusqlite::types::ValueRef::Integer(number) => number.into(),
                rusqlite::types::ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
                _ => Value::Null,
            })
        };
        names.iter().enumerate().map(|(place, name)| Ok(((*name).to_owned(), cell(place)?))).collect::<Result<_, _>>()
    })?;
    Ok(found.map(|row| row.map(Value::Object)).collect::<Result<_, _>>()?)
}

fn number(work: &Work<'_>, sql: &str) -> Result<i64, Problem> {
    Ok(work.conn.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

/// The totals that must agree with the merchant's own books.
pub(crate) fn summary(work: &Work<'_>) -> Result<Value, Problem> {
    let totals = rows(
        work,
        "SELECT kind, status, currency, COUNT(*), SUM(amount_minor) FROM journal GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
        &["kind", "status", "currency", "count", "amount_minor"],
    )?;
    let currencies = rows(
        work,
        "SELECT currency,
                SUM(debit_minor * (account = 'cardholder')), SUM(debit_minor * (account = 'merchant')),
                SUM((credit_minor - debit_minor) * (account = 'merchant')), SUM(debit_minor), SUM(credit_minor)
         FROM entries GROUP BY currency ORDER BY currency",
        &["currency", "captured_minor", "refunded_minor", "net_minor", "debits_minor", "credits_minor"],
    )?;
    let accounts = rows(
        work,
        "SELECT account, currency, SUM(debit_minor) - SUM(credit_minor) FROM entries GROUP BY 1, 2 ORDER BY 1, 2",
        &["account", "currency", "balance_minor"],
    )?;
    let deliveries = rows(
        work,
        "SELECT state, COUNT(*), SUM(tries) FROM deliveries GROUP BY state ORDER BY state",
        &["state", "count", "tries"],
    )?;
    let captures = "SELECT COUNT(*) AS captures FROM journal j JOIN authorizations a ON a.id = j.authorization
                    WHERE j.kind = 'capture' GROUP BY a.reference";
    let balanced = currencies.iter().all(|row| row["debits_minor"] == row["credits_minor"]);
    Ok(json!({
        "totals": totals,
        "currencies": currencies,
        "accounts": accounts,
        "balanced": balanced,
        "captures_per_reference_max": number(work, &format!("SELECT COALESCE(MAX(captures), 0) FROM ({captures})"))?,
        "references_captured_twice": number(work, &format!("SELECT COUNT(*) FROM ({captures}) WHERE captures > 1"))?,
        "open_authorizations":
            number(work, "SELECT COUNT(*) FROM authorizations WHERE status IN ('authorized', 'requires_action')")?,
        "last_seq": number(work, "SELECT COALESCE(MAX(seq), 0) FROM journal")?,
        "webhook_deliveries": deliveries,
    }))
}
