//! Two books compared: every capture and refund that we booked against every one that the provider did.

use std::collections::BTreeMap;

use kernel::money::Currency;
use kernel::store::{Db, StoreError};
use schemars::JsonSchema;
use serde::Serialize;

use crate::ledger::TransferKind;
use crate::provider::{BookLine, Provider, Unreadable};
use crate::store::{self, ledger::TransferRow};

const PAGE: i64 = 500;
/// Differences that are named one by one; beyond this they are only counted.
const MOST_NAMED: usize = 200;

kernel::words! {
    /// In what way the books differ.
    pub enum DifferenceKind {
        /// The provider did it and we have not booked it.
        OnlyProvider = "ONLY_PROVIDER",
        /// We booked it and the provider did not do it.
        OnlyOurs = "ONLY_OURS",
        /// Both have it with different amounts, currencies or orders.
        Unequal = "UNEQUAL",
        /// The provider captured one order more than once.
        CapturedTwice = "CAPTURED_TWICE",
    }
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Difference {
    /// In what way.
    pub kind: DifferenceKind,
    /// `capture` or `refund`.
    pub operation: String,
    /// Our reference, the order.
    pub reference: String,
    /// The key both books know it by.
    pub key: String,
    /// What we booked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ours_minor: Option<i64>,
    /// What the provider did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub theirs_minor: Option<i64>,
}

/// Money of one currency in both books.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Totals {
    /// The currency.
    pub currency: Currency,
    /// What we booked as taken.
    pub ours_captured_minor: i64,
    /// What the provider took.
    pub theirs_captured_minor: i64,
    /// What we booked as given back.
    pub ours_refunded_minor: i64,
    /// What the provider gave back.
    pub theirs_refunded_minor: i64,
}

/// What a comparison found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Comparison {
    /// Captures and refunds that both books have alike.
    pub matched: i64,
    /// Done by the provider, and here an operation whose outcome is still to come: not yet a difference.
    pub pending: i64,
    /// How many differences there are.
    pub different: i64,
    /// The differences, as far as they are named.
    pub differences: Vec<Difference>,
    /// Money by currency.
    pub totals: Vec<Totals>,
}

/// The books could not be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// Ours could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The provider's could not be read.
    #[error(transparent)]
    Provider(#[from] Unreadable),
}

/// Reads both books page by page and says where they differ.
///
/// Ours is read first: what we have booked, the provider has done, so it must be in its books by then.
///
/// # Errors
/// Either book that cannot be read: a comparison with half a book would be worse than none.
pub async fn compare(db: &Db, provider: &dyn Provider) -> Result<Comparison, CompareError> {
    let mut ours = read_ours(db).await?;
    let (mut work, mut captures, mut unmatched) = (Work::default(), BTreeMap::<String, i64>::new(), Vec::new());
    let mut after = 0;
    loop {
        let page = provider.books(after).await?;
        let moved = page.lines.into_iter().filter(|l| l.succeeded && matches!(l.kind.as_str(), "capture" | "refund"));
        for line in moved {
            work.count_theirs(&line);
            if line.kind == "capture" {
                *captures.entry(line.reference.clone()).or_default() += 1;
            }
            match line.key.as_ref().and_then(|key| ours.remove(key)) {
                Some(row) => work.compare(&row, &line),
                None => unmatched.push(line),
            }
        }
        match page.next_after {
            Some(next) if next > after => after = next,
            _ => break,
        }
    }
    work.judge_unmatched(db, unmatched).await?;
    for row in ours.into_values() {
        work.differ(DifferenceKind::OnlyOurs, Some(&row), None);
    }
    for (reference, _) in captures.into_iter().filter(|(_, count)| *count > 1) {
        work.captured_twice(reference);
    }
    Ok(work.done())
}

async fn read_ours(db: &Db) -> Result<BTreeMap<String, TransferRow>, StoreError> {
    let (mut ours, mut after) = (BTreeMap::new(), String::new());
    loop {
        let page = store::ledger::moved_money(db, &after, PAGE).await?;
        let full = i64::try_from(page.len()).is_ok_and(|n| n == PAGE);
        if let Some(last) = page.last() {
            after.clone_from(&last.provider_key);
        }
        ours.extend(page.into_iter().map(|row| (row.provider_key.clone(), row)));
        if !full {
            return Ok(ours);
        }
    }
}

