//! What to tell of an event: a template and its values.

use contracts::orders::{Card, OrderState, OrderStatus};
use contracts::payments::PaymentState;
use kernel::clock::Timestamp;
use kernel::money::Money;

use crate::templates::{self, Template, Values};

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) template: Template,
    pub(crate) values: Values,
}

/// What to tell of an order that has reached its status.
pub(crate) fn of_order(order: &OrderState) -> Told {
    let template = match order.status {
        OrderStatus::Pending => templates::ORDER_PENDING,
        OrderStatus::AwaitingAcceptance => templates::ORDER_AWAITING,
        OrderStatus::Confirmed => templates::ORDER_CONFIRMED,
        OrderStatus::Preparing => templates::ORDER_PREPARING,
        OrderStatus::Ready => templates::ORDER_READY,
        OrderStatus::OutForDelivery => templates::ORDER_ON_ITS_WAY,
        OrderStatus::Delivered => templates::ORDER_DELIVERED,
        OrderStatus::Failed => templates::ORDER_FAILED,
        OrderStatus::Rejected => templates::ORDER_REJECTED,
        OrderStatus::Expired => templates::ORDER_EXPIRED,
        OrderStatus::Cancelled => templates::ORDER_CANCELLED,
    };
    let values = vec![
        ("code", order.code.clone()),
        ("restaurant", order.restaurant_name.clone()),
        ("total", Money::new(order.total_minor, order.currency).to_string()),
        ("card", masked(&order.card)),
        ("street", order.deliver_to.street.clone()),
        ("reason", reason(order.reason.as_deref())),
    ];
    Told { template, values }
}

fn masked(card: &Card) -> String {
    format!("{} ****{}", card.brand, card.last4)
}

/// An order's reason as a sentence for its customer.
fn reason(word: Option<&str>) -> String {
    let sentence = match word.unwrap_or_default() {
        "out_of_stock" => "Something that you ordered is sold out.",
        "payment_failed" => "The payment did not go through.",
        "payment_timeout" => "The payment was not made in time.",
        "stock_timeout" => "The restaurant's stock could not be checked in time.",
        "acceptance_timeout" | "kitchen_expired" => "The restaurant did not answer in time.",
        "capture_timeout" => "The payment could not be completed in time.",
        "kitchen_rejected" => "The restaurant cannot cook it right now.",
        "delivery_failed" => "Nobody could bring it.",
        "not_delivered_in_time" => "It could not be brought in time.",
        "cancelled_by_customer" => "As you asked.",
        "cancelled_by_restaurant" => "The restaurant called it off.",
        "cancelled_by_support" => "Our support called it off.",
        _ => "We are sorry.",
    };
    sentence.to_owned()
}

/// What to tell of a payment that failed, for now or for good.
pub(crate) fn of_failed_payment(payment: &PaymentState) -> Told {
    let mut values = payment_values(payment);
    match payment.retry_until {
        Some(until) => {
            values.push(("until", minutes(until)));
            Told { template: templates::PAYMENT_RETRY, values }
        }
        None => Told { template: templates::PAYMENT_FAILED, values },
    }
}

/// What to tell of money that was given back.
pub(crate) fn of_refund(payment: &PaymentState) -> Told {
    Told { template: templates::PAYMENT_REFUNDED, values: payment_values(payment) }
}

fn payment_values(payment: &PaymentState) -> Values {
    let money = |minor| Money::new(minor, payment.currency).to_string();
    vec![
        ("card", payment.masked_card.clone()),
        ("amount", money(payment.amount_minor)),
        ("refunded", money(payment.refunded_minor)),
    ]
}

/// Hours and minutes, rounded down so that nobody comes too late.
fn minutes(at: Timestamp) -> String {
    at.to_chrono().format("%H:%M").to_string()
}

/// What to tell of a courier who was found.
pub(crate) fn of_courier(courier: &str, code: &str, restaurant: &str) -> Told {
    let values = [("courier", courier), ("code", code), ("restaurant", restaurant)];
    let values = values.map(|(name, value)| (name, value.to_owned())).to_vec();
    Told { template: templates::COURIER_FOUND, values }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenes::city::{order, payment};
    use crate::templates::fill;
    use std::collections::BTreeSet;

    fn texts(told: &Told) -> String {
        format!("{} / {}", fill(told.template.title, &told.values), fill(told.template.body, &told.values))
    }

    #[test]
    fn every_status_and_event_is_told_with_a_text_of_its_own_and_no_value_is_missing() {
        let retry = PaymentState { retry_until: Some("2026-11-21T12:34:56Z".parse().unwrap()), ..payment() };
        let mut told: Vec<Told> = OrderStatus::ALL.iter().map(|status| of_order(&order(*status))).collect();
        told.extend([of_failed_payment(&payment()), of_failed_payment(&retry), of_refund(&payment())]);
        told.push(of_courier("Mara", "ORD-TEST1", "Lanterna"));
        let names: BTreeSet<_> = told.iter().map(|told| told.template.name).collect();
        assert_eq!(names.len(), templates::ALL.len(), "each template is used once");
        for told in &told {
            let texts = texts(told);
            assert!(!texts.contains(['{', '}']), "{texts}");
        }
    }

    #[test]
    fn figures_and_reasons_read_as_people_say_them() {
        let confirmed = texts(&of_order(&order(OrderStatus::Confirmed)));
        assert!(
            confirmed.ends_with("Lanterna has accepted it and 12.50 EUR was paid with visa ****4242."),
            "{confirmed}"
        );
        let failed = OrderState { reason: Some("out_of_stock".into()), ..order(OrderStatus::Failed) };
        assert!(texts(&of_order(&failed)).contains("/ Something that you ordered is sold out. No money"));
        let retry = PaymentState { retry_until: Some("2026-11-21T12:34:56Z".parse().unwrap()), ..payment() };
        assert!(texts(&of_failed_payment(&retry)).ends_with("until 12:34 UTC."));
    }
}
