//! Prices: what is refused, what is open, and that the parts of every price add up.

use contracts::Place;
use contracts::restaurants::{Choice, Hours, OptionGroup};
use proptest::prelude::*;

use super::*;
use crate::discount::{DiscountKind, PLATFORM};

const NOON: Timestamp = Timestamp::from_micros(12 * 3_600 * 1_000_000);

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn restaurant() -> RestaurantState {
    RestaurantState {
        org_id: id(1),
        restaurant_id: id(2),
        version: 1,
        name: "Trattoria".into(),
        cuisine: "Italian".into(),
        street: "Main Street 1".into(),
        city: "Springfield".into(),
        place: Place { longitude_e6: 0, latitude_e6: 0 },
        currency: Currency::EUR,
        utc_offset_minutes: 0,
        hours: (1..=7).map(|weekday| Hours { weekday, opens_minute: 600, closes_minute: 1_320 }).collect(),
        paused: false,
        auto_accept: true,
        prep_minutes: 20,
        delivery_fee_minor: 250,
        minimum_order_minor: 1_000,
    }
}

fn item(number: u128, price_minor: i64, tax_basis_points: i64) -> MenuItem {
    MenuItem {
        item_id: id(number),
        name: format!("Dish {number}"),
        description: String::new(),
        category: "Mains".into(),
        price_minor,
        tax_basis_points,
        sold_out: false,
        daily_stock: None,
        options: Vec::new(),
    }
}

fn group(name: &str, min: i64, max: i64, choices: &[(u128, i64)]) -> OptionGroup {
    let choices = choices.iter().map(|(n, price_minor)| Choice {
        choice_id: id(*n),
        name: format!("Choice {n}"),
        price_minor: *price_minor,
    });
    OptionGroup { group_id: id(900), name: name.into(), min, max, choices: choices.collect() }
}

fn menu(items: Vec<MenuItem>) -> MenuState {
    MenuState { org_id: id(1), restaurant_id: id(2), version: 1, currency: Currency::EUR, items }
}

fn want(item: u128, quantity: i64, choices: &[u128]) -> WantedLine {
    WantedLine { item_id: id(item), quantity, choices: choices.iter().map(|c| id(*c)).collect() }
}

fn percent(basis_points: i64) -> Discount {
    Discount {
        org_id: PLATFORM,
        code: "TEST".into(),
        kind: DiscountKind::Percent,
        value: basis_points,
        currency: None,
        minimum_minor: 0,
        starts_at: None,
        ends_at: None,
        per_customer_limit: 1,
        updated_at: NOON,
    }
}

#[test]
fn a_price_is_made_of_items_choices_fee_and_contained_tax() {
    let mut pizza = item(10, 1_190, 1_900);
    pizza.options = vec![group("Size", 1, 1, &[(20, 0), (21, 300)]), group("Extras", 0, 2, &[(30, 100), (31, 150)])];
    let quote = price(&restaurant(), &menu(vec![pizza]), &[want(10, 2, &[31, 21])], None, NOON).unwrap();
    assert_eq!(quote.lines[0].unit_price_minor, 1_640);
    assert_eq!(quote.lines[0].choices.iter().map(|c| c.price_minor).collect::<Vec<_>>(), [300, 150]);
    assert_eq!((quote.subtotal_minor, quote.discount_minor, quote.delivery_fee_minor), (3_280, 0, 250));
    // 35.30 gross at 19 % contains 35.30 × 19 / 119 = 5.636….
    assert_eq!((quote.total_minor, quote.tax_minor), (3_530, 564));
}

#[test]
fn choices_must_fit_their_groups() {
    let mut pizza = item(10, 1_190, 1_900);
    pizza.options = vec![group("Size", 1, 1, &[(20, 0), (21, 300)]), group("Extras", 0, 1, &[(30, 100), (31, 150)])];
    let menu = menu(vec![pizza, item(11, 500, 700)]);
    for (line, says) in [
        (want(10, 1, &[]), "Size takes 1 to 1 choices, not 0"),
        (want(10, 1, &[20, 21]), "Size takes 1 to 1 choices, not 2"),
        (want(10, 1, &[20, 30, 31]), "Extras takes 0 to 1 choices, not 2"),
        (want(10, 1, &[20, 20]), "a choice is there twice"),
        (want(11, 1, &[20]), "Dish 11 does not come with the choice 00000000-0000-0000-0000-000000000014"),
    ] {
        let refused = price(&restaurant(), &menu, &[want(11, 1, &[]), line], None, NOON).unwrap_err();
        let field = Some(("/lines/1/choices".to_owned(), says.to_owned()));
        assert_eq!(refused, Unpriced { refusal: OrderRefusal::ChoicesInvalid, field });
    }
}

