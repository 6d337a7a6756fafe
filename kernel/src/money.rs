//! Money: whole minor units and a currency, arithmetic that refuses to overflow, splits that lose nothing.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// No amount may be larger, in either direction: 10 billion euros is a mistake, and doubles are exact far beyond it.
pub const LIMIT_MINOR: i64 = 1_000_000_000_000;

/// An ISO 4217 code that we know the exponent of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

/// Codes and the number of digits after the point; source: ISO 4217.
const KNOWN: &[(&str, u32)] = &[
    ("AED", 2),
    ("AUD", 2),
    ("BHD", 3),
    ("BRL", 2),
    ("CAD", 2),
    ("CHF", 2),
    ("CNY", 2),
    ("CZK", 2),
    ("DKK", 2),
    ("EGP", 2),
    ("EUR", 2),
    ("GBP", 2),
    ("HUF", 2),
    ("IDR", 2),
    ("INR", 2),
    ("JOD", 3),
    ("JPY", 0),
    ("KRW", 0),
    ("KWD", 3),
    ("MXN", 2),
    ("NOK", 2),
    ("NZD", 2),
    ("OMR", 3),
    ("PLN", 2),
    ("QAR", 2),
    ("RON", 2),
    ("SAR", 2),
    ("SEK", 2),
    ("SGD", 2),
    ("TRY", 2),
    ("USD", 2),
    ("ZAR", 2),
];

impl Currency {
    /// The euro.
    pub const EUR: Self = Self(*b"EUR");

    /// Its three letters.
    pub fn code(&self) -> &str {
        std::str::from_utf8(&self.0).expect("made from ASCII letters")
    }

    /// Digits after the point.
    pub fn exponent(self) -> u32 {
        KNOWN.iter().find(|(code, _)| *code == self.code()).map_or(2, |(_, exponent)| *exponent)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl FromStr for Currency {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let known = KNOWN.iter().any(|(code, _)| *code == text);
        let letters = <[u8; 3]>::try_from(text.as_bytes()).ok().filter(|_| known);
        letters.map(Self).ok_or_else(|| format!("{text} is not a currency code that is known here"))
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Currency {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Currency".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "enum": KNOWN.iter().map(|(code, _)| *code).collect::<Vec<_>>()})
    }
}

impl crate::store::Column for Currency {
    const KIND: crate::store::Kind = crate::store::Kind::Text;
    fn to_value(&self) -> crate::store::Value {
        crate::store::Value::Text(self.code().to_owned())
    }
    fn from_value(value: crate::store::Value) -> Result<Self, crate::store::Mismatch> {
        String::from_value(value)?.parse().map_err(crate::store::Mismatch)
    }
}

/// An amount in minor units of one currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Money {
    /// Whole minor units, such as cents.
    pub amount_minor: i64,
    /// ISO 4217 code.
    pub currency: Currency,
}

/// An amount beyond [`LIMIT_MINOR`], or two currencies in one sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Too large to be meant.
    #[error("the amount is beyond what one payment may be")]
    TooLarge,
    /// Amounts of different currencies do not add up.
    #[error("amounts of two currencies cannot be combined")]
    Currencies,
}

impl Money {
    /// `amount_minor` minor units.
    pub const fn new(amount_minor: i64, currency: Currency) -> Self {
        Self { amount_minor, currency }
    }

    /// The sum.
    pub fn plus(self, other: Self) -> Result<Self, MoneyError> {
        self.combine(other, i64::checked_add)
    }

    /// The difference; may be negative.
    pub fn minus(self, other: Self) -> Result<Self, MoneyError> {
        self.combine(other, i64::checked_sub)
    }

    fn combine(self, other: Self, with: impl Fn(i64, i64) -> Option<i64>) -> Result<Self, MoneyError> {
        if self.currency != other.currency {
            return Err(MoneyError::Currencies);
        }
        within(with(self.amount_minor, other.amount_minor)).map(|amount| Self::new(amount, self.currency))
    }