#[derive(Default)]
struct Work {
    matched: i64,
    pending: i64,
    different: i64,
    differences: Vec<Difference>,
    totals: BTreeMap<Currency, Totals>,
}

impl Work {
    fn totals_of(&mut self, currency: Currency) -> &mut Totals {
        self.totals.entry(currency).or_insert(Totals {
            currency,
            ours_captured_minor: 0,
            theirs_captured_minor: 0,
            ours_refunded_minor: 0,
            theirs_refunded_minor: 0,
        })
    }

    fn count_theirs(&mut self, line: &BookLine) {
        let totals = self.totals_of(line.currency);
        if line.kind == "capture" {
            totals.theirs_captured_minor += line.amount_minor;
        } else {
            totals.theirs_refunded_minor += line.amount_minor;
        }
    }

    fn count_ours(&mut self, row: &TransferRow) {
        let totals = self.totals_of(row.currency);
        if row.kind == TransferKind::Capture {
            totals.ours_captured_minor += row.amount_minor;
        } else {
            totals.ours_refunded_minor += row.amount_minor;
        }
    }

    fn compare(&mut self, row: &TransferRow, line: &BookLine) {
        let alike = row.amount_minor == line.amount_minor
            && row.currency == line.currency
            && row.order_id.to_string() == line.reference
            && operation(row.kind) == line.kind;
        if alike {
            self.count_ours(row);
            self.matched += 1;
        } else {
            self.differ(DifferenceKind::Unequal, Some(row), Some(line));
        }
    }

    /// What the provider did and we had not booked when we read our books: booked since, under way, or a difference.
    async fn judge_unmatched(&mut self, db: &Db, lines: Vec<BookLine>) -> Result<(), StoreError> {
        for chunk in lines.chunks(200) {
            let keys: Vec<String> = chunk.iter().filter_map(|l| l.key.clone()).collect();
            // In this order: an operation that ends in between is then found booked.
            let open = store::open_keys(db, &keys).await?;
            let booked = store::ledger::booked(db, &keys).await?;
            for line in chunk {
                let row = booked.iter().find(|row| line.key.as_ref() == Some(&row.provider_key));
                match row {
                    Some(row) => self.compare(row, line),
                    None if line.key.as_ref().is_some_and(|key| open.contains(key)) => self.pending += 1,
                    None => self.differ(DifferenceKind::OnlyProvider, None, Some(line)),
                }
            }
        }
        Ok(())
    }

    fn differ(&mut self, kind: DifferenceKind, row: Option<&TransferRow>, line: Option<&BookLine>) {
        if let Some(row) = row {
            self.count_ours(row);
        }
        let text = |ours: fn(&TransferRow) -> String, theirs: fn(&BookLine) -> String| {
            row.map(ours).or_else(|| line.map(theirs)).unwrap_or_default()
        };
        self.name(Difference {
            kind,
            operation: text(|r| operation(r.kind).to_owned(), |l| l.kind.clone()),
            reference: text(|r| r.order_id.to_string(), |l| l.reference.clone()),
            key: text(|r| r.provider_key.clone(), |l| l.key.clone().unwrap_or_default()),
            ours_minor: row.map(|r| r.amount_minor),
            theirs_minor: line.map(|l| l.amount_minor),
        });
    }

    fn captured_twice(&mut self, reference: String) {
        let (kind, operation) = (DifferenceKind::CapturedTwice, "capture".to_owned());
        self.name(Difference { kind, operation, reference, key: String::new(), ours_minor: None, theirs_minor: None });
    }

    fn name(&mut self, difference: Difference) {
        self.different += 1;
        if self.differences.len() < MOST_NAMED {
            self.differences.push(difference);
        }
    }

    fn done(self) -> Comparison {
        Comparison {
            matched: self.matched,
            pending: self.pending,
            different: self.different,
            differences: self.differences,
            totals: self.totals.into_values().collect(),
        }
    }
}

fn operation(kind: TransferKind) -> &'static str {
    if kind == TransferKind::Capture { "capture" } else { "refund" }
}