#[test]
fn what_is_not_there_costs_nothing_and_is_refused() {
    let mut gone = item(11, 500, 700);
    gone.sold_out = true;
    let menu = menu(vec![item(10, 900, 700), gone, item(12, money::LIMIT_MINOR, 0)]);
    let refused = |line: WantedLine| price(&restaurant(), &menu, &[line], None, NOON).unwrap_err().refusal;
    assert_eq!(refused(want(99, 1, &[])), OrderRefusal::ItemUnknown);
    assert_eq!(refused(want(11, 1, &[])), OrderRefusal::ItemSoldOut);
    assert_eq!(refused(want(12, 99, &[])), OrderRefusal::AmountTooLarge);
    let mut elsewhere = restaurant();
    elsewhere.currency = "CHF".parse().unwrap();
    assert_eq!(
        price(&elsewhere, &menu, &[want(10, 1, &[])], None, NOON).unwrap_err().refusal,
        OrderRefusal::MenuUnknown
    );
}

#[test]
fn opening_hours_are_local_and_end_before_their_last_minute() {
    // 1970-01-01 was a Thursday.
    let thursday = |minute: i64| Timestamp::from_micros(minute * 60 * 1_000_000);
    let mut place = restaurant();
    place.hours = vec![
        Hours { weekday: 4, opens_minute: 600, closes_minute: 1_320 },
        Hours { weekday: 5, opens_minute: 0, closes_minute: 60 },
    ];
    for (offset, minute, open) in [
        (0, 599, false),
        (0, 600, true),
        (0, 1_319, true),
        (0, 1_320, false),
        (120, 480, true),
        (120, 479, false),
        (-300, 900, true),
        (-300, 899, false),
        (60, 1_439, true),
        (0, 1_440, true),
        (0, 1_500, false),
        (0, -1, false),
    ] {
        place.utc_offset_minutes = offset;
        assert_eq!(is_open(&place, thursday(minute)), open, "offset {offset}, minute {minute}");
    }
    place.paused = true;
    assert!(!is_open(&place, thursday(700)));
}

#[test]
fn closed_kitchens_and_small_orders_are_refused() {
    let menu = menu(vec![item(10, 999, 700)]);
    let quote = price(&restaurant(), &menu, &[want(10, 1, &[])], None, NOON).unwrap();
    let code = |answer: Result<(), Fail>| match answer {
        Err(Fail::Refused(problem)) => problem.code.to_string(),
        other => format!("{other:?}"),
    };
    assert_eq!(code(accept(&restaurant(), &quote, NOON)), "below_minimum_order");
    assert_eq!(code(accept(&restaurant(), &quote, Timestamp::from_micros(0))), "restaurant_closed");
    let quote = price(&restaurant(), &menu, &[want(10, 2, &[])], None, NOON).unwrap();
    assert!(accept(&restaurant(), &quote, NOON).is_ok());
}

proptest! {
    #[test]
    fn the_parts_of_a_price_add_up_and_tax_is_what_its_rates_say(
        items in prop::collection::vec((0_i64..100_000, prop::sample::select(vec![0_i64, 500, 700, 1_900, 2_500]), 1_i64..20), 1..30),
        discount in 0_i64..=10_000,
        fee in 0_i64..2_000,
    ) {
        let dishes = items.iter().zip(0_u128..).map(|((price, rate, _), n)| item(n, *price, *rate)).collect();
        let wanted: Vec<WantedLine> = items.iter().zip(0_u128..).map(|((_, _, quantity), n)| want(n, *quantity, &[])).collect();
        let mut place = restaurant();
        place.delivery_fee_minor = fee;
        let quote = price(&place, &menu(dishes), &wanted, Some(&percent(discount)), NOON).unwrap();
        prop_assert_eq!(quote.lines.iter().map(|l| l.unit_price_minor * l.quantity).sum::<i64>(), quote.subtotal_minor);
        prop_assert_eq!(quote.subtotal_minor - quote.discount_minor + fee, quote.total_minor);
        prop_assert!(0 <= quote.discount_minor && quote.discount_minor <= quote.subtotal_minor);
        let highest = items.iter().map(|(_, rate, _)| *rate).max().unwrap_or(0);
        let lowest = items.iter().map(|(_, rate, _)| *rate).min().unwrap_or(0);
        // Five rates are rounded, each by less than one minor unit.
        let bound = |rate: i64| quote.total_minor * rate / (10_000 + rate);
        prop_assert!((bound(lowest) - 5..=bound(highest) + 5).contains(&quote.tax_minor));
    }
}
