//! The card form: test cards, what each one does, and the check of typed card details.
use chrono::{DateTime, Datelike};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::problem::{Code, Problem};

/// What the network does with a card; stored with the token in place of the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Succeed,
    Decline,
    InsufficientFunds,
    Challenge,
    ExpireAtOnce,
    RefundFails,
    TimeoutAfter,
    ErrorAfter,
    Slow,
    WebhookDuplicate,
    WebhookReorder,
}

impl Behaviour {
    pub(crate) fn name(self) -> &'static str {
        TEST_CARDS.iter().find(|card| card.behaviour == self).map_or("succeed", |card| card.name)
    }

    pub(crate) fn parse(name: &str) -> Self {
        TEST_CARDS.iter().find(|card| card.name == name).map_or(Self::Succeed, |card| card.behaviour)
    }
}

/// One published test card.
#[derive(Serialize)]
pub(crate) struct TestCard {
    number: &'static str,
    brand: &'static str,
    #[serde(rename = "behaviour")]
    name: &'static str,
    about: &'static str,
    #[serde(skip)]
    behaviour: Behaviour,
}

const fn card(number: &'static str, behaviour: Behaviour, name: &'static str, about: &'static str) -> TestCard {
    let brand = if number.as_bytes()[0] == b'5' { "mastercard" } else { "visa" };
    TestCard { number, brand, name, about, behaviour }
}

pub(crate) const TEST_CARDS: &[TestCard] = &[
    card("4242424242424242", Behaviour::Succeed, "succeed", "every operation succeeds"),
    card("5555555555554444", Behaviour::Succeed, "succeed", "every operation succeeds"),
    card("4000000000000002", Behaviour::Decline, "decline", "declined: card_declined"),
    card("4000000000009995", Behaviour::InsufficientFunds, "insufficient_funds", "declined: insufficient_funds"),
    card("4000000000003220", Behaviour::Challenge, "challenge", "requires_action until the challenge is answered"),
    card("4000000000007015", Behaviour::ExpireAtOnce, "expire_at_once", "authorised, but expired when captured"),
    card("4000000000005126", Behaviour::RefundFails, "refund_fails", "captures succeed, refunds fail"),
    card("4000000000007023", Behaviour::TimeoutAfter, "timeout_after", "authorise and capture happen, then hang"),
    card("4000000000007031", Behaviour::ErrorAfter, "error_after", "authorise and capture happen, then answer 500"),
    card("4000000000007049", Behaviour::Slow, "slow", "every answer comes after the slow delay"),
    card("4000000000007056", Behaviour::WebhookDuplicate, "webhook_duplicate", "every event is sent twice"),
    card("4000000000007064", Behaviour::WebhookReorder, "webhook_reorder", "the first event is sent after the second"),
];

/// What the cardholder types into the provider's card form.
///
/// It has no `Debug`, so that no log line can show a number.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CardDetails {
    number: String,
    exp_month: u32,
    exp_year: i32,
    cvc: String,
}

/// The part of a card that may be kept.
pub(crate) struct KnownCard {
    pub(crate) brand: &'static str,
    pub(crate) last4: String,
    pub(crate) exp_month: u32,
    pub(crate) exp_year: i32,
    pub(crate) behaviour: Behaviour,
}

impl CardDetails {
    pub(crate) fn recognise(self, now_ms: i64) -> Result<KnownCard, Problem> {
        let number: String = self.number.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
        let digits = |text: &str, lengths: std::ops::RangeInclusive<usize>| {
            lengths.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
        };
        if !digits(&number, 12..=19) || !passes_luhn(&number) {
            return Err(Problem::with_detail(Code::InvalidCard, "the number is not a card number"));
        }
        if !digits(&self.cvc, 3..=4) || !(1..=12).contains(&self.exp_month) || !(2000..=2099).contains(&self.exp_year) {
            return Err(Problem::with_detail(Code::InvalidCard, "the expiry date or the security code is malformed"));
        }
        let now = DateTime::from_timestamp_millis(now_ms).unwrap_or_default();
        if (self.exp_year, self.exp_month) < (now.year(), now.month()) {
            return Err(Code::CardExpired.into());
        }
        let card = TEST_CARDS.iter().find(|card| card.number == number).ok_or(Code::CardNotSupported)?;
        let last4 = number[number.len() - 4..].to_owned();
        let (exp_month, exp_year) = (self.exp_month, self.exp_year);
        Ok(KnownCard { brand: card.brand, last4, exp_month, exp_year, behaviour: card.behaviour })
    }
}

impl KnownCard {
    pub(crate) fn snapshot(&self, token: &str) -> Value {
        json!({
            "token": token,
            "brand": self.brand,
            "last4": self.last4,
            "exp_month": self.exp_month,
            "exp_year": self.exp_year,
        })
    }
}

fn passes_luhn(number: &str) -> bool {
    let sum: u32 = number
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, byte)| {
            let digit = u32::from(byte - b'0');
            let weighed = if place % 2 == 1 { digit * 2 } else { digit };
            if weighed > 9 { weighed - 9 } else { weighed }
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_test_card_passes_the_luhn_check_and_its_behaviour_survives_storage() {
        for card in TEST_CARDS {
            assert!(passes_luhn(card.number), "{}", card.number);
            assert_eq!(Behaviour::parse(card.behaviour.name()), card.behaviour);
        }
        assert!(!passes_luhn("4242424242424241"));
    }
}
