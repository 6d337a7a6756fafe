//! The demo city's restaurants: believable places with fixed identities, open at every hour so that a demo always works.

use std::collections::BTreeMap;

use contracts::demo::{organisation, restaurant};
use contracts::restaurants::{Choice, Hours, MenuChanged, OptionGroup, RestaurantChanged};
use kernel::clock::Timestamp;
use kernel::money::Currency;
use kernel::store::{Json, StoreError, Tx};
use serde::Deserialize;
use uuid::Uuid;

use crate::restaurant::fold;
use crate::store::{self, ItemRow, RestaurantRow};

const TEXT: &str = include_str!("../data/demo_city.json");

/// The invented city and its time.
#[derive(Deserialize)]
struct City {
    city: String,
    utc_offset_minutes: i64,
    options: BTreeMap<String, Group>,
    restaurants: Vec<Diner>,
}

#[derive(Deserialize)]
struct Group {
    name: String,
    min: i64,
    max: i64,
    choices: Vec<(String, i64)>,
}

#[derive(Deserialize)]
struct Diner {
    name: String,
    cuisine: String,
    street: String,
    /// Longitude and latitude.
    at: (i64, i64),
    auto_accept: bool,
    prep_minutes: i64,
    fee: i64,
    minimum: i64,
    /// Category, tax in basis points, dishes.
    menu: Vec<(String, i64, Vec<Dish>)>,
}

/// Name, description, price, stock for a day, names of option groups.
type Dish = (String, String, i64, Option<i64>, Vec<String>);

/// Kinds of fixed identities; `contracts::demo` uses the small ones.
const ITEM: u128 = 16;
const GROUP: u128 = 17;
const CHOICE: u128 = 18;

/// The same identity in every demo city.
const fn fixed(kind: u128, number: u128) -> Uuid {
    Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + (kind << 32) + number)
}

/// How many restaurants the demo city has.
pub(crate) fn restaurants() -> Result<usize, StoreError> {
    Ok(read()?.restaurants.len())
}

/// Founds what is not there yet of the whole demo city; gives the number of restaurants that opened.
pub(crate) async fn found(tx: &Tx) -> Result<usize, StoreError> {
    let mut opened = 0;
    for number in 0..restaurants()? {
        opened += usize::from(found_one(tx, number).await?);
    }
    Ok(opened)
}

/// Opens one restaurant of the demo city with its menu, unless it is there.
pub(crate) async fn found_one(tx: &Tx, number: usize) -> Result<bool, StoreError> {
    let city = read()?;
    let Some(diner) = city.restaurants.get(number) else { return Ok(false) };
    let number = number as u128;
    let row = restaurant_row(&city, number, diner, tx.now());
    if !store::add(tx, &row).await? {
        return Ok(false);
    }
    for item in items(&city, number, diner) {
        store::put_item(tx, &item).await?;
    }
    tx.emit(RestaurantChanged(row.state()))?;
    tx.emit(MenuChanged(store::menu(tx, &row, row.menu_version).await?))?;
    Ok(true)
}

fn read() -> Result<City, StoreError> {
    serde_json::from_str(TEXT).map_err(|e| StoreError::Refused(format!("the demo city does not read: {e}")))
}

fn restaurant_row(city: &City, number: u128, diner: &Diner, now: Timestamp) -> RestaurantRow {
    let hours = (1..=7).map(|weekday| Hours { weekday, opens_minute: 0, closes_minute: 1440 });
    RestaurantRow {
        org_id: organisation(number / 2),
        id: restaurant(number),
        version: 1,
        menu_version: 1,
        name: diner.name.clone(),
        name_folded: fold(&diner.name),
        cuisine: diner.cuisine.clone(),
        cuisine_folded: fold(&diner.cuisine),
        street: diner.street.clone(),
        city: city.city.clone(),
        longitude_e6: diner.at.0,
        latitude_e6: diner.at.1,
        currency: Currency::EUR,
        utc_offset_minutes: city.utc_offset_minutes,
        hours: Json(hours.collect()),
        paused: false,
        auto_accept: diner.auto_accept,
        prep_minutes: diner.prep_minutes,
        delivery_fee_minor: diner.fee,
        minimum_order_minor: diner.minimum,
        created_at: now,
    }
}

fn items(city: &City, number: u128, diner: &Diner) -> Vec<ItemRow> {
    let dishes =
        diner.menu.iter().flat_map(|(category, tax, dishes)| dishes.iter().map(move |dish| (category, *tax, dish)));
    let row = |(place, (category, tax, dish)): (u32, (&String, i64, &Dish))| {
        let (name, description, price, stock, groups) = dish;
        ItemRow {
            org_id: organisation(number / 2),
            restaurant_id: restaurant(number),
            id: fixed(ITEM, number * 1000 + u128::from(place)),
            position: i64::from(place) * 10,
            name: name.clone(),
            description: description.clone(),
            category: category.clone(),
            price_minor: *price,
            tax_basis_points: tax,
            sold_out: false,
            daily_stock: *stock,
            options: Json(groups.iter().filter_map(|wanted| option_group(city, number, wanted)).collect()),
        }
    };
    (1_u32..).zip(dishes).map(row).collect()
}

/// A group of the city's list with identities of this restaurant's own.
fn option_group(city: &City, number: u128, wanted: &str) -> Option<OptionGroup> {
    let (place, (_, group)) = (1_u128..).zip(&city.options).find(|(_, (name, _))| *name == wanted)?;
    let base = number * 10_000 + place * 100;
    let choices = (1_u128..).zip(&group.choices).map(|(n, (name, price))| Choice {
        choice_id: fixed(CHOICE, base + n),
        name: name.clone(),
        price_minor: *price,
    });
    Some(OptionGroup {
        group_id: fixed(GROUP, base),
        name: group.name.clone(),
        min: group.min,
        max: group.max,
        choices: choices.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::menu::{MOST_ITEMS, check_options};
    use contracts::demo::ORGANISATIONS;
    use std::collections::BTreeSet;

    fn city() -> City {
        serde_json::from_str(TEXT).unwrap()
    }

    #[test]
    fn the_demo_city_has_two_restaurants_an_organisation_and_a_full_menu_in_each() {
        let city = city();
        assert_eq!(city.restaurants.len() as u128, 2 * ORGANISATIONS);
        let dishes: usize = city.restaurants.iter().flat_map(|r| &r.menu).map(|(_, _, dishes)| dishes.len()).sum();
        assert!(dishes >= 150, "{dishes} dishes");
        assert_eq!(city.restaurants.iter().filter(|r| !r.auto_accept).count(), 2);
    }

    #[test]
    fn every_dish_of_the_demo_city_would_pass_as_typed_in_by_a_restaurant() {
        let city = city();
        let mut seen = BTreeSet::new();
        for (number, diner) in (0_u128..).zip(&city.restaurants) {
            let wanted: Vec<usize> =
                diner.menu.iter().flat_map(|(_, _, dishes)| dishes).map(|dish| dish.4.len()).collect();
            let items = items(&city, number, diner);
            assert!(items.len() <= MOST_ITEMS);
            for (item, groups) in items.iter().zip(wanted) {
                assert!(seen.insert(item.id), "{} has another dish's identity", item.name);
                assert_eq!(item.options.0.len(), groups, "{} names an option group that is not there", item.name);
                assert_eq!(check_options(&item.options.0), Ok(()), "{}", item.name);
                assert!((50..=10_000).contains(&item.price_minor), "{}", item.name);
                assert!(item.daily_stock.is_none_or(|stock| stock >= 5_000), "{} would run out under load", item.name);
            }
        }
    }
}
