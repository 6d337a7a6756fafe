//! Scenes about deliveries: who gets them, what couriers may do when, and how each ends.

use std::time::Duration;

use contracts::orders::OrderState;
use kernel::store::STATEMENTS;

use super::city::{City, order, ticket};
use crate::delivery::DeliveryStatus as D;
use crate::{Settings, jobs, reactions};

#[tokio::test]
async fn the_nearest_free_courier_waits_for_the_food_and_brings_it() {
    let city = City::new(Settings::default()).await;
    for (courier, east) in [(1, 900), (2, 100), (3, -500)] {
        city.shift(courier, true, Some(east)).await.unwrap();
    }
    let order = order(100);
    for _ in 0..2 {
        city.hear(reactions::order_confirmed, &order).await;
    }
    assert_eq!(city.stands(&order).await, (D::Assigned, Some(2)));
    assert_eq!(city.pick_up(2, &order).await, Err("food_not_ready".into()));
    assert_eq!(city.hand_over(2, &order).await, Err("delivery_not_picked_up".into()));
    city.hear(reactions::kitchen_ready, &ticket(&order)).await;
    assert_eq!(city.pick_up(1, &order).await, Err("not_found".into()), "it is not theirs");
    city.pick_up(2, &order).await.unwrap();
    assert_eq!(city.give_back(2, &order).await, Err("delivery_not_assigned".into()));
    city.hear(reactions::order_shipped, &order).await;
    city.hand_over(2, &order).await.unwrap();
    city.hear(reactions::order_delivered, &order).await;
    assert_eq!(city.stands(&order).await, (D::Delivered, Some(2)));
    assert_eq!(city.courier(2).await.busy_with, None);
    assert_eq!(city.said(&order).await, ["delivery.assigned 1", "delivery.picked_up 2", "delivery.completed 3"]);
}

#[tokio::test]
async fn those_who_wait_are_served_oldest_first_as_couriers_become_free() {
    let city = City::new(Settings::default()).await;
    let orders = [order(100), order(101), order(100)];
    for order in &orders {
        city.hear(reactions::order_confirmed, order).await;
        city.pass(Duration::from_secs(1)).await;
    }
    city.shift(1, true, Some(0)).await.unwrap();
    assert_eq!(city.stands(&orders[0]).await, (D::Assigned, Some(1)));
    assert_eq!(city.stands(&orders[1]).await, (D::Waiting, None), "one delivery at a time");
    city.hear(reactions::order_cancelled, &orders[0]).await;
    assert_eq!(city.stands(&orders[0]).await, (D::Cancelled, Some(1)));
    assert_eq!(city.stands(&orders[1]).await, (D::Assigned, Some(1)));
    city.shift(1, false, None).await.unwrap();
    city.hear(reactions::kitchen_ready, &ticket(&orders[1])).await;
    city.pick_up(1, &orders[1]).await.unwrap();
    city.hand_over(1, &orders[1]).await.unwrap();
    assert_eq!(city.stands(&orders[2]).await, (D::Waiting, None), "the shift is over");
    assert_eq!(city.shift(7, true, None).await, Err("place_needed".into()));
    city.shift(1, true, None).await.unwrap();
    assert_eq!(city.stands(&orders[2]).await, (D::Assigned, Some(1)));
}

#[tokio::test]
async fn what_is_given_back_goes_to_another_courier_and_never_to_the_same() {
    let city = City::new(Settings::default()).await;
    city.shift(1, true, Some(0)).await.unwrap();
    let (first, second) = (order(100), order(101));
    city.hear(reactions::order_confirmed, &first).await;
    city.pass(Duration::from_secs(1)).await;
    city.hear(reactions::order_confirmed, &second).await;
    city.give_back(1, &first).await.unwrap();
    assert_eq!(city.stands(&first).await, (D::Waiting, None));
    assert_eq!(city.stands(&second).await, (D::Assigned, Some(1)));
    city.shift(2, true, Some(9_000)).await.unwrap();
    assert_eq!(city.stands(&first).await, (D::Assigned, Some(2)));
    assert_eq!(city.said(&first).await, ["delivery.assigned 1", "delivery.assigned 2"]);
}

