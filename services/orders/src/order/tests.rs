//! No sequence of news and commands leads anywhere that the table does not allow.

use super::*;
use proptest::prelude::*;

const NEWS: &[News] = &[
    News::PaymentAuthorized,
    News::PaymentFailed,
    News::PaymentCaptured,
    News::StockReserved,
    News::StockRejected,
    News::KitchenAccepted,
    News::KitchenRejected,
    News::KitchenExpired,
    News::CookingStarted,
    News::FoodReady,
    News::PickedUp,
    News::HandedOver,
    News::DeliveryFailed,
    News::Overdue,
];
const ROLES: &[Role] = &[Role::Customer, Role::Courier, Role::Restaurant, Role::Support];

fn standing(status: OrderStatus) -> Standing {
    let past_pending = status != Pending;
    Standing { status, payment_ok: past_pending, stock_ok: past_pending, kitchen_ok: is_paid(status) }
}

fn hear(order: &mut Standing, news: News) -> Option<Step> {
    match news.mark() {
        Some(Mark::Payment) => order.payment_ok = true,
        Some(Mark::Stock) => order.stock_ok = true,
        Some(Mark::Kitchen) => order.kitchen_ok = true,
        None => {}
    }
    let step = follow(*order, news)?;
    order.status = step.to;
    Some(step)
}

/// One thing that can happen to an order.
#[derive(Clone, Copy, Debug)]
enum Happens {
    News(News),
    Command(Role, OrderStatus),
}

