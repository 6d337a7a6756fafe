//! Placing an order: priced, judged, written and told in one unit of work, without asking anybody.

use std::sync::Arc;

use contracts::orders::{Card, DeliverTo, OrderStatus};
use contracts::restaurants::RestaurantState;
use kernel::clock::Timestamp;
use kernel::http::{Body, Caller, Created, Fail};
use kernel::ids;
use kernel::store::{Db, Json, Tx};
use uuid::Uuid;

use super::check_text;
use super::new_order::{NewOrder, check_texts};
use super::views::{OrderView, masked};
use crate::cart::WantedLine;
use crate::discount::{self, Discount};
use crate::order::{OrderRefusal, Role};
use crate::pricing::{self, Quote};
use crate::progress::{self, Cause};
use crate::store::{self, OrderRow};
use crate::{Orders, Settings};

/// What is wanted, wherever it was written down.
struct Basket {
    restaurant_id: Uuid,
    lines: Vec<WantedLine>,
    discount_code: Option<String>,
}

/// A price, with what it was made from.
pub(super) struct Offer {
    pub(super) restaurant: RestaurantState,
    pub(super) quote: Quote,
    pub(super) discount: Option<Discount>,
}

pub(super) async fn place_order(
    tx: Tx,
    orders: Arc<Orders>,
    caller: Caller,
    Body(new): Body<NewOrder>,
) -> Result<Created<OrderView>, Fail> {
    check_texts(&new)?;
    let basket = basket(&tx, &caller, &new).await?;
    let code = basket.discount_code.as_deref();
    let offer = offer(&tx, basket.restaurant_id, &basket.lines, code, tx.now()).await?;
    pricing::accept(&offer.restaurant, &offer.quote, tx.now())?;
    check_total(new.quoted_total_minor, &offer.quote)?;
    if let Some(discount) = &offer.discount
        && !store::discounts::take_use(&tx, discount, caller.id()).await?
    {
        return Err(OrderRefusal::DiscountUsedUp.into());
    }
    if new.from_cart {
        store::carts::empty(&tx, caller.id()).await?;
    }
    let order = write(&tx, draft(&caller, new, &offer, &orders.settings.get(), tx.now()), &offer.quote).await?;
    let state = order.clone().state(offer.quote.lines);
    let cause = Cause { actor: Some(caller.id()), ..Cause::of(Role::Customer.word()) };
    progress::begin(&tx, &order, state.clone(), cause).await?;
    tell_when_placed(&tx, &orders, &order);
    Ok(Created(format!("/api/v1/orders/{}", order.id), OrderView::new(state, &orders.settings.get())))
}

/// Logs and counts the order, once it is one.
fn tell_when_placed(tx: &Tx, orders: &Arc<Orders>, order: &OrderRow) {
    let (orders, masked_card) = (orders.clone(), masked(&order.card.0));
    let (id, amount, currency, restaurant) = (order.id, order.total_minor, order.currency, order.restaurant_id);
    tx.after_commit(move || {
        tracing::info!(order_id = %id, amount, %currency, masked_card, "order placed");
        orders.created.count(&[&restaurant.to_string()]);
    });
}

async fn basket(db: &Db, caller: &Caller, new: &NewOrder) -> Result<Basket, Fail> {
    if new.from_cart {
        if new.restaurant_id.is_some() || !new.lines.is_empty() || new.discount_code.is_some() {
            return Err(Fail::invalid(
                "/from_cart",
                "an order from the cart brings no restaurant, lines or discount of its own",
            ));
        }
        let cart = store::carts::of(db, caller.id()).await?.ok_or(OrderRefusal::CartEmpty)?;
        return Ok(Basket {
            restaurant_id: cart.restaurant_id,
            lines: cart.lines.0,
            discount_code: cart.discount_code,
        });
    }
    let restaurant_id =
        new.restaurant_id.ok_or_else(|| Fail::invalid("/restaurant_id", "is required unless from_cart is true"))?;
    if new.lines.is_empty() {
        return Err(Fail::invalid("/lines", "must have at least one line unless from_cart is true"));
    }
    let discount_code = new.discount_code.as_deref().map(read_code).transpose()?;
    Ok(Basket { restaurant_id, lines: new.lines.clone(), discount_code })
}

