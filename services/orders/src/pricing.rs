//! What a cart costs: priced from our own copy of restaurant and menu, in whole minor units, nothing lost in a split.

use std::collections::{BTreeMap, BTreeSet};

use contracts::orders::{OrderLine, SoldChoice};
use contracts::restaurants::{MenuItem, MenuState, RestaurantState};
use kernel::clock::Timestamp;
use kernel::http::Fail;
use kernel::money::{self, Currency, MoneyError};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::cart::WantedLine;
use crate::discount::Discount;
use crate::order::OrderRefusal;

const MINUTES_A_DAY: i64 = 24 * 60;

/// A price in all its parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Quote {
    /// Currency of all amounts.
    pub(crate) currency: Currency,
    /// The lines with their prices.
    pub(crate) lines: Vec<OrderLine>,
    /// Sum of the lines.
    pub(crate) subtotal_minor: i64,
    /// Taken off.
    pub(crate) discount_minor: i64,
    /// Added for delivery.
    pub(crate) delivery_fee_minor: i64,
    /// Contained in the total.
    pub(crate) tax_minor: i64,
    /// What the customer pays.
    pub(crate) total_minor: i64,
}

/// Why there is no price, and which line is to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unpriced {
    pub(crate) refusal: OrderRefusal,
    /// JSON pointer and explanation.
    pub(crate) field: Option<(String, String)>,
}

impl From<OrderRefusal> for Unpriced {
    fn from(refusal: OrderRefusal) -> Self {
        Self { refusal, field: None }
    }
}

impl From<MoneyError> for Unpriced {
    fn from(_: MoneyError) -> Self {
        OrderRefusal::AmountTooLarge.into()
    }
}

impl From<Unpriced> for Fail {
    fn from(unpriced: Unpriced) -> Self {
        let problem = unpriced.refusal.problem();
        match unpriced.field {
            Some((pointer, message)) => problem.field(pointer, message).into(),
            None => problem.into(),
        }
    }
}

/// Prices lines against a menu.
pub(crate) fn price(
    restaurant: &RestaurantState,
    menu: &MenuState,
    wanted: &[WantedLine],
    discount: Option<&Discount>,
    now: Timestamp,
) -> Result<Quote, Unpriced> {
    // Restaurant and menu are told separately; while their currencies differ there is no price.
    if menu.currency != restaurant.currency {
        return Err(OrderRefusal::MenuUnknown.into());
    }
    let lines =
        wanted.iter().enumerate().map(|(at, line)| price_line(menu, at, line)).collect::<Result<Vec<_>, _>>()?;
    let subtotal = money::sum(lines.iter().map(|line| line.line_total_minor))?;
    let taken_off = discount.map_or(Ok(0), |discount| discount.amount(subtotal, menu.currency, now))?;
    let fee = restaurant.delivery_fee_minor;
    Ok(Quote {
        currency: menu.currency,
        subtotal_minor: subtotal,
        discount_minor: taken_off,
        delivery_fee_minor: fee,
        tax_minor: contained_tax(&lines, taken_off, fee)?,
        total_minor: money::sum([subtotal, -taken_off, fee])?,
        lines,
    })
}

fn price_line(menu: &MenuState, at: usize, wanted: &WantedLine) -> Result<OrderLine, Unpriced> {
    let blame =
        |refusal, field: &str, says: String| Unpriced { refusal, field: Some((format!("/lines/{at}/{field}"), says)) };
    let item = menu
        .items
        .iter()
        .find(|item| item.item_id == wanted.item_id)
        .ok_or_else(|| blame(OrderRefusal::ItemUnknown, "item_id", "is not on this restaurant's menu".into()))?;
    if item.sold_out {
        return Err(blame(OrderRefusal::ItemSoldOut, "item_id", format!("{} is sold out", item.name)));
    }
    let choices = choose(item, &wanted.choices).map_err(|says| blame(OrderRefusal::ChoicesInvalid, "choices", says))?;
    let extras = money::sum(choices.iter().map(|choice| choice.price_minor))?;
    let unit_price = money::sum([item.price_minor, extras])?;
    Ok(OrderLine {
        item_id: item.item_id,
        name: item.name.clone(),
        quantity: wanted.quantity,
        unit_price_minor: unit_price,
        line_total_minor: money::within(unit_price.checked_mul(wanted.quantity))?,
        tax_basis_points: item.tax_basis_points,
        choices,
    })
}