#[tokio::test]
async fn news_in_any_order_and_twice_ends_alike() {
    async fn tell(city: &City, order: &OrderState, what: char) {
        match what {
            'c' => city.hear(reactions::order_confirmed, order).await,
            'r' => city.hear(reactions::kitchen_ready, &ticket(order)).await,
            _ => city.hear(reactions::order_cancelled, order).await,
        }
    }
    for news in ["rc", "cr", "rcrc", "ccrr"] {
        let city = City::new(Settings::default()).await;
        city.shift(1, true, Some(0)).await.unwrap();
        let order = order(100);
        for what in news.chars() {
            tell(&city, &order, what).await;
        }
        city.pick_up(1, &order).await.unwrap_or_else(|code| panic!("{news}: {code}"));
    }
    for news in ["cx", "crx", "cxr", "rcxx", "xc", "xrc", "rxcc"] {
        let city = City::new(Settings::default()).await;
        city.shift(1, true, Some(0)).await.unwrap();
        let order = order(100);
        for what in news.chars() {
            tell(&city, &order, what).await;
        }
        assert_eq!(city.courier(1).await.busy_with, None, "{news}");
        let refused = city.pick_up(1, &order).await.unwrap_err();
        assert!(["not_found", "delivery_not_assigned"].contains(&refused.as_str()), "{news}: {refused}");
    }
}

#[tokio::test]
async fn an_order_that_somebody_else_brings_waits_for_no_courier_and_meets_no_deadline() {
    let city = City::new(Settings::default()).await;
    let order = order(100);
    city.hear(reactions::order_confirmed, &order).await;
    city.hear(reactions::order_shipped, &order).await;
    city.shift(1, true, Some(0)).await.unwrap();
    city.pass(Duration::from_secs(99_999)).await;
    assert_eq!(city.courier(1).await.busy_with, None);
    city.hear(reactions::order_delivered, &order).await;
    assert_eq!(city.stands(&order).await, (D::Delivered, None));
    assert!(city.said(&order).await.is_empty(), "a failure would cancel an order that is on its way");
}

#[tokio::test]
async fn a_delivery_fails_when_nobody_is_found_or_it_does_not_arrive_and_not_before() {
    let city = City::new(Settings::default()).await;
    let (waits, strays) = (order(100), order(100));
    city.hear(reactions::order_confirmed, &waits).await;
    city.pass(Duration::from_secs(3_599)).await;
    assert_eq!(city.stands(&waits).await.0, D::Waiting);
    city.pass(Duration::from_secs(1)).await;
    assert_eq!(city.stands(&waits).await.0, D::Failed);
    assert_eq!(city.said(&waits).await, ["delivery.failed 1"]);

    city.shift(1, true, Some(0)).await.unwrap();
    city.hear(reactions::order_confirmed, &strays).await;
    city.hear(reactions::kitchen_ready, &ticket(&strays)).await;
    city.pass(Duration::from_secs(9_999)).await;
    assert_eq!(city.stands(&strays).await.0, D::Assigned, "an assigned delivery has no deadline of its own");
    city.pick_up(1, &strays).await.unwrap();
    city.pass(Duration::from_secs(7_199)).await;
    assert_eq!(city.stands(&strays).await.0, D::PickedUp);
    city.pass(Duration::from_secs(1)).await;
    assert_eq!(city.stands(&strays).await.0, D::Failed);
    assert_eq!(city.courier(1).await.busy_with, None);
    assert_eq!(city.said(&strays).await, ["delivery.assigned 1", "delivery.picked_up 2", "delivery.failed 3"]);
}

