//! The texts that people get, and filling them in.

use crate::preferences::Kind;

/// A text with `{names}` in braces that stand for values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) title: &'static str,
    pub(crate) body: &'static str,
}

macro_rules! templates {
    ($($kind:ident { $($constant:ident = $name:literal: $title:literal, $body:literal;)+ })+) => {
        $($(pub(crate) const $constant: Template =
            Template { name: $name, kind: Kind::$kind, title: $title, body: $body };)+)+
        /// Every template.
        #[cfg(test)]
        pub(crate) const ALL: &[Template] = &[$($($constant),+),+];
    };
}

templates! {
    Order {
        ORDER_PENDING = "order_pending": "We have your order {code}",
            "{restaurant}: {total}. We are checking payment and stock.";
        ORDER_AWAITING = "order_awaiting_acceptance": "{restaurant} has your order {code}",
            "The payment is prepared. {restaurant} has to accept the order; you pay only then.";
        ORDER_CONFIRMED = "order_confirmed": "Your order {code} is confirmed",
            "{restaurant} has accepted it and {total} was paid with {card}.";
        ORDER_PREPARING = "order_preparing": "Your order {code} is being cooked",
            "{restaurant} has started.";
        ORDER_READY = "order_ready": "Your order {code} is ready",
            "It waits at {restaurant} to be picked up.";
        ORDER_ON_ITS_WAY = "order_out_for_delivery": "Your order {code} is on its way",
            "It has left {restaurant} for {street}.";
        ORDER_DELIVERED = "order_delivered": "Your order {code} has arrived",
            "Enjoy your meal from {restaurant}.";
        ORDER_FAILED = "order_failed": "Your order {code} could not be taken",
            "{reason} No money was taken, or it comes back by itself.";
        ORDER_REJECTED = "order_rejected": "{restaurant} could not take your order {code}",
            "{reason} No money was taken.";
        ORDER_EXPIRED = "order_expired": "Your order {code} has expired",
            "{reason} No money was taken, or it comes back by itself.";
        ORDER_CANCELLED = "order_cancelled": "Your order {code} is cancelled",
            "{reason} Anything that you have paid comes back by itself.";
    }
    Payment {
        PAYMENT_RETRY = "payment_retry": "Your payment did not go through",
            "{card} was declined for {amount}. You can try another card until {until} UTC.";
        PAYMENT_FAILED = "payment_failed": "Your payment has failed",
            "{card} was declined for {amount}. No money was taken.";
        PAYMENT_REFUNDED = "payment_refunded": "Your money is on its way back",
            "{refunded} of {amount} was paid back to {card} so far.";
    }
    Delivery {
        COURIER_FOUND = "courier_assigned": "{courier} brings your order {code}",
            "They pick it up at {restaurant}.";
    }
}

/// What stands for what in a text.
pub(crate) type Values = Vec<(&'static str, String)>;

/// The text with its values; braces inside a value stay as they are, and a name without a value stays visible.
pub(crate) fn fill(text: &str, values: &Values) -> String {
    let mut filled = String::with_capacity(text.len() + 40);
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let Some((name, tail)) = after.split_once('}') else {
            filled.push('{');
            rest = after;
            continue;
        };
        match values.iter().find(|(known, _)| *known == name) {
            Some((_, value)) => filled.push_str(value),
            None => filled.extend(["{", name, "}"]),
        }
        rest = tail;
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_template_has_a_name_of_its_own_and_closes_its_braces() {
        let names: BTreeSet<_> = ALL.iter().map(|template| template.name).collect();
        assert_eq!(names.len(), ALL.len());
        for template in ALL {
            for text in [template.title, template.body] {
                assert_eq!(text.matches('{').count(), text.matches('}').count(), "{}", template.name);
                assert!(!text.trim().is_empty(), "{}", template.name);
            }
        }
    }

    #[test]
    fn values_are_put_in_once_and_not_read_again() {
        let values = vec![("a", "{b}".to_owned()), ("b", "B".to_owned())];
        let table = [
            ("", ""),
            ("plain", "plain"),
            ("{a} and {b}{b}", "{b} and BB"),
            ("{unknown} {b}", "{unknown} B"),
            ("open { and {b}", "open { and {b}"),
            ("end {", "end {"),
        ];
        for (text, wanted) in table {
            assert_eq!(fill(text, &values), wanted, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_value_arrives_as_it_was(value in ".{0,40}") {
            prop_assert_eq!(fill("<{x}>", &vec![("x", value.clone())]), format!("<{value}>"));
        }
    }
}