/// The choices as they are sold, in the menu's order. Each group must get as many as it asks for.
fn choose(item: &MenuItem, chosen: &[Uuid]) -> Result<Vec<SoldChoice>, String> {
    let mut left: BTreeSet<Uuid> = chosen.iter().copied().collect();
    if left.len() != chosen.len() {
        return Err("a choice is there twice".into());
    }
    let mut sold = Vec::with_capacity(chosen.len());
    for group in &item.options {
        let before = sold.len();
        // Taken out of the set as it is found, so that a choice counts for one group only.
        let taken = group.choices.iter().filter(|choice| left.remove(&choice.choice_id));
        sold.extend(taken.map(|c| SoldChoice {
            choice_id: c.choice_id,
            name: c.name.clone(),
            price_minor: c.price_minor,
        }));
        let count = i64::try_from(sold.len() - before).unwrap_or(i64::MAX);
        if count < group.min || count > group.max {
            return Err(format!("{} takes {} to {} choices, not {count}", group.name, group.min, group.max));
        }
    }
    match left.first() {
        Some(unknown) => Err(format!("{} does not come with the choice {unknown}", item.name)),
        None => Ok(sold),
    }
}

/// The tax inside the total. Discount and delivery fee follow the food: they are shared among the lines and taxed at their rates.
fn contained_tax(lines: &[OrderLine], taken_off: i64, fee: i64) -> Result<i64, MoneyError> {
    let weights: Vec<i64> = lines.iter().map(|line| line.line_total_minor).collect();
    let (off, added) = (money::split(taken_off, &weights), money::split(fee, &weights));
    let mut by_rate: BTreeMap<i64, i64> = BTreeMap::new();
    for ((line, off), added) in lines.iter().zip(off).zip(added) {
        let gross = by_rate.entry(line.tax_basis_points).or_default();
        *gross = money::sum([*gross, line.line_total_minor, -off, added])?;
    }
    // Gross is to net as 10,000 + rate is to 10,000: a split in two, so that net and tax add up to gross.
    money::sum(by_rate.into_iter().map(|(rate, gross)| money::split(gross, &[10_000, rate])[1]))
}

/// Whether the restaurant takes this order now.
pub(crate) fn accept(restaurant: &RestaurantState, quote: &Quote, now: Timestamp) -> Result<(), Fail> {
    if !is_open(restaurant, now) {
        return Err(OrderRefusal::RestaurantClosed.into());
    }
    if quote.subtotal_minor < restaurant.minimum_order_minor {
        let minimum = restaurant.minimum_order_minor;
        return Err(OrderRefusal::BelowMinimum.problem().with("minimum_order_minor", minimum).into());
    }
    if quote.total_minor <= 0 {
        return Err(OrderRefusal::NothingToPay.into());
    }
    Ok(())
}

/// Whether the restaurant takes orders at this moment of its own local time.
pub(crate) fn is_open(restaurant: &RestaurantState, now: Timestamp) -> bool {
    let local = now.seconds().div_euclid(60) + restaurant.utc_offset_minutes;
    let (day, minute) = (local.div_euclid(MINUTES_A_DAY), local.rem_euclid(MINUTES_A_DAY));
    // 1 January 1970 was a Thursday, which is 4.
    let weekday = (day + 3).rem_euclid(7) + 1;
    let covers =
        |h: &contracts::restaurants::Hours| h.weekday == weekday && (h.opens_minute..h.closes_minute).contains(&minute);
    !restaurant.paused && restaurant.hours.iter().any(covers)
}

#[cfg(test)]
mod tests;
