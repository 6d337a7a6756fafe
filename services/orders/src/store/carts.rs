//! SQL of carts.

use kernel::clock::Timestamp;
use kernel::store::{Db, StoreError, Tx};
use kernel::{params, sql};
use uuid::Uuid;

use crate::cart::Cart;

/// A customer's cart.
pub(crate) async fn of(db: &Db, customer: Uuid) -> Result<Option<Cart>, StoreError> {
    let sql = sql!(
        Cart,
        "SELECT org_id, customer_id, restaurant_id, lines, discount_code, updated_at FROM carts WHERE org_id = $1 AND customer_id = $2"
    );
    db.maybe(sql, params![Uuid::nil(), customer]).await
}

/// Puts a cart in the place of the one before.
pub(crate) async fn put(tx: &Tx, cart: &Cart) -> Result<(), StoreError> {
    let sql = sql!(
        "INSERT INTO carts (org_id, customer_id, restaurant_id, lines, discount_code, updated_at) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (org_id, customer_id) DO UPDATE SET restaurant_id = excluded.restaurant_id, lines = excluded.lines, discount_code = excluded.discount_code, updated_at = excluded.updated_at"
    );
    let values =
        params![cart.org_id, cart.customer_id, cart.restaurant_id, cart.lines, cart.discount_code, cart.updated_at];
    tx.run(sql, values).await.map(drop)
}

/// Empties a cart.
pub(crate) async fn empty(tx: &Tx, customer: Uuid) -> Result<(), StoreError> {
    let sql = sql!("DELETE FROM carts WHERE org_id = $1 AND customer_id = $2");
    tx.run(sql, params![Uuid::nil(), customer]).await.map(drop)
}

/// Removes carts that nobody touched since then; returns how many.
pub(crate) async fn drop_older(tx: &Tx, before: Timestamp) -> Result<u64, StoreError> {
    tx.run(sql!("DELETE FROM carts WHERE updated_at < $1"), params![before]).await
}
