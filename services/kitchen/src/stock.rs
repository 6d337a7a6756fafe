//! Stock's rules: what a changed menu means for the figures, and which local day it is.

use std::collections::BTreeMap;

use contracts::restaurants::MenuItem;
use kernel::clock::Timestamp;
use uuid::Uuid;

/// What has to change in stock so that it fits a menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// An item was never counted before.
    Count { name: String, daily: i64 },
    /// A counted item has another limit, by this much more or less than before.
    Move { name: String, daily: i64, by: i64 },
    /// An item is counted again, from a full stock.
    Refill { name: String, daily: i64 },
    /// An item is no longer counted, or no longer on the menu.
    Lift,
}

/// What is known of an item: its name and its limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) daily: Option<i64>,
}

/// The changes in the order of items; none for an item whose limit and name stayed.
pub(crate) fn changes(known: &BTreeMap<Uuid, Known>, menu: &[MenuItem]) -> BTreeMap<Uuid, Change> {
    let mut changes = BTreeMap::new();
    let limited = menu.iter().filter_map(|item| item.daily_stock.map(|daily| (item, daily)));
    for (item, daily) in limited {
        let name = item.name.clone();
        let change = match known.get(&item.item_id) {
            None => Change::Count { name, daily },
            Some(Known { daily: None, .. }) => Change::Refill { name, daily },
            Some(same) if same.daily == Some(daily) && same.name == name => continue,
            Some(Known { daily: Some(before), .. }) => Change::Move { name, daily, by: daily - before },
        };
        changes.insert(item.item_id, change);
    }
    for (item, _) in known.iter().filter(|(_, known)| known.daily.is_some()) {
        let still = menu.iter().any(|on_menu| on_menu.item_id == *item && on_menu.daily_stock.is_some());
        if !still {
            changes.insert(*item, Change::Lift);
        }
    }
    changes
}

/// The restaurant's local day, counted from 1970.
pub(crate) fn local_day(at: Timestamp, utc_offset_minutes: i64) -> i64 {
    (at.seconds() + utc_offset_minutes * 60).div_euclid(24 * 3600)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    fn item(n: u128, daily_stock: Option<i64>) -> MenuItem {
        MenuItem {
            item_id: id(n),
            name: format!("Dish {n}"),
            description: String::new(),
            category: "Mains".into(),
            price_minor: 100,
            tax_basis_points: 0,
            sold_out: false,
            daily_stock,
            options: Vec::new(),
        }
    }

    fn known(n: u128, daily: Option<i64>) -> (Uuid, Known) {
        (id(n), Known { name: format!("Dish {n}"), daily })
    }

    #[test]
    fn a_menu_heard_twice_changes_stock_once() {
        let before = BTreeMap::from([
            known(1, Some(5)),
            known(2, Some(5)),
            known(3, None),
            known(4, Some(9)),
            known(5, Some(5)),
        ]);
        let menu =
            [item(1, Some(5)), item(2, Some(8)), item(3, Some(4)), item(5, None), item(6, Some(1)), item(7, None)];
        let got = changes(&before, &menu);
        let wanted = BTreeMap::from([
            (id(2), Change::Move { name: "Dish 2".into(), daily: 8, by: 3 }),
            (id(3), Change::Refill { name: "Dish 3".into(), daily: 4 }),
            (id(4), Change::Lift),
            (id(5), Change::Lift),
            (id(6), Change::Count { name: "Dish 6".into(), daily: 1 }),
        ]);
        assert_eq!(got, wanted);
        let after = BTreeMap::from([
            known(1, Some(5)),
            known(2, Some(8)),
            known(3, Some(4)),
            known(4, None),
            known(5, None),
            known(6, Some(1)),
        ]);
        assert_eq!(changes(&after, &menu), BTreeMap::new());
    }

    #[test]
    fn a_day_begins_at_local_midnight() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (before, after) = (at("2026-11-21T22:59:59Z"), at("2026-11-21T23:00:00Z"));
        assert_eq!(local_day(after, 60), local_day(before, 60) + 1);
        assert_eq!(local_day(after, 0), local_day(before, 0));
        assert_eq!(local_day(at("2026-11-22T04:59:59Z"), -300), local_day(after, 0));
    }
}
