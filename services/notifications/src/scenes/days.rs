//! Scenes about messages: who is told what, once, and what becomes of a message whose channel is in trouble.

use std::time::Duration;

use contracts::orders::{OrderConfirmed, OrderCreated, OrderState, OrderStatus, OrderUpdated};
use kernel::clock::Timestamp;
use kernel::store::STATEMENTS;

use super::city::{CUSTOMER, City, ORDER, delivery, order, payment};
use crate::message::MessageStatus;
use crate::preferences::{Kind, Preferences, Via};
use crate::{reactions, store};

fn titles(letters: &[store::LetterRow]) -> Vec<&str> {
    letters.iter().map(|letter| letter.title.as_str()).collect()
}

#[tokio::test]
async fn each_change_of_an_order_is_told_exactly_once_in_the_trace_of_its_event() {
    let city = City::new().await;
    for _ in 0..2 {
        city.hear(reactions::order_moved::<OrderCreated>, 1, &order(OrderStatus::Pending)).await;
    }
    city.send().await;
    city.pass(Duration::from_secs(1));
    for (id, status) in [(2, OrderStatus::AwaitingAcceptance), (3, OrderStatus::Preparing)] {
        city.hear(reactions::order_moved::<OrderUpdated>, id, &order(status)).await;
        city.send().await;
        city.pass(Duration::from_secs(1));
    }
    city.send().await;
    let letters = city.mailbox().await;
    let wanted =
        ["We have your order ORD-TEST1", "Lanterna has your order ORD-TEST1", "Your order ORD-TEST1 is being cooked"];
    assert_eq!(titles(&letters), wanted);
    assert!(letters.iter().all(|letter| letter.via == Via::Email && letter.address == "a@demo.example"));
    let traces: Vec<_> = letters.iter().map(|letter| letter.trace_id.clone()).collect();
    assert_eq!(traces, [1_u128, 2, 3].map(|id| format!("{id:032x}")));
    let said = city.said().await;
    assert_eq!(said.len(), 3);
    for ((name, version, headers), trace) in said.iter().zip(&traces) {
        assert_eq!((name.as_str(), *version), ("notification.sent", 1));
        assert!(headers.contains(trace.as_str()), "{headers}");
    }
}

#[tokio::test]
async fn preferences_choose_the_channels_and_the_kinds() {
    let city = City::new().await;
    let wanted = Preferences { email: true, sms: true, push: false, kinds: vec![Kind::Order] };
    let said = city.state.store.write(move |tx| {
        let wanted = wanted.clone();
        async move { store::put_preferences(&tx, CUSTOMER, &wanted).await }
    });
    said.await.unwrap();
    city.hear(reactions::order_moved::<OrderConfirmed>, 1, &order(OrderStatus::Confirmed)).await;
    city.hear(reactions::payment_failed, 2, &payment()).await;
    city.send().await;
    let mut ways: Vec<_> = city.mailbox().await.into_iter().map(|letter| (letter.via, letter.address)).collect();
    ways.sort();
    assert_eq!(ways, [(Via::Email, "a@demo.example".to_owned()), (Via::Sms, CUSTOMER.to_string())]);
}

#[tokio::test]
async fn a_courier_who_is_heard_of_before_the_order_is_told_of_when_it_is_known() {
    for early in [true, false] {
        let city = City::new().await;
        let pending = order(OrderStatus::Pending);
        let created = || city.hear(reactions::order_moved::<OrderCreated>, 1, &pending);
        if !early {
            created().await;
        }
        city.hear(reactions::delivery_assigned, 2, &delivery("Mara")).await;
        city.hear(reactions::delivery_assigned, 2, &delivery("Mara")).await;
        city.hear(reactions::delivery_assigned, 3, &delivery("Nino")).await;
        if early {
            assert!(city.messages().await.is_empty());
            created().await;
        }
        city.send().await;
        let mut told: Vec<_> = city.mailbox().await.into_iter().map(|letter| (letter.title, letter.trace_id)).collect();
        told.sort();
        let courier =
            |name: &str, trace: u128| (format!("{name} brings your order ORD-TEST1"), format!("{trace:032x}"));
        let wanted =
            [courier("Mara", 2), courier("Nino", 3), ("We have your order ORD-TEST1".into(), format!("{:032x}", 1))];
        assert_eq!(told, wanted, "early: {early}");
    }
}