#[tokio::test]
async fn demo_couriers_stay_on_shift_and_drive_by_themselves() {
    let settings = Settings { auto_drive_after_ms: Some(500), demo_couriers: 3, ..Settings::default() };
    let city = City::new(settings).await;
    for _ in 0..2 {
        jobs::begin_demo_shifts(city.delivery.clone()).await.unwrap();
    }
    let first = contracts::demo::courier(0).as_u128();
    assert!(city.courier(first).await.on_shift);
    assert_eq!(city.shift(first, false, None).await, Err("demo_shift".into()));
    let order = order(100);
    city.hear(reactions::order_confirmed, &order).await;
    city.pass(Duration::from_secs(60)).await;
    assert_eq!(city.stands(&order).await.0, D::Assigned, "the food is not ready");
    city.hear(reactions::kitchen_ready, &ticket(&order)).await;
    city.pass(Duration::from_millis(499)).await;
    assert_eq!(city.stands(&order).await.0, D::Assigned);
    city.pass(Duration::from_millis(1)).await;
    assert_eq!(city.stands(&order).await.0, D::PickedUp);
    city.pass(Duration::from_millis(500)).await;
    assert_eq!(city.said(&order).await, ["delivery.assigned 1", "delivery.picked_up 2", "delivery.completed 3"]);
}

#[tokio::test]
async fn an_order_brought_without_a_word_to_us_frees_its_courier() {
    let city = City::new(Settings::default()).await;
    city.shift(1, true, Some(0)).await.unwrap();
    let order = order(100);
    city.hear(reactions::order_confirmed, &order).await;
    city.hear(reactions::order_delivered, &order).await;
    assert_eq!(city.stands(&order).await, (D::Delivered, Some(1)));
    assert_eq!(city.courier(1).await.busy_with, None);
    assert_eq!(city.said(&order).await, ["delivery.assigned 1"]);
}

#[tokio::test]
async fn the_job_finds_couriers_for_those_whom_no_unit_could_serve() {
    let city = City::new(Settings::default()).await;
    let orders: Vec<OrderState> = (0..50).map(|_| order(100)).collect();
    for order in &orders {
        city.hear(reactions::order_confirmed, order).await;
    }
    // As after a unit beside which they began their shifts: on shift, and nobody has looked.
    for courier in 1..=60 {
        let began = city.delivery.store.write(move |tx| async move {
            let id = uuid::Uuid::from_u128(courier);
            crate::store::put_position(&tx, id, order(100).pick_up).await?;
            crate::store::begin_shift(&tx, id, "Mara").await
        });
        began.await.unwrap();
    }
    jobs::assign_waiting(city.delivery.clone()).await.unwrap();
    let mut couriers = std::collections::BTreeSet::new();
    for order in &orders {
        let (status, courier) = city.stands(order).await;
        assert_eq!(status, D::Assigned);
        assert!(couriers.insert(courier), "two deliveries for one courier");
    }
}

#[tokio::test]
async fn orders_confirmed_at_the_same_time_do_not_share_a_courier() {
    let city = City::new(Settings::default()).await;
    let mut all = Vec::new();
    for round in 0..10 {
        for courier in 0..2 {
            city.shift(10 * round + courier + 1, true, Some(0)).await.unwrap();
        }
        let orders = [order(100), order(101), order(102), order(100)];
        tokio::join!(
            city.hear(reactions::order_confirmed, &orders[0]),
            city.hear(reactions::order_confirmed, &orders[1]),
            city.hear(reactions::order_confirmed, &orders[2]),
            city.hear(reactions::order_confirmed, &orders[3]),
        );
        all.extend(orders);
    }
    jobs::assign_waiting(city.delivery.clone()).await.unwrap();
    let mut couriers = Vec::new();
    for order in &all {
        couriers.extend(city.stands(order).await.1);
    }
    couriers.sort_unstable();
    let wanted: Vec<u128> = (0..10).flat_map(|round| [10 * round + 1, 10 * round + 2]).collect();
    assert_eq!(couriers, wanted, "every courier brings exactly one");
}

#[tokio::test]
async fn every_statement_of_the_delivery_service_prepares() {
    let city = City::new(Settings::default()).await;
    let own: Vec<_> = STATEMENTS.iter().filter(|statement| statement.module.starts_with("delivery")).collect();
    assert!(own.len() > 15, "{} statements", own.len());
    for statement in own {
        let prepared = city.delivery.store.prepare(statement).await;
        prepared.unwrap_or_else(|error| panic!("{}:{}: {error}", statement.file, statement.line));
    }
}
