//! Scenes about stock: all or nothing, once, in any interleaving.

use std::time::Duration;

use contracts::orders::{OrderState, OrderStatus};
use kernel::store::STATEMENTS;
use proptest::prelude::*;
use uuid::Uuid;

use super::city::{City, menu, order};
use crate::store::{self, ReservationStatus};
use crate::{Settings, jobs, reactions};

/// What may happen to an order, in any sequence.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Created,
    Awaiting,
    Confirmed,
    Cancelled,
    Failed,
}

impl City {
    async fn happens(&self, what: Happens, order: &OrderState) {
        let awaiting = OrderState { status: OrderStatus::AwaitingAcceptance, ..order.clone() };
        match what {
            Happens::Created => self.hear(reactions::order_created, order).await,
            Happens::Awaiting => self.hear(reactions::order_updated, &awaiting).await,
            Happens::Confirmed => self.hear(reactions::order_confirmed, order).await,
            Happens::Cancelled => self.hear(reactions::order_cancelled, order).await,
            Happens::Failed => self.hear(reactions::order_failed, order).await,
        }
    }
}

fn happenings() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => Just(Happens::Created),
        3 => Just(Happens::Awaiting),
        3 => Just(Happens::Confirmed),
        1 => Just(Happens::Cancelled),
        1 => Just(Happens::Failed),
    ]
}

/// Sends events of five orders in this sequence, ends all orders, and checks the figures after each.
async fn interleave(stocks: [i64; 3], wants: &[Vec<(u128, i64)>], sequence: &[(usize, Happens)]) {
    let city = City::new(Settings::default()).await;
    let menu = menu(1, &stocks.map(Some));
    city.hear(reactions::menu_changed, &menu).await;
    let orders: Vec<OrderState> =
        wants.iter().map(|lines| OrderState { auto_accept: true, ..order(&menu, lines) }).collect();
    let ends = (0..orders.len()).map(|n| (n, Happens::Cancelled));
    for (n, what) in sequence.iter().copied().chain(ends) {
        city.happens(what, &orders[n]).await;
        for (on_hand, reserved) in city.figures(&menu).await {
            assert!(0 <= reserved && reserved <= on_hand, "{reserved} of {on_hand} after {what:?}");
        }
    }
    let mut left = stocks;
    for (order, lines) in orders.iter().zip(wants) {
        let status = store::reservation_status(&city.kitchen.store.read(), order.org_id, order.order_id).await.unwrap();
        if status == Some(ReservationStatus::Consumed) {
            lines.iter().for_each(|(item, quantity)| left[usize::try_from(*item - 1).unwrap()] -= quantity);
        }
    }
    let wanted: Vec<(i64, i64)> = left.iter().map(|on_hand| (*on_hand, 0)).collect();
    assert_eq!(city.figures(&menu).await, wanted, "what was not cooked is back");
    city.kitchen.store.close().await;
}

#[test]
fn in_any_interleaving_nothing_is_promised_twice_and_all_that_is_not_cooked_comes_back() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let wants = prop::collection::vec(prop::collection::vec((1_u128..=3, 1_i64..4), 1..4), 5);
    let sequence = prop::collection::vec((0_usize..5, happenings()), 0..30);
    let config = ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(stocks in [0_i64..8, 0_i64..8, 0_i64..8], wants in wants, sequence in sequence)| {
        runtime.block_on(interleave(stocks, &wants, &sequence));
    });
}

