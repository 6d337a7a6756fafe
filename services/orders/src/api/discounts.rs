//! Discounts as restaurants, and the platform itself, set them up.

use std::sync::Arc;

use contracts::permissions::ADMIN;
use garde::Validate;
use kernel::clock::Timestamp;
use kernel::http::{Body, Caller, Fail, Json, Page, Path, Query};
use kernel::money::{Currency, LIMIT_MINOR};
use kernel::store::Tx;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{PAGE_SIZE, PageQuery};
use crate::discount::{self, Discount, DiscountKind};
use crate::{Orders, store};

/// Whose discounts.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(super) struct OrgPath {
    /// The organisation; the nil UUID is the platform.
    org_id: Uuid,
}

/// Which discount.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub(super) struct DiscountPath {
    /// The organisation; the nil UUID is the platform.
    org_id: Uuid,
    /// What customers type: 3 to 30 letters, digits and dashes.
    code: String,
}

/// A discount's terms.
#[derive(Clone, Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(super) struct Terms {
    /// Whether `value` is a share or an amount.
    #[garde(skip)]
    kind: DiscountKind,
    /// Basis points for `percent`, at most 10,000; minor units for `fixed`.
    #[garde(range(min = 1, max = LIMIT_MINOR))]
    value: i64,
    /// Only for orders in this currency; `fixed` needs one.
    #[garde(skip)]
    currency: Option<Currency>,
    /// Only for orders whose lines come to this much.
    #[serde(default)]
    #[garde(range(min = 0, max = LIMIT_MINOR))]
    minimum_minor: i64,
    /// From when.
    #[garde(skip)]
    starts_at: Option<Timestamp>,
    /// Until when, exclusive.
    #[garde(skip)]
    ends_at: Option<Timestamp>,
    /// How often one customer may use it.
    #[serde(default = "once")]
    #[garde(range(min = 1, max = 1_000_000))]
    per_customer_limit: i64,
}

const fn once() -> i64 {
    1
}

/// A discount.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct DiscountView {
    /// Who pays for it; the nil UUID is the platform.
    org_id: Uuid,
    /// What customers type.
    code: String,
    /// Whether `value` is a share or an amount.
    kind: DiscountKind,
    /// Basis points or minor units.
    value: i64,
    /// Only for orders in this currency.
    currency: Option<Currency>,
    /// Only for orders whose lines come to this much.
    minimum_minor: i64,
    /// From when.
    starts_at: Option<Timestamp>,
    /// Until when, exclusive.
    ends_at: Option<Timestamp>,
    /// How often one customer may use it.
    per_customer_limit: i64,
    /// When it was last set up.
    updated_at: Timestamp,
}

impl From<Discount> for DiscountView {
    fn from(d: Discount) -> Self {
        Self {
            org_id: d.org_id,
            code: d.code,
            kind: d.kind,
            value: d.value,
            currency: d.currency,
            minimum_minor: d.minimum_minor,
            starts_at: d.starts_at,
            ends_at: d.ends_at,
            per_customer_limit: d.per_customer_limit,
            updated_at: d.updated_at,
        }
    }
}

pub(super) async fn list_discounts(
    orders: Arc<Orders>,
    caller: Caller,
    Path(path): Path<OrgPath>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<DiscountView>>, Fail> {
    check_owner(&caller, path.org_id)?;
    let size = query.page_size.unwrap_or(PAGE_SIZE);
    let found = store::discounts::list(&orders.store.read(), path.org_id, query.page_token, size + 1).await?;
    Ok(Json(Page::cut(found, size, |discount| discount.code.clone()).map(DiscountView::from)))
}

pub(super) async fn put_discount(
    tx: Tx,
    _: Arc<Orders>,
    caller: Caller,
    Path(path): Path<DiscountPath>,
    Body(terms): Body<Terms>,
) -> Result<Json<DiscountView>, Fail> {
    check_owner(&caller, path.org_id)?;
    let code = discount::canonical(&path.code);
    if !(3..=30).contains(&code.len()) || !code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Err(Fail::not_found());
    }
    check_terms(&terms)?;
    let discount = Discount {
        org_id: path.org_id,
        code,
        kind: terms.kind,
        value: terms.value,
        currency: terms.currency,
        minimum_minor: terms.minimum_minor,
        starts_at: terms.starts_at,
        ends_at: terms.ends_at,
        per_customer_limit: terms.per_customer_limit,
        updated_at: tx.now(),
    };
    store::discounts::put(&tx, &discount).await?;
    Ok(Json(discount.into()))
}

/// Admins set up everybody's, owners those of their organisations.
fn check_owner(caller: &Caller, org: Uuid) -> Result<(), Fail> {
    if caller.has(ADMIN) || caller.belongs_to(org) { Ok(()) } else { Err(Fail::not_found()) }
}

fn check_terms(terms: &Terms) -> Result<(), Fail> {
    if terms.kind == DiscountKind::Percent && terms.value > 10_000 {
        return Err(Fail::invalid("/value", "a share is at most 10000 basis points"));
    }
    if terms.kind == DiscountKind::Fixed && terms.currency.is_none() {
        return Err(Fail::invalid("/currency", "a fixed amount needs a currency"));
    }
    if terms.starts_at.zip(terms.ends_at).is_some_and(|(start, end)| end <= start) {
        return Err(Fail::invalid("/ends_at", "must lie after starts_at"));
    }
    Ok(())
}
