//! What a person wants to be told, and how.

use kernel::store::Json;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

kernel::words! {
    /// How a message reaches somebody.
    pub(crate) enum Via {
        /// To an address.
        Email = "email",
        /// As a short text to a phone.
        Sms = "sms",
        /// As a note on a device.
        Push = "push",
    }
}

kernel::words! {
    /// What a message is about.
    pub(crate) enum Kind {
        /// How far an order has come.
        Order = "ORDER",
        /// Payments that failed, money that comes back.
        Payment = "PAYMENT",
        /// Who brings an order.
        Delivery = "DELIVERY",
    }
}

/// What a person wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct Preferences {
    /// Whether to write e-mails.
    #[garde(skip)]
    pub(crate) email: bool,
    /// Whether to send short texts.
    #[garde(skip)]
    pub(crate) sms: bool,
    /// Whether to send notes to devices.
    #[garde(skip)]
    pub(crate) push: bool,
    /// What to tell of.
    #[garde(length(max = 3))]
    pub(crate) kinds: Vec<Kind>,
}

impl Default for Preferences {
    fn default() -> Self {
        Self { email: true, sms: false, push: false, kinds: Kind::ALL.to_vec() }
    }
}

impl Preferences {
    /// The channels over which to tell of something of this kind.
    pub(crate) fn channels(&self, kind: Kind) -> Vec<Via> {
        if !self.kinds.contains(&kind) {
            return Vec::new();
        }
        let wanted = [(Via::Email, self.email), (Via::Sms, self.sms), (Via::Push, self.push)];
        wanted.into_iter().filter_map(|(via, on)| on.then_some(via)).collect()
    }
}

kernel::row! {
    /// Preferences as they are kept.
    pub(crate) struct PreferencesRow {
        pub(crate) email: bool,
        pub(crate) sms: bool,
        pub(crate) push: bool,
        pub(crate) kinds: Json<Vec<Kind>>,
    }
}

impl From<PreferencesRow> for Preferences {
    fn from(row: PreferencesRow) -> Self {
        Self { email: row.email, sms: row.sms, push: row.push, kinds: row.kinds.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_never_said_gets_everything_by_email() {
        for kind in Kind::ALL {
            assert_eq!(Preferences::default().channels(*kind), [Via::Email], "{kind}");
        }
    }

    #[test]
    fn channels_and_kinds_that_are_off_stay_silent() {
        let some = Preferences { email: false, sms: true, push: true, kinds: vec![Kind::Payment] };
        assert_eq!(some.channels(Kind::Payment), [Via::Sms, Via::Push]);
        assert_eq!(some.channels(Kind::Order), []);
        let none = Preferences { email: false, ..Preferences::default() };
        assert_eq!(none.channels(Kind::Order), []);
    }
}