#[tokio::test]
async fn an_order_is_set_aside_for_whole_or_not_at_all() {
    let city = City::new(Settings::default()).await;
    let menu = menu(1, &[Some(5), Some(1), None]);
    city.hear(reactions::menu_changed, &menu).await;
    let (fits, too_much) = (order(&menu, &[(1, 2), (3, 40), (1, 1)]), order(&menu, &[(1, 1), (2, 2)]));
    for _ in 0..2 {
        city.hear(reactions::order_created, &fits).await;
        city.hear(reactions::order_created, &too_much).await;
    }
    assert_eq!(city.said(fits.order_id).await, ["inventory.reserved 1"]);
    assert_eq!(city.said(too_much.order_id).await, ["inventory.rejected 1"]);
    assert_eq!(city.figures(&menu).await, [(5, 3), (1, 0)]);
    for _ in 0..2 {
        city.hear(reactions::order_cancelled, &fits).await;
        city.hear(reactions::order_failed, &too_much).await;
    }
    assert_eq!(city.said(fits.order_id).await, ["inventory.reserved 1", "inventory.released 2"]);
    assert_eq!(city.said(too_much.order_id).await, ["inventory.rejected 1"]);
    assert_eq!(city.figures(&menu).await, [(5, 0), (1, 0)]);
}

#[tokio::test]
async fn an_order_whose_end_was_heard_first_takes_nothing() {
    let city = City::new(Settings::default()).await;
    let menu = menu(1, &[Some(5)]);
    city.hear(reactions::menu_changed, &menu).await;
    let order = order(&menu, &[(1, 2)]);
    for what in [Happens::Cancelled, Happens::Created, Happens::Awaiting, Happens::Confirmed] {
        city.happens(what, &order).await;
    }
    assert_eq!(city.said(order.order_id).await, Vec::<String>::new());
    assert_eq!(city.figures(&menu).await, [(5, 0)]);
}

#[tokio::test]
async fn a_new_limit_moves_what_is_on_hand_and_never_takes_away_what_is_promised() {
    let city = City::new(Settings::default()).await;
    let first = menu(1, &[Some(10), Some(10)]);
    city.hear(reactions::menu_changed, &first).await;
    city.hear(reactions::order_created, &order(&first, &[(1, 4), (2, 4)])).await;
    for (version, stocks, wanted) in [
        (2, [Some(12), Some(3)], [(12, 4), (4, 4)]),
        (3, [None, Some(3)], [(12, 4), (4, 4)]),
        (4, [Some(2), Some(6)], [(4, 4), (7, 4)]),
    ] {
        for _ in 0..2 {
            city.hear(reactions::menu_changed, &menu(version, &stocks)).await;
        }
        assert_eq!(city.figures(&first).await, wanted, "menu {version}");
    }
}

#[tokio::test]
async fn stock_is_filled_up_once_for_each_local_day() {
    let city = City::new(Settings::default()).await;
    let menu = menu(1, &[Some(10)]);
    city.hear(reactions::menu_changed, &menu).await;
    let cooked = OrderState { auto_accept: true, ..order(&menu, &[(1, 6)]) };
    for what in [Happens::Created, Happens::Awaiting, Happens::Confirmed] {
        city.happens(what, &cooked).await;
    }
    jobs::restock(city.kitchen.clone()).await.unwrap();
    assert_eq!(city.figures(&menu).await, [(4, 0)], "it is still the same day");
    city.pass(Duration::from_secs(12 * 3600));
    jobs::restock(city.kitchen.clone()).await.unwrap();
    assert_eq!(city.figures(&menu).await, [(10, 0)]);
    city.hear(reactions::order_created, &order(&menu, &[(1, 3)])).await;
    jobs::restock(city.kitchen.clone()).await.unwrap();
    assert_eq!(city.figures(&menu).await, [(10, 3)]);
}

#[tokio::test]
async fn every_statement_of_the_kitchen_prepares() {
    let city = City::new(Settings::default()).await;
    let own: Vec<_> = STATEMENTS.iter().filter(|statement| statement.module.starts_with("kitchen")).collect();
    assert!(own.len() > 20, "{} statements", own.len());
    for statement in own {
        city.kitchen
            .store
            .prepare(statement)
            .await
            .unwrap_or_else(|e| panic!("{}:{}: {e}", statement.file, statement.line));
    }
    let nobody = store::stock_item(&city.kitchen.store.read(), Uuid::nil(), Uuid::nil()).await.unwrap();
    assert_eq!(nobody, None);
}