fn anything() -> impl Strategy<Value = Happens> {
    prop_oneof![
        3 => prop::sample::select(NEWS).prop_map(Happens::News),
        1 => (prop::sample::select(ROLES), prop::sample::select(OrderStatus::ALL)).prop_map(|(r, to)| Happens::Command(r, to)),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_in_whatever_order_the_table_holds_and_ends_are_final(all in prop::collection::vec(anything(), 1..60)) {
        let mut order = Standing { status: Pending, payment_ok: false, stock_ok: false, kitchen_ok: false };
        let mut captured = false;
        for happens in all {
            let before = order.status;
            let step = match happens {
                Happens::News(news) => {
                    let step = hear(&mut order, news);
                    captured |= news == News::PaymentCaptured && step.is_some();
                    step
                }
                Happens::Command(role, to) => command(before, role, to).ok().inspect(|step| order.status = step.to),
            };
            match step {
                Some(step) => {
                    prop_assert!(may_become(before).contains(&step.to), "{before} -> {}", step.to);
                    prop_assert!(!before.is_final());
                    prop_assert_eq!(step.reason.is_some(), step.to.is_final() && step.to != Delivered);
                }
                None => prop_assert_eq!(order.status, before),
            }
            if order.status == AwaitingAcceptance {
                prop_assert!(order.payment_ok && order.stock_ok);
            }
            prop_assert!(captured || !(is_paid(order.status) || order.status == Delivered), "cooked without money");
        }
    }

    #[test]
    fn news_heard_twice_is_news_heard_once(status in prop::sample::select(OrderStatus::ALL), news in prop::sample::select(NEWS)) {
        // Overdue is not heard but measured: the deadline moves with every step.
        prop_assume!(news != News::Overdue);
        let mut once = standing(status);
        hear(&mut once, news);
        let mut twice = once;
        prop_assert_eq!(hear(&mut twice, news), None);
        prop_assert_eq!(twice, once);
    }

    #[test]
    fn both_answers_are_needed_and_their_order_does_not_matter(stock_first in any::<bool>()) {
        let mut order = Standing { status: Pending, payment_ok: false, stock_ok: false, kitchen_ok: false };
        let (first, second) =
            if stock_first { (News::StockReserved, News::PaymentAuthorized) } else { (News::PaymentAuthorized, News::StockReserved) };
        prop_assert_eq!(hear(&mut order, first), None);
        prop_assert_eq!(hear(&mut order, second), Some(on(AwaitingAcceptance)));
    }
}

#[test]
fn every_waiting_order_ends_when_its_deadline_passes() {
    for status in OrderStatus::ALL {
        for (payment_ok, kitchen_ok) in [(false, false), (true, false), (true, true)] {
            let order = Standing { status: *status, payment_ok, stock_ok: false, kitchen_ok };
            match follow(order, News::Overdue) {
                Some(step) => assert!(step.to.is_final() && step.to != Delivered, "{status}"),
                None => assert!(status.is_final(), "{status} would wait for ever"),
            }
        }
    }
}

#[test]
fn the_table_of_steps_is_the_one_that_was_agreed() {
    let table: Vec<String> = OrderStatus::ALL
        .iter()
        .map(|from| format!("{from}: {}", may_become(*from).iter().map(|to| to.word()).collect::<Vec<_>>().join(" ")))
        .collect();
    assert_eq!(
        table,
        [
            "PENDING: AWAITING_ACCEPTANCE FAILED REJECTED EXPIRED CANCELLED",
            "AWAITING_ACCEPTANCE: CONFIRMED FAILED REJECTED EXPIRED CANCELLED",
            "CONFIRMED: PREPARING READY OUT_FOR_DELIVERY DELIVERED CANCELLED",
            "PREPARING: READY OUT_FOR_DELIVERY DELIVERED CANCELLED",
            "READY: OUT_FOR_DELIVERY DELIVERED CANCELLED",
            "OUT_FOR_DELIVERY: DELIVERED CANCELLED",
            "DELIVERED: ",
            "FAILED: ",
            "REJECTED: ",
            "EXPIRED: ",
            "CANCELLED: ",
        ]
    );
}

#[test]
fn a_step_that_comes_late_is_ignored_and_a_later_one_wins() {
    for (status, news, becomes) in [
        (Confirmed, News::FoodReady, Some(Ready)),
        (Ready, News::CookingStarted, None),
        (OutForDelivery, News::FoodReady, None),
        (Preparing, News::PickedUp, Some(OutForDelivery)),
        (Confirmed, News::HandedOver, Some(Delivered)),
        (Delivered, News::DeliveryFailed, None),
        (OutForDelivery, News::DeliveryFailed, Some(Cancelled)),
        (AwaitingAcceptance, News::DeliveryFailed, None),
        (AwaitingAcceptance, News::PaymentFailed, Some(Failed)),
        (Confirmed, News::PaymentFailed, None),
        (Cancelled, News::PaymentCaptured, None),
        (Pending, News::PaymentCaptured, None),
        (Confirmed, News::KitchenRejected, None),
    ] {
        assert_eq!(follow(standing(status), news).map(|s| s.to), becomes, "{status} {news:?}");
    }
}

#[test]
fn people_may_do_what_is_theirs_and_nothing_that_a_judge_decides() {
    let told = |from, role, to| match command(from, role, to) {
        Ok(step) => step.reason.map_or("ok", Reason::word).to_owned(),
        Err(Fail::Refused(problem)) => problem.code.to_string(),
        Err(other) => format!("{other:?}"),
    };
    for (from, role, to, answer) in [
        (Pending, Role::Customer, Cancelled, "cancelled_by_customer"),
        (AwaitingAcceptance, Role::Customer, Cancelled, "cancelled_by_customer"),
        (Confirmed, Role::Customer, Cancelled, "invalid_transition"),
        (Ready, Role::Restaurant, Cancelled, "cancelled_by_restaurant"),
        (Preparing, Role::Support, Cancelled, "cancelled_by_support"),
        (OutForDelivery, Role::Support, Cancelled, "invalid_transition"),
        (Cancelled, Role::Support, Cancelled, "invalid_transition"),
        (Confirmed, Role::Restaurant, Preparing, "ok"),
        (Confirmed, Role::Customer, Preparing, "forbidden"),
        (Ready, Role::Restaurant, OutForDelivery, "forbidden"),
        (Ready, Role::Courier, OutForDelivery, "forbidden"),
        (Ready, Role::Support, OutForDelivery, "ok"),
        (Ready, Role::Courier, Cancelled, "forbidden"),
        (OutForDelivery, Role::Courier, Delivered, "forbidden"),
        (OutForDelivery, Role::Support, Delivered, "ok"),
        (Confirmed, Role::Support, Delivered, "invalid_transition"),
        (AwaitingAcceptance, Role::Support, Confirmed, "invalid_transition"),
        (Pending, Role::Support, Failed, "invalid_transition"),
        (Delivered, Role::Support, Delivered, "invalid_transition"),
    ] {
        assert_eq!(told(from, role, to), answer, "{role:?} {from} -> {to}");
    }
}
