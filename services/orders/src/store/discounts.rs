//! SQL of discounts and of who used them how often.

use kernel::store::{Db, List, StoreError, Tx, any};
use kernel::{params, sql};
use uuid::Uuid;

use crate::discount::{Discount, PLATFORM};

/// The discount behind a code, of the restaurant's organisation before the platform's.
pub(crate) async fn find(db: &Db, org: Uuid, code: &str) -> Result<Option<Discount>, StoreError> {
    let sql = sql!(
        Discount,
        "SELECT org_id, code, kind, value, currency, minimum_minor, starts_at, ends_at, per_customer_limit, updated_at FROM discounts WHERE org_id = ANY($1) AND code = $2 ORDER BY org_id DESC LIMIT 1"
    );
    // The nil UUID sorts first, so the descending order prefers the organisation's own.
    db.maybe(sql, params![any(&[org, PLATFORM]), code]).await
}

/// The discounts of an organisation by code.
pub(crate) async fn list(db: &Db, org: Uuid, after: Option<String>, limit: i64) -> Result<Vec<Discount>, StoreError> {
    List::new("SELECT org_id, code, kind, value, currency, minimum_minor, starts_at, ends_at, per_customer_limit, updated_at FROM discounts")
        .and("org_id = {}", org)
        .and_if("code > {}", after)
        .fetch(db, "code", limit)
        .await
}

/// Puts a discount in the place of the one with its code.
pub(crate) async fn put(tx: &Tx, discount: &Discount) -> Result<(), StoreError> {
    let sql = sql!(
        "INSERT INTO discounts (org_id, code, kind, value, currency, minimum_minor, starts_at, ends_at, per_customer_limit, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (org_id, code) DO UPDATE SET kind = excluded.kind, value = excluded.value, currency = excluded.currency, minimum_minor = excluded.minimum_minor, starts_at = excluded.starts_at, ends_at = excluded.ends_at, per_customer_limit = excluded.per_customer_limit, updated_at = excluded.updated_at"
    );
    let d = discount;
    let values = params![
        d.org_id,
        d.code,
        d.kind,
        d.value,
        d.currency,
        d.minimum_minor,
        d.starts_at,
        d.ends_at,
        d.per_customer_limit,
        d.updated_at
    ];
    tx.run(sql, values).await.map(drop)
}

/// Counts one use of a discount; false if the customer has none left. Two orders at once cannot both take the last.
pub(crate) async fn take_use(tx: &Tx, discount: &Discount, customer: Uuid) -> Result<bool, StoreError> {
    let sql = sql!(
        "INSERT INTO discount_uses (org_id, code, customer_id, uses) VALUES ($1, $2, $3, 1) ON CONFLICT (org_id, code, customer_id) DO UPDATE SET uses = discount_uses.uses + 1 WHERE discount_uses.uses < $4"
    );
    let values = params![discount.org_id, discount.code, customer, discount.per_customer_limit];
    Ok(tx.run(sql, values).await? == 1)
}

/// Gives a use back, because its order came to nothing.
pub(crate) async fn return_use(tx: &Tx, org: Uuid, code: &str, customer: Uuid) -> Result<(), StoreError> {
    let sql = sql!(
        "UPDATE discount_uses SET uses = uses - 1 WHERE org_id = $1 AND code = $2 AND customer_id = $3 AND uses > 0"
    );
    tx.run(sql, params![org, code, customer]).await.map(drop)
}
