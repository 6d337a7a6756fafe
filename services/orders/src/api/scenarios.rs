//! Handlers, reactions and deadlines together on real databases, each in a unit of work of its own.

mod city;

use std::time::Duration;

use contracts::delivery::{DeliveryAssigned, DeliveryCompleted, DeliveryPickedUp};
use contracts::kitchen::{InventoryRejected, InventoryReserved, KitchenAccepted, KitchenReady, KitchenStarted};
use contracts::payments::{PaymentAuthorized, PaymentFailed, PaymentSucceeded};
use serde_json::{Value, json};

use super::{list_customer_orders, show_cart, show_history, show_order};
use crate::{jobs, reactions, store};
use city::{COURIER, CUSTOMER, Desk, OWNER, STRANGER, SUPPORTER, person};
use kernel::http::{Path, Query};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test]
async fn an_order_is_paid_cooked_and_delivered_and_every_step_is_told_once() {
    for desk in Desk::on_every_engine().await {
        let id = desk.place(json!({})).await;
        desk.hear(reactions::inventory_reserved, InventoryReserved(desk.reservation(id))).await;
        desk.hear(reactions::payment_authorized, PaymentAuthorized(desk.payment(id, None))).await;
        desk.hear(reactions::kitchen_accepted, KitchenAccepted(desk.ticket(id))).await;
        assert_eq!(desk.status(id).await, "AWAITING_ACCEPTANCE");
        desk.hear(reactions::payment_succeeded, PaymentSucceeded(desk.payment(id, None))).await;
        desk.hear(reactions::kitchen_started, KitchenStarted(desk.ticket(id))).await;
        desk.hear(reactions::delivery_assigned, DeliveryAssigned(desk.delivery(id))).await;
        // The courier's news overtakes the kitchen's, which then says nothing new.
        desk.hear(reactions::delivery_picked_up, DeliveryPickedUp(desk.delivery(id))).await;
        desk.hear(reactions::kitchen_ready, KitchenReady(desk.ticket(id))).await;
        desk.hear(reactions::delivery_completed, DeliveryCompleted(desk.delivery(id))).await;
        let steps = [
            ("order.created", "PENDING", "customer"),
            ("order.updated", "AWAITING_ACCEPTANCE", "payment.authorized"),
            ("order.confirmed", "CONFIRMED", "payment.success"),
            ("order.updated", "PREPARING", "kitchen.started"),
            ("order.shipped", "OUT_FOR_DELIVERY", "delivery.picked_up"),
            ("order.delivered", "DELIVERED", "delivery.completed"),
        ];
        assert_eq!(desk.told(id).await, steps.map(|(event, _, _)| event));
        let history = desk.read(show_history(desk.orders(), person(CUSTOMER), Path(desk.path(id)))).await.unwrap();
        let seen: Vec<(&str, &str)> = history["steps"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| (s["status"].as_str().unwrap(), s["caused_by"].as_str().unwrap()))
            .collect();
        assert_eq!(seen, steps.map(|(_, status, by)| (status, by)));
        assert_eq!((&history["deadline_at"], &history["waits_for"]), (&Value::Null, &json!([])));
        assert_eq!(desk.timers(id).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn answers_that_come_at_the_same_moment_see_each_other() {
    for desk in Desk::on_every_engine().await {
        for _ in 0..20 {
            let id = desk.place(json!({})).await;
            tokio::join!(
                desk.hear(reactions::payment_authorized, PaymentAuthorized(desk.payment(id, None))),
                desk.hear(reactions::inventory_reserved, InventoryReserved(desk.reservation(id))),
            );
            assert_eq!(desk.told(id).await, ["order.created", "order.updated"]);
            let (_, cancelled) = tokio::join!(
                desk.hear(reactions::payment_succeeded, PaymentSucceeded(desk.payment(id, None))),
                desk.cancel(CUSTOMER, id),
            );
            let ended = if cancelled.is_ok() { "order.cancelled" } else { "order.confirmed" };
            assert_eq!(desk.told(id).await, ["order.created", "order.updated", ended]);
        }
    }
}

#[tokio::test]
async fn a_failed_payment_ends_the_order_only_when_it_is_final() {
    for desk in Desk::on_every_engine().await {
        let id = desk.place(json!({})).await;
        let later = desk.now().plus(60 * SECOND);
        desk.hear(reactions::payment_failed, PaymentFailed(desk.payment(id, Some(later)))).await;
        assert_eq!(desk.status(id).await, "PENDING");
        desk.hear(reactions::payment_failed, PaymentFailed(desk.payment(id, None))).await;
        desk.hear(reactions::payment_failed, PaymentFailed(desk.payment(id, None))).await;
        desk.hear(reactions::payment_authorized, PaymentAuthorized(desk.payment(id, None))).await;
        desk.hear(reactions::inventory_reserved, InventoryReserved(desk.reservation(id))).await;
        assert_eq!(desk.show(id).await["reason"], "payment_failed");
        assert_eq!(desk.told(id).await, ["order.created", "order.failed"]);
        let other = desk.place(json!({})).await;
        desk.hear(reactions::inventory_rejected, InventoryRejected(desk.reservation(other))).await;
        assert_eq!(desk.show(other).await["reason"], "out_of_stock");
    }
}

#[tokio::test]
async fn deadlines_end_what_waits_even_without_timers() {
    for desk in Desk::on_every_engine().await {
        let (unpaid, unstocked, unanswered) =
            (desk.place(json!({})).await, desk.place(json!({})).await, desk.place(json!({})).await);
        for id in [unstocked, unanswered] {
            desk.hear(reactions::payment_authorized, PaymentAuthorized(desk.payment(id, None))).await;
        }
        desk.hear(reactions::inventory_reserved, InventoryReserved(desk.reservation(unanswered))).await;
        assert_eq!(desk.timers(unpaid).await, ["payment"]);
        assert_eq!(desk.timers(unanswered).await, ["acceptance"]);
        desk.advance(180 * SECOND);
        jobs::sweep_overdue(desk.orders()).await.unwrap();
        assert_eq!(desk.status(unpaid).await, "PENDING", "the timer has its time before the sweeper");
        desk.advance(31 * SECOND);
        jobs::sweep_overdue(desk.orders()).await.unwrap();
        jobs::sweep_overdue(desk.orders()).await.unwrap();
        let stands = async |id| {
            let order = desk.show(id).await;
            (order["status"].as_str().unwrap().to_owned(), order["reason"].as_str().unwrap_or("").to_owned())
        };
        assert_eq!(stands(unpaid).await, ("FAILED".into(), "payment_timeout".into()));
        assert_eq!(stands(unstocked).await, ("EXPIRED".into(), "stock_timeout".into()));
        assert_eq!(stands(unanswered).await, ("AWAITING_ACCEPTANCE".into(), String::new()));
        assert_eq!(desk.told(unstocked).await, ["order.created", "order.failed"]);
        // The kitchen's yes gives the money its own time, from now on.
        desk.hear(reactions::kitchen_accepted, KitchenAccepted(desk.ticket(unanswered))).await;
        desk.advance(599 * SECOND);
        desk.fire(unanswered, "acceptance").await;
        assert_eq!(stands(unanswered).await.0, "AWAITING_ACCEPTANCE");
        desk.advance(SECOND);
        desk.fire(unanswered, "acceptance").await;
        assert_eq!(stands(unanswered).await, ("EXPIRED".into(), "capture_timeout".into()));
        assert_eq!(desk.timers(unanswered).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn an_order_belongs_to_its_people_and_only_they_may_touch_it() {
    for desk in Desk::on_every_engine().await {
        let id = desk.place(json!({})).await;
        let sees = async |who| {
            desk.read(show_order(desk.orders(), person(who), Path(desk.path(id))))
                .await
                .map(|_| ())
                .map_err(|p| p.status)
        };
        for (who, answer) in
            [(CUSTOMER, Ok(())), (OWNER, Ok(())), (SUPPORTER, Ok(())), (STRANGER, Err(404)), (COURIER, Err(404))]
        {
            assert_eq!(sees(who).await, answer, "{who:?}");
        }
        desk.hear(reactions::delivery_assigned, DeliveryAssigned(desk.delivery(id))).await;
        assert_eq!(sees(COURIER).await, Ok(()));
        assert_eq!(desk.cancel(STRANGER, id).await.unwrap_err().status, 404);
        assert_eq!(desk.cancel(COURIER, id).await.unwrap_err().status, 403);
        assert_eq!(desk.cancel(CUSTOMER, id).await.unwrap()["reason"], "cancelled_by_customer");
        let again = desk.cancel(SUPPORTER, id).await.unwrap_err();
        assert_eq!((again.code.as_ref(), &again.extra["current_status"]), ("invalid_transition", &json!("CANCELLED")));
        // The money arrives too late; whoever took it gives it back.
        desk.hear(reactions::payment_succeeded, PaymentSucceeded(desk.payment(id, None))).await;
        assert_eq!(desk.told(id).await, ["order.created", "order.cancelled"]);
    }
}

#[tokio::test]
async fn a_changed_price_is_refused_with_the_new_one_and_leaves_nothing_behind() {
    for desk in Desk::on_every_engine().await {
        let refused = desk.try_place(json!({"quoted_total_minor": 1})).await.unwrap_err();
        assert_eq!(
            (refused.status, refused.code.as_ref(), &refused.extra["total_minor"]),
            (409, "price_changed", &json!(2_250))
        );
        assert!(desk.try_place(json!({"quoted_total_minor": 2_250})).await.is_ok());
        let code = async |extra| desk.try_place(extra).await.unwrap_err().code.into_owned();
        assert_eq!(code(json!({"restaurant_id": STRANGER.id})).await, "restaurant_unknown");
        assert_eq!(code(json!({"from_cart": true})).await, "invalid_body");
        assert_eq!(code(json!({"discount_code": "nope"})).await, "discount_unknown");
        assert_eq!(code(json!({"lines": []})).await, "invalid_body");
        desk.advance(Duration::from_secs(12 * 3600));
        assert_eq!(code(json!({})).await, "restaurant_closed");
        let page = desk.customer_orders(None).await;
        assert_eq!(page["items"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_discount_is_used_as_often_as_allowed_and_comes_back_with_an_order_that_came_to_nothing() {
    for desk in Desk::on_every_engine().await {
        desk.set_up_discount("half", 5_000).await;
        let with_code = json!({"discount_code": "HALF"});
        let first = desk.place(with_code.clone()).await;
        let order = desk.show(first).await;
        assert_eq!((&order["discount_minor"], &order["total_minor"]), (&json!(1_000), &json!(1_250)));
        let refused = desk.try_place(with_code.clone()).await.unwrap_err();
        assert_eq!(refused.code, "discount_used_up");
        desk.cancel(CUSTOMER, first).await.unwrap();
        assert!(desk.try_place(with_code).await.is_ok());
    }
}

#[tokio::test]
async fn a_cart_is_priced_when_shown_and_empty_once_ordered() {
    for desk in Desk::on_every_engine().await {
        let cart = desk.fill_cart(1).await.unwrap();
        assert_eq!(cart["problem"]["code"], "below_minimum_order");
        assert_eq!(cart["quote"]["total_minor"], 1_250);
        let cart = desk.fill_cart(2).await.unwrap();
        assert_eq!((&cart["problem"], &cart["quote"]["total_minor"]), (&Value::Null, &json!(2_250)));
        let id = desk.place(json!({"from_cart": true, "restaurant_id": null, "lines": []})).await;
        assert_eq!(desk.show(id).await["lines"][0]["quantity"], 2);
        let cart = desk.read(show_cart(desk.orders(), person(CUSTOMER))).await.unwrap();
        assert_eq!((&cart["lines"], &cart["restaurant_id"]), (&json!([]), &Value::Null));
        let refused = desk.try_place(json!({"from_cart": true, "restaurant_id": null, "lines": []})).await.unwrap_err();
        assert_eq!(refused.code, "cart_empty");
    }
}

#[tokio::test]
async fn pages_hold_every_order_once_newest_first() {
    for desk in Desk::on_every_engine().await {
        let mut placed = Vec::new();
        for number in 0..5_u64 {
            placed.push(desk.place(json!({})).await.to_string());
            // Two at the same moment: the identity decides between them.
            desk.advance(SECOND * u32::try_from(number % 2).unwrap());
        }
        let (mut seen, mut token) = (Vec::new(), None);
        loop {
            let page = desk.customer_orders(token).await;
            seen.extend(page["items"].as_array().unwrap().iter().map(|o| o["id"].as_str().unwrap().to_owned()));
            token = page["next_page_token"].as_str().map(str::to_owned);
            if token.is_none() {
                break;
            }
        }
        seen.reverse();
        assert_eq!(seen, placed);
        let query = Query(super::PageQuery { page_size: None, page_token: None });
        let path = Path(serde_json::from_value(json!({"customerId": CUSTOMER.id})).unwrap());
        let refused = desk.read(list_customer_orders(desk.orders(), person(STRANGER), path, query)).await.unwrap_err();
        assert_eq!(refused.status, 404);
    }
}

#[tokio::test]
async fn every_statement_prepares() {
    for desk in Desk::on_every_engine().await {
        let mut checked = 0;
        for statement in kernel::store::STATEMENTS.iter().filter(|s| s.module.starts_with("orders")) {
            let prepared = desk.orders().store.prepare(statement).await;
            assert!(prepared.is_ok(), "{}:{}: {prepared:?}", statement.file, statement.line);
            checked += 1;
        }
        assert!(checked > 20, "only {checked} statements are filed");
        assert_eq!(store::overdue(&desk.orders().store.read(), desk.now(), 10).await.unwrap(), []);
    }
}
