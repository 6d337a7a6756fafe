//! The body with which an order is placed, and what it may say.

use contracts::Place;
use garde::Validate;
use kernel::http::Fail;
use kernel::money::LIMIT_MINOR;
use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

use super::check_text;
use crate::cart::{MAX_LINES, WantedLine};

kernel::words! {
    /// Through which channel an order comes.
    pub(super) enum Channel {
        CustomerApp = "customer_app",
        CustomerWeb = "customer_web",
        RestaurantWeb = "restaurant_web",
        Pos = "pos",
        Kiosk = "kiosk",
        Kds = "kds",
        CourierApp = "courier_app",
        PartnerApi = "partner_api",
        Admin = "admin",
        Support = "support",
    }
}

const fn customer_web() -> Channel {
    Channel::CustomerWeb
}

/// A card, as the payment provider's own form gave it.
#[derive(Clone, Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(super) struct GivenCard {
    /// The provider's token; never a card number.
    #[garde(length(chars, min = 1, max = 120))]
    pub(super) token: String,
    /// Such as `visa`.
    #[garde(length(chars, min = 1, max = 20))]
    pub(super) brand: String,
    /// The last four digits.
    #[garde(length(equal = 4), custom(digits))]
    pub(super) last4: String,
}

fn digits(text: &str, (): &()) -> garde::Result {
    if text.bytes().all(|b| b.is_ascii_digit()) { Ok(()) } else { Err(garde::Error::new("must be digits")) }
}

/// Where to bring an order.
#[derive(Clone, Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(super) struct Address {
    /// Who takes it.
    #[garde(length(chars, min = 1, max = 80))]
    pub(super) name: String,
    /// Street and number.
    #[garde(length(chars, min = 1, max = 120))]
    pub(super) street: String,
    /// City.
    #[garde(length(chars, min = 1, max = 80))]
    pub(super) city: String,
    /// Where that is.
    #[garde(custom(on_earth))]
    pub(super) place: Place,
    /// Such as `second floor`.
    #[serde(default)]
    #[garde(length(chars, max = 300))]
    pub(super) note: String,
}

fn on_earth(place: &Place, (): &()) -> garde::Result {
    if place.exists() { Ok(()) } else { Err(garde::Error::new("is not a point on Earth")) }
}

/// An order to place: from the cart, or with its restaurant and lines.
#[derive(Clone, Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(super) struct NewOrder {
    /// Order what is in the cart, and empty it; then restaurant, lines and discount stay away.
    #[serde(default)]
    #[garde(skip)]
    pub(super) from_cart: bool,
    /// From which restaurant.
    #[garde(skip)]
    pub(super) restaurant_id: Option<Uuid>,
    /// What and how many.
    #[serde(default)]
    #[garde(length(max = MAX_LINES), dive)]
    pub(super) lines: Vec<WantedLine>,
    /// Where to bring it.
    #[garde(dive)]
    pub(super) deliver_to: Address,
    /// How to pay.
    #[garde(dive)]
    pub(super) card: GivenCard,
    /// A discount to use.
    #[garde(length(chars, min = 1, max = 30))]
    pub(super) discount_code: Option<String>,
    /// Through which channel it comes.
    #[serde(default = "customer_web")]
    #[garde(skip)]
    pub(super) channel: Channel,
    /// The total that the customer was shown; another one is refused.
    #[garde(range(min = 0, max = LIMIT_MINOR))]
    pub(super) quoted_total_minor: Option<i64>,
}

/// Refuses texts that have no place in an order.
pub(super) fn check_texts(new: &NewOrder) -> Result<(), Fail> {
    let (to, card) = (&new.deliver_to, &new.card);
    for (pointer, text) in [
        ("/deliver_to/name", &to.name),
        ("/deliver_to/street", &to.street),
        ("/deliver_to/city", &to.city),
        ("/deliver_to/note", &to.note),
        ("/card/token", &card.token),
        ("/card/brand", &card.brand),
    ] {
        check_text(pointer, text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_order_reads_with_its_defaults_and_refuses_what_it_does_not_know() {
        let body = |extra: &str| {
            format!(
                r#"{{"deliver_to": {{"name": "Ann", "street": "Main Street 1", "city": "Springfield", "place": {{"longitude_e6": 1, "latitude_e6": 2}}}},
                "card": {{"token": "tok_1", "brand": "visa", "last4": "4242"}}{extra}}}"#
            )
        };
        let read = |extra: &str| serde_json::from_str::<NewOrder>(&body(extra));
        let order = read("").unwrap();
        assert_eq!((order.channel, order.from_cart), (Channel::CustomerWeb, false));
        assert!(order.validate().is_ok());
        assert!(read(r#", "total_minor": 1"#).is_err());
        assert!(read(r#", "channel": "fax""#).is_err());
        let line =
            |quantity: i64| format!(r#"{{"item_id": "00000000-0000-0000-0000-000000000001", "quantity": {quantity}}}"#);
        assert!(read(&format!(r#", "lines": [{}]"#, line(1))).unwrap().validate().is_ok());
        assert!(read(&format!(r#", "lines": [{}]"#, line(0))).unwrap().validate().is_err());
        assert!(read(&format!(r#", "lines": [{}]"#, vec![line(1); 101].join(","))).unwrap().validate().is_err());
    }
}
