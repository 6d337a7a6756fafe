//! An account: who can sign in, with what, and as what.

use garde::Validate;
use kernel::clock::Timestamp;
use kernel::http::Fail;
use kernel::store::Json;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::store::{AccountRow, PLATFORM};

kernel::refusals! {
    /// Why there is no new account.
    pub(crate) enum AccountRefusal {
        /// There is an account with this e-mail address; sign in with it, or use another address.
        EmailTaken = 409 "email_taken",
    }
}

/// What a new account is made from. Everybody begins as a customer; other roles are given by people who run the city.
#[derive(Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewAccount {
    /// The address to sign in with.
    #[garde(length(min = 3, max = 254))]
    pub(crate) email: String,
    /// At least 8 characters; longer is better than stranger.
    #[garde(length(min = 8, max = 128))]
    pub(crate) password: String,
    /// What to call the person.
    #[garde(length(min = 1, max = 80))]
    pub(crate) name: String,
}

/// What people may change about their account.
#[derive(Clone, Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccountChange {
    /// What to call the person.
    #[garde(length(min = 1, max = 80))]
    pub(crate) name: String,
}

/// An account as its owner sees it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct AccountView {
    /// The person.
    pub(crate) id: Uuid,
    /// The address to sign in with.
    pub(crate) email: String,
    /// What to call the person.
    pub(crate) name: String,
    /// What the person may be.
    pub(crate) roles: Vec<String>,
    /// The organisations the person belongs to.
    pub(crate) orgs: Vec<Uuid>,
    /// Since when.
    pub(crate) created_at: Timestamp,
}

impl From<AccountRow> for AccountView {
    fn from(row: AccountRow) -> Self {
        let AccountRow { id, email, name, roles, orgs, created_at, .. } = row;
        Self { id, email, name, roles: roles.0, orgs: orgs.0, created_at }
    }
}

/// An address as it is compared: nobody can tell apart two that differ in case only.
pub(crate) fn fold(email: &str) -> String {
    email.trim().to_lowercase()
}

/// A customer's account; the row to store.
pub(crate) fn customer(new: &NewAccount, password_hash: String, now: Timestamp) -> AccountRow {
    AccountRow {
        org_id: PLATFORM,
        id: kernel::ids::fresh(),
        email: new.email.trim().to_owned(),
        email_folded: fold(&new.email),
        name: new.name.trim().to_owned(),
        password_hash,
        roles: Json(vec![contracts::permissions::CUSTOMER.to_owned()]),
        orgs: Json(Vec::new()),
        created_at: now,
    }
}

/// Refuses an address that cannot be one, and a name that is none.
pub(crate) fn check(new: &NewAccount) -> Result<(), Fail> {
    if !could_be_an_address(new.email.trim()) {
        return Err(Fail::invalid("/email", "is not an e-mail address"));
    }
    if fold(&new.password) == fold(&new.email) {
        return Err(Fail::invalid("/password", "must not be the e-mail address"));
    }
    check_name(&new.name)
}

/// Refuses a blank name, and one with a card number in it, which must not be stored anywhere.
pub(crate) fn check_name(name: &str) -> Result<(), Fail> {
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        return Err(Fail::invalid("/name", "must have visible characters and no control characters"));
    }
    if kernel::cards::looks_like_a_card(name) {
        return Err(Fail::invalid("/name", "must not contain a card number"));
    }
    Ok(())
}

/// Only a message that arrives proves an address; this keeps out what cannot be one or would not fit in a header.
fn could_be_an_address(text: &str) -> bool {
    let plain = !text.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, ',' | ';' | '<' | '>' | '"'));
    let parts: Vec<&str> = text.split('@').collect();
    plain && matches!(parts[..], [local, domain] if !local.is_empty() && is_domain(domain))
}

fn is_domain(text: &str) -> bool {
    text.contains('.')
        && text.split('.').all(|label| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(email: &str, password: &str, name: &str) -> NewAccount {
        NewAccount { email: email.to_owned(), password: password.to_owned(), name: name.to_owned() }
    }

    #[test]
    fn what_cannot_be_an_account_is_refused() {
        let cases = [
            ("ann@food.example", "correct horse", "Ann", true),
            (" Jürgen@Straße.example ", "correct horse", "Jürgen", true),
            ("ann", "correct horse", "Ann", false),
            ("ann@food", "correct horse", "Ann", false),
            ("ann@@food.example", "correct horse", "Ann", false),
            ("ann@food..example", "correct horse", "Ann", false),
            ("ann b@food.example", "correct horse", "Ann", false),
            ("ann,bob@food.example", "correct horse", "Ann", false),
            ("ann@food.example", "ANN@food.example", "Ann", false),
            ("ann@food.example", "correct horse", "  ", false),
            ("ann@food.example", "correct horse", "Ann 4111 1111 1111 1111", false),
        ];
        for (email, password, name, fine) in cases {
            assert_eq!(check(&new(email, password, name)).is_ok(), fine, "{email} {password} {name}");
        }
    }

    #[test]
    fn everybody_begins_as_a_customer_and_addresses_compare_without_case() {
        let row =
            customer(&new(" Ann@Food.Example ", "correct horse", " Ann "), "hash".to_owned(), Timestamp::default());
        assert_eq!((row.email.as_str(), row.email_folded.as_str()), ("Ann@Food.Example", "ann@food.example"));
        assert_eq!((row.name.as_str(), row.roles.0, row.orgs.0), ("Ann", vec!["CUSTOMER".to_owned()], vec![]));
    }
}
