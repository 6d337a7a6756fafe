//! What a discount code takes off, and when it may be used.

use kernel::clock::Timestamp;
use kernel::money::{self, Currency};
use uuid::Uuid;

use crate::order::OrderRefusal;

/// The organisation of discounts that the platform itself pays for.
pub(crate) const PLATFORM: Uuid = Uuid::nil();

kernel::words! {
    /// How a discount is counted.
    pub(crate) enum DiscountKind {
        /// A share of the subtotal; the value is in basis points.
        Percent = "percent",
        /// An amount; the value is in minor units.
        Fixed = "fixed",
    }
}

kernel::row! {
    /// A discount code of one organisation, or of the platform.
    pub(crate) struct Discount in "discounts" {
        pub(crate) org_id: Uuid,
        pub(crate) code: String,
        pub(crate) kind: DiscountKind,
        pub(crate) value: i64,
        pub(crate) currency: Option<Currency>,
        pub(crate) minimum_minor: i64,
        pub(crate) starts_at: Option<Timestamp>,
        pub(crate) ends_at: Option<Timestamp>,
        pub(crate) per_customer_limit: i64,
        pub(crate) updated_at: Timestamp,
    }
}

impl Discount {
    /// What it takes off this subtotal; never more than all of it.
    pub(crate) fn amount(&self, subtotal: i64, currency: Currency, now: Timestamp) -> Result<i64, OrderRefusal> {
        if self.starts_at.is_some_and(|start| now < start) || self.ends_at.is_some_and(|end| end <= now) {
            return Err(OrderRefusal::DiscountNotValidNow);
        }
        if subtotal < self.minimum_minor || self.currency.is_some_and(|own| own != currency) {
            return Err(OrderRefusal::DiscountNotEarned);
        }
        let amount = match self.kind {
            DiscountKind::Percent => money::share(subtotal, self.value).map_err(|_| OrderRefusal::AmountTooLarge)?,
            DiscountKind::Fixed => self.value,
        };
        Ok(amount.clamp(0, subtotal))
    }
}

/// The code as it is stored, whatever case people type it in.
pub(crate) fn canonical(code: &str) -> String {
    code.trim().to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn discount(kind: DiscountKind, value: i64) -> Discount {
        Discount {
            org_id: PLATFORM,
            code: "WELCOME".into(),
            kind,
            value,
            currency: Some(Currency::EUR),
            minimum_minor: 1_000,
            starts_at: Some(Timestamp::from_micros(100)),
            ends_at: Some(Timestamp::from_micros(200)),
            per_customer_limit: 1,
            updated_at: Timestamp::from_micros(0),
        }
    }

    #[test]
    fn a_discount_counts_inside_its_time_its_currency_and_above_its_minimum() {
        let usd: Currency = "USD".parse().unwrap();
        for (kind, value, subtotal, currency, at, taken) in [
            (DiscountKind::Percent, 1_000, 2_505, Currency::EUR, 100, Ok(251)),
            (DiscountKind::Percent, 10_000, 2_505, Currency::EUR, 199, Ok(2_505)),
            (DiscountKind::Fixed, 300, 1_000, Currency::EUR, 150, Ok(300)),
            (DiscountKind::Fixed, 9_999, 1_000, Currency::EUR, 150, Ok(1_000)),
            (DiscountKind::Fixed, 300, 999, Currency::EUR, 150, Err(OrderRefusal::DiscountNotEarned)),
            (DiscountKind::Fixed, 300, 1_000, usd, 150, Err(OrderRefusal::DiscountNotEarned)),
            (DiscountKind::Fixed, 300, 1_000, Currency::EUR, 99, Err(OrderRefusal::DiscountNotValidNow)),
            (DiscountKind::Fixed, 300, 1_000, Currency::EUR, 200, Err(OrderRefusal::DiscountNotValidNow)),
        ] {
            let got = discount(kind, value).amount(subtotal, currency, Timestamp::from_micros(at));
            assert_eq!(got, taken, "{kind} {value} of {subtotal} {currency} at {at}");
        }
    }
}
