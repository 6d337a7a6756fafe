//! Three books compared: what orders say, what the payments ledger says, what the card network did.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use crate::client::Insider;

/// The verdict. Every figure but the first four must be 0.
#[derive(Clone, Debug, Default, Serialize, PartialEq, Eq)]
pub(crate) struct Audit {
    /// Orders in the orders service.
    pub orders: usize,
    /// Of them by status.
    pub by_status: BTreeMap<String, usize>,
    /// Minor units taken, by the card network's books.
    pub captured: i64,
    /// Minor units given back, by the card network's books.
    pub refunded: i64,
    /// Orders captured more than once by the card network.
    pub duplicates: usize,
    /// Acknowledged orders that are gone, and money that one book knows and another does not.
    pub lost: usize,
    /// Orders without an end, payments without an outcome, holds nobody let go.
    pub unresolved: usize,
    /// Sum over all accounts of the payments ledger.
    pub ledger_sum: i64,
    /// What exactly is wrong; empty when nothing is.
    pub findings: Vec<String>,
}

impl Audit {
    /// Whether all books agree and nothing is open.
    pub(crate) fn is_clean(&self) -> bool {
        self.duplicates == 0
            && self.lost == 0
            && self.unresolved == 0
            && self.ledger_sum == 0
            && self.findings.is_empty()
    }
}

/// One order's money in the card network's books.
#[derive(Clone, Copy, Debug, Default)]
struct Moved {
    captures: usize,
    captured: i64,
    refunded: i64,
    open_holds: i64,
}

/// Statuses with nothing after them.
const ENDS: &[&str] = &["DELIVERED", "FAILED", "REJECTED", "EXPIRED", "CANCELLED"];

/// Compares the books; `acknowledged` are the orders that a client outside was promised.
pub(crate) async fn audit(insider: &Insider, acknowledged: &BTreeSet<String>) -> Result<Audit> {
    let network = network_books(insider).await?;
    let orders = insider.every("orders", "/api/v1/orders").await?;
    let payments = insider.every("payments", "/api/v1/payments").await?;
    let ledger = insider.read("payments", "/api/v1/ledger/summary").await?;
    let mut audit = Audit { orders: orders.len(), ..Audit::default() };
    audit.captured = network.values().map(|m| m.captured).sum();
    audit.refunded = network.values().map(|m| m.refunded).sum();
    let known: BTreeSet<&str> = orders.iter().filter_map(|o| text(o, "id")).collect();
    for gone in acknowledged.iter().filter(|id| !known.contains(id.as_str())) {
        audit.lost += 1;
        audit.findings.push(format!("order {gone} was acknowledged and is gone"));
    }
    for stranger in network.iter().filter(|(id, m)| m.captured > 0 && !known.contains(id.as_str())) {
        audit.lost += 1;
        audit.findings.push(format!("the card network captured for {}, which is no order", stranger.0));
    }
    let by_order: BTreeMap<&str, &Value> = payments.iter().filter_map(|p| Some((text(p, "order_id")?, p))).collect();
    for order in &orders {
        judge(&mut audit, order, &by_order, &network);
    }
    audit_ledger(&mut audit, &ledger);
    Ok(audit)
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value[name].as_str()
}

fn judge(audit: &mut Audit, order: &Value, payments: &BTreeMap<&str, &Value>, network: &BTreeMap<String, Moved>) {
    let (id, status) = (text(order, "id").unwrap_or(""), text(order, "status").unwrap_or(""));
    *audit.by_status.entry(status.to_owned()).or_default() += 1;
    let moved = network.get(id).copied().unwrap_or_default();
    if moved.captures > 1 {
        audit.duplicates += 1;
        audit.findings.push(format!("order {id} was captured {} times", moved.captures));
    }
    if !ENDS.contains(&status) {
        audit.unresolved += 1;
        audit.findings.push(format!("order {id} is still {status}"));
    }
    if moved.open_holds > 0 {
        audit.unresolved += 1;
        audit.findings.push(format!("order {id} ({status}) has {} open holds at the card network", moved.open_holds));
    }
    let due = if status == "DELIVERED" { order["total_minor"].as_i64().unwrap_or(0) } else { 0 };
    if ENDS.contains(&status) && moved.captured - moved.refunded != due {
        audit.lost += 1;
        audit.findings.push(format!(
            "order {id} ({status}) is worth {due}, the card network holds {}",
            moved.captured - moved.refunded
        ));
    }
    let (captured, refunded) = payments
        .get(id)
        .map_or((0, 0), |p| (p["captured_minor"].as_i64().unwrap_or(0), p["refunded_minor"].as_i64().unwrap_or(0)));
    if (captured, refunded) != (moved.captured, moved.refunded) {
        audit.lost += 1;
        audit.findings.push(format!(
            "order {id}: payments says {captured} taken and {refunded} given back, the card network {} and {}",
            moved.captured, moved.refunded
        ));
    }
}

fn audit_ledger(audit: &mut Audit, ledger: &Value) {
    let accounts = ledger["accounts"].as_array().cloned().unwrap_or_default();
    audit.ledger_sum = accounts.iter().filter_map(|a| a["balance_minor"].as_i64()).sum();
    let open = ledger["unresolved"].as_i64().unwrap_or(-1);
    if open != 0 {
        audit.unresolved += usize::try_from(open).unwrap_or(1);
        audit.findings.push(format!("payments has {open} attempts or refunds without an outcome"));
    }
    if ledger["balanced"] != true {
        audit.lost += 1;
        audit.findings.push("the payments ledger does not agree with the payments that it books".to_owned());
    }
    let sum = |name: &str| {
        let currencies = ledger["currencies"].as_array().map(Vec::as_slice).unwrap_or_default();
        currencies.iter().filter_map(|c| c[name].as_i64()).sum::<i64>()
    };
    let booked = (sum("captured_minor"), sum("refunded_minor"));
    if booked != (audit.captured, audit.refunded) {
        audit.lost += 1;
        audit.findings.push(format!(
            "the ledger booked {} taken and {} given back, the card network {} and {}",
            booked.0, booked.1, audit.captured, audit.refunded
        ));
    }
}

/// Reads the whole journal of the card network and sums it up by our reference, which is the order.
async fn network_books(insider: &Insider) -> Result<BTreeMap<String, Moved>> {
    let mut books: BTreeMap<String, Moved> = BTreeMap::new();
    let mut after = 0;
    loop {
        let page = insider.network(&format!("/v1/books?after={after}&limit=1000")).await?;
        let operations = page["operations"].as_array().cloned().unwrap_or_default();
        for operation in &operations {
            let reference = text(operation, "authorization_reference").unwrap_or("").to_owned();
            let moved = books.entry(reference).or_default();
            let amount = operation["amount_minor"].as_i64().unwrap_or(0);
            match (text(operation, "kind"), text(operation, "status")) {
                (Some("authorization"), Some("authorized")) => moved.open_holds += 1,
                (Some("capture"), Some("succeeded" | "captured")) => {
                    moved.captures += 1;
                    moved.captured += amount;
                    moved.open_holds -= 1;
                }
                (Some("void"), Some("succeeded" | "voided")) => moved.open_holds -= 1,
                (Some("refund"), Some("succeeded")) => moved.refunded += amount,
                _ => {}
            }
        }
        match page["next_after"].as_i64() {
            Some(next) if !operations.is_empty() => after = next,
            _ => return Ok(books),
        }
    }
}