#[tokio::test]
async fn the_address_that_was_said_last_wins_in_whatever_order_it_is_heard() {
    let city = City::new().await;
    let at = |seconds: i64, email: &str| OrderState {
        customer_email: email.to_owned(),
        changed_at: Timestamp::from_micros(seconds * 1_000_000),
        ..order(OrderStatus::Preparing)
    };
    city.hear(reactions::order_moved::<OrderUpdated>, 1, &at(20, "new@demo.example")).await;
    city.hear(reactions::order_moved::<OrderUpdated>, 2, &at(10, "old@demo.example")).await;
    let address = store::contact(&city.state.store.read(), CUSTOMER).await.unwrap();
    assert_eq!(address.as_deref(), Some("new@demo.example"));
}

#[tokio::test]
async fn a_channel_in_trouble_is_tried_again_when_it_is_time_and_the_message_arrives_once() {
    let city = City::with_door(2, false).await;
    city.hear(reactions::payment_refunded, 1, &payment()).await;
    city.send().await;
    city.send().await;
    let waiting = &city.messages().await[0];
    assert_eq!((waiting.status, waiting.tries), (MessageStatus::Queued, 1), "not tried before its time");
    assert_eq!(waiting.error.as_deref(), Some("the door is shut"));
    for seconds in [1, 2] {
        city.pass(Duration::from_secs(seconds));
        city.send().await;
    }
    let sent = &city.messages().await[0];
    assert_eq!((sent.status, sent.tries, sent.error.as_deref()), (MessageStatus::Sent, 3, None));
    assert_eq!(city.mailbox().await.len(), 1);
    assert_eq!(city.said().await.len(), 1);
}

#[tokio::test]
async fn a_message_fails_after_enough_tries_or_at_once_where_trying_cannot_help() {
    for (for_good, tries) in [(false, 8), (true, 1)] {
        let city = City::with_door(usize::MAX, for_good).await;
        city.hear(reactions::payment_failed, 1, &payment()).await;
        for _ in 0..12 {
            city.send().await;
            city.pass(Duration::from_secs(60));
        }
        let failed = &city.messages().await[0];
        assert_eq!((failed.status, failed.tries), (MessageStatus::Failed, tries), "for good: {for_good}");
        assert_eq!(failed.order_id, ORDER);
        assert!(city.mailbox().await.is_empty());
        let said = city.said().await;
        assert_eq!(said.len(), 1);
        assert_eq!((said[0].0.as_str(), said[0].1), ("notification.failed", 1));
    }
}

#[tokio::test]
async fn a_letter_that_comes_again_after_a_crash_reaches_nobody_twice() {
    let city = City::new().await;
    city.hear(reactions::order_moved::<OrderCreated>, 1, &order(OrderStatus::Pending)).await;
    // As after a crash between the channel's yes and the unit that writes it down.
    let letters: Vec<_> = city.messages().await.iter().map(crate::channel::Letter::from).collect();
    assert_eq!(city.state.channel.send(letters).await, [Ok(())]);
    city.send().await;
    assert_eq!(city.mailbox().await.len(), 1);
    assert_eq!(city.messages().await[0].status, MessageStatus::Sent);
    assert_eq!(city.said().await.len(), 1);
}

#[tokio::test]
async fn every_statement_of_the_notifications_service_prepares() {
    let city = City::new().await;
    let own: Vec<_> = STATEMENTS.iter().filter(|statement| statement.module.starts_with("notifications")).collect();
    assert!(own.len() > 10, "{} statements", own.len());
    for statement in own {
        let prepared = city.state.store.prepare(statement).await;
        prepared.unwrap_or_else(|error| panic!("{}:{}: {error}", statement.file, statement.line));
    }
}