    /// This many times the amount.
    pub fn times(self, count: i64) -> Result<Self, MoneyError> {
        within(self.amount_minor.checked_mul(count)).map(|amount| Self::new(amount, self.currency))
    }
}

impl fmt::Display for Money {
    /// For people: `12.50 EUR`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exponent = self.currency.exponent();
        let unit = 10_i64.pow(exponent);
        let sign = if self.amount_minor < 0 { "-" } else { "" };
        let (whole, rest) = (
            self.amount_minor.unsigned_abs() / unit.unsigned_abs(),
            self.amount_minor.unsigned_abs() % unit.unsigned_abs(),
        );
        if exponent == 0 {
            return write!(f, "{sign}{whole} {}", self.currency);
        }
        write!(f, "{sign}{whole}.{rest:0width$} {}", self.currency, width = exponent as usize)
    }
}

/// An amount that is within [`LIMIT_MINOR`].
pub fn within(amount: Option<i64>) -> Result<i64, MoneyError> {
    amount.filter(|a| a.abs() <= LIMIT_MINOR).ok_or(MoneyError::TooLarge)
}

/// Adds amounts of one currency.
pub fn sum(amounts: impl IntoIterator<Item = i64>) -> Result<i64, MoneyError> {
    amounts.into_iter().try_fold(0_i64, |total, amount| within(total.checked_add(amount)))
}

/// `amount` times `basis_points` / 10,000, rounded half away from zero.
pub fn share(amount: i64, basis_points: i64) -> Result<i64, MoneyError> {
    let product = i128::from(amount) * i128::from(basis_points);
    let half = if product < 0 { -5_000 } else { 5_000 };
    within(i64::try_from((product + half) / 10_000).ok())
}

/// Splits `total` by `weights` with the largest remainder: the parts always add up to the whole.
///
/// Weights that are all zero share alike; a negative weight counts as zero.
pub fn split(total: i64, weights: &[i64]) -> Vec<i64> {
    let weights: Vec<i128> = if weights.iter().all(|w| *w <= 0) {
        vec![1; weights.len()]
    } else {
        weights.iter().map(|w| i128::from((*w).max(0))).collect()
    };
    let whole: i128 = weights.iter().sum();
    if whole == 0 {
        return Vec::new();
    }
    let sign = if total < 0 { -1 } else { 1 };
    let size = i128::from(total).abs();
    let mut parts: Vec<i128> = weights.iter().map(|w| size * w / whole).collect();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(size * weights[i] % whole));
    let missing = usize::try_from(size - parts.iter().sum::<i128>()).expect("fewer than there are parts");
    order.iter().take(missing).for_each(|&i| parts[i] += 1);
    parts.into_iter().map(|p| i64::try_from(p * sign).expect("no part is larger than the total")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_always_add_up_to_the_whole(total in -1_000_000_i64..1_000_000, weights in prop::collection::vec(0_i64..10_000, 1..20)) {
            prop_assert_eq!(split(total, &weights).iter().sum::<i64>(), total);
        }
    }

    #[test]
    fn amounts_beyond_the_limit_and_mixed_currencies_are_refused() {
        let euro = |a| Money::new(a, Currency::EUR);
        assert_eq!(euro(LIMIT_MINOR).plus(euro(1)), Err(MoneyError::TooLarge));
        assert_eq!(euro(i64::MAX).times(2), Err(MoneyError::TooLarge));
        assert_eq!(euro(1).plus(Money::new(1, "USD".parse().unwrap())), Err(MoneyError::Currencies));
        assert_eq!(euro(-1250).to_string(), "-12.50 EUR");
        assert_eq!(share(1250, 1900).unwrap(), 238);
        assert!(serde_json::from_str::<Money>(r#"{"amount_minor": 12.5, "currency": "EUR"}"#).is_err());
        assert!(serde_json::from_str::<Money>(r#"{"amount_minor": 1e3, "currency": "EUR"}"#).is_err());
    }
}