/// A discount code as it is stored.
pub(super) fn read_code(code: &str) -> Result<String, Fail> {
    check_text("/discount_code", code)?;
    Ok(discount::canonical(code))
}

/// Prices lines from our copies of restaurant and menu.
pub(super) async fn offer(
    db: &Db,
    restaurant: Uuid,
    lines: &[WantedLine],
    code: Option<&str>,
    now: Timestamp,
) -> Result<Offer, Fail> {
    let restaurant = store::restaurant(db, restaurant).await?.ok_or(OrderRefusal::RestaurantUnknown)?;
    let menu = store::menu(db, restaurant.org_id, restaurant.restaurant_id).await?.ok_or(OrderRefusal::MenuUnknown)?;
    let discount = match code {
        Some(code) => {
            let found = store::discounts::find(db, restaurant.org_id, code).await?;
            Some(found.ok_or(OrderRefusal::DiscountUnknown)?)
        }
        None => None,
    };
    let quote = pricing::price(&restaurant, &menu, lines, discount.as_ref(), now)?;
    Ok(Offer { restaurant, quote, discount })
}

fn check_total(shown: Option<i64>, quote: &Quote) -> Result<(), Fail> {
    if shown.is_none_or(|shown| shown == quote.total_minor) {
        return Ok(());
    }
    let problem = OrderRefusal::PriceChanged.problem();
    Err(problem.with("total_minor", quote.total_minor).with("currency", quote.currency.code()).into())
}

/// The order as its first version will stand, but for its code.
fn draft(caller: &Caller, new: NewOrder, offer: &Offer, settings: &Settings, now: Timestamp) -> OrderRow {
    let (restaurant, quote, to) = (&offer.restaurant, &offer.quote, new.deliver_to);
    OrderRow {
        org_id: restaurant.org_id,
        id: ids::fresh(),
        version: 1,
        code: String::new(),
        status: OrderStatus::Pending,
        reason: None,
        customer_id: caller.id(),
        customer_email: caller.email.clone(),
        channel: new.channel.word().to_owned(),
        restaurant_id: restaurant.restaurant_id,
        restaurant_name: restaurant.name.clone(),
        pick_up: Json(restaurant.place),
        auto_accept: restaurant.auto_accept,
        prep_minutes: restaurant.prep_minutes,
        currency: quote.currency,
        subtotal_minor: quote.subtotal_minor,
        discount_minor: quote.discount_minor,
        delivery_fee_minor: quote.delivery_fee_minor,
        tax_minor: quote.tax_minor,
        total_minor: quote.total_minor,
        discount_org_id: offer.discount.as_ref().map(|discount| discount.org_id),
        discount_code: offer.discount.as_ref().map(|discount| discount.code.clone()),
        card: Json(Card { token: new.card.token, brand: new.card.brand, last4: new.card.last4 }),
        deliver_to: Json(DeliverTo { name: to.name, street: to.street, city: to.city, place: to.place, note: to.note }),
        payment_ok: false,
        stock_ok: false,
        kitchen_ok: false,
        courier_id: None,
        deadline_at: Some(progress::first_deadline(settings, now)),
        placed_at: now,
        changed_at: now,
    }
}

/// Inserts the order under a code that its organisation has not used yet.
async fn write(tx: &Tx, mut order: OrderRow, quote: &Quote) -> Result<OrderRow, Fail> {
    for letters in [5, 5, 5, 6, 6, 6, 6, 6] {
        order.code = code(letters);
        if store::add_order(tx, &order, &quote.lines).await? {
            return Ok(order);
        }
    }
    Err(Fail::Fault("no free order code after eight tries".into()))
}

/// Letters and digits that nobody mistakes for each other on the phone; 32 of them, so that a random byte picks evenly.
const ALPHABET: &[u8; 32] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ";

fn code(letters: usize) -> String {
    let random: [u8; 8] = ids::secret_bytes();
    let letters = random.iter().take(letters).map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
    "ORD-".chars().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_short_and_free_of_letters_that_look_alike() {
        for _ in 0..200 {
            let code = code(5);
            assert!(code.len() == 9 && code.starts_with("ORD-"), "{code}");
            assert!(!code[4..].contains(['0', 'O', '1', 'I']), "{code}");
        }
    }
}
