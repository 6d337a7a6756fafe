//! The cart: kept as the customer wants it, priced anew whenever it is shown.

use std::sync::Arc;

use garde::Validate;
use kernel::clock::Timestamp;
use kernel::http::{Body, Caller, Done, Fail, Json};
use kernel::store::{Db, Tx};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::placing::{self, Offer};
use crate::cart::{Cart, MAX_LINES, WantedLine};
use crate::order::OrderRefusal;
use crate::pricing::{self, Quote};
use crate::{Orders, discount, store};

/// What to put into the cart; it replaces what was there.
#[derive(Clone, Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(super) struct CartChange {
    /// From which restaurant.
    #[garde(skip)]
    restaurant_id: Uuid,
    /// What and how many.
    #[garde(length(min = 1, max = MAX_LINES), dive)]
    lines: Vec<WantedLine>,
    /// A discount to use.
    #[garde(length(chars, min = 1, max = 30))]
    discount_code: Option<String>,
}

/// Why the cart cannot be ordered as it is.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct CartProblem {
    /// Stable code, the same as placing the order would give.
    code: String,
    /// For people.
    detail: String,
    /// The lines that are to blame, with what is wrong.
    errors: Vec<LineProblem>,
}

/// What is wrong with one line.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct LineProblem {
    /// JSON pointer into the cart.
    pointer: String,
    /// What is wrong.
    message: String,
}

/// A cart with its price.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct CartView {
    /// The restaurant; absent in an empty cart.
    restaurant_id: Option<Uuid>,
    /// What is wanted.
    lines: Vec<WantedLine>,
    /// The discount to use.
    discount_code: Option<String>,
    /// What it costs now; absent where it has no price.
    quote: Option<Quote>,
    /// Why it cannot be ordered as it is; absent where it can.
    problem: Option<CartProblem>,
}

pub(super) async fn show_cart(orders: Arc<Orders>, caller: Caller) -> Result<Json<CartView>, Fail> {
    let db = orders.store.read();
    let cart = store::carts::of(&db, caller.id()).await?;
    let view = match cart {
        Some(cart) => view(&db, cart, orders.store.clock().now()).await?,
        None => CartView { restaurant_id: None, lines: Vec::new(), discount_code: None, quote: None, problem: None },
    };
    Ok(Json(view))
}

pub(super) async fn put_cart(
    tx: Tx,
    _: Arc<Orders>,
    caller: Caller,
    Body(change): Body<CartChange>,
) -> Result<Json<CartView>, Fail> {
    if store::restaurant(&tx, change.restaurant_id).await?.is_none() {
        return Err(OrderRefusal::RestaurantUnknown.into());
    }
    let code = change.discount_code.as_deref().map(placing::read_code).transpose()?;
    let cart = Cart::new(caller.id(), change.restaurant_id, change.lines, code, tx.now());
    store::carts::put(&tx, &cart).await?;
    Ok(Json(view(&tx, cart, tx.now()).await?))
}

pub(super) async fn empty_cart(tx: Tx, _: Arc<Orders>, caller: Caller) -> Result<Done, Fail> {
    store::carts::empty(&tx, caller.id()).await?;
    Ok(Done)
}

/// Prices a cart. What would keep it from being ordered is part of the answer, not a refusal: one must be able to look at it.
async fn view(db: &Db, cart: Cart, now: Timestamp) -> Result<CartView, Fail> {
    let code = cart.discount_code.as_deref().map(discount::canonical);
    let priced = match placing::offer(db, cart.restaurant_id, &cart.lines.0, code.as_deref(), now).await {
        Ok(Offer { restaurant, quote, .. }) => {
            let accepted = pricing::accept(&restaurant, &quote, now);
            accepted.map_or_else(
                |fail| problem(fail).map(|p| (Some(quote.clone()), Some(p))),
                |()| Ok((Some(quote.clone()), None)),
            )
        }
        Err(fail) => problem(fail).map(|p| (None, Some(p))),
    };
    let (quote, problem) = priced?;
    let Cart { restaurant_id, lines, discount_code, .. } = cart;
    Ok(CartView { restaurant_id: Some(restaurant_id), lines: lines.0, discount_code, quote, problem })
}

/// A refusal as data; anything else stays a failure.
fn problem(fail: Fail) -> Result<CartProblem, Fail> {
    let Fail::Refused(problem) = fail else { return Err(fail) };
    let errors = problem.errors.into_iter().map(|e| LineProblem { pointer: e.pointer, message: e.message });
    Ok(CartProblem { code: problem.code.into_owned(), detail: problem.detail.into_owned(), errors: errors.collect() })
}
