//! The demo city's people and organisations: `auth` makes the accounts, `restaurants` the places, and both must agree.

use uuid::Uuid;

use crate::permissions::{ADMIN, CUSTOMER, DELIVERY_PARTNER, RESTAURANT_OWNER, SUPPORT};

/// Password of every demo account; demo accounts exist only where the demo city was asked for.
pub const PASSWORD: &str = "demo-city-2026";

/// How many customers, couriers and organisations the demo city has.
pub const CUSTOMERS: u128 = 20;
/// Couriers, enough that none is the bottleneck of a load run.
pub const COURIERS: u128 = 40;
/// Organisations, each with two restaurants.
pub const ORGANISATIONS: u128 = 6;

/// An account of the demo city.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The person.
    pub user_id: Uuid,
    /// Their name for signing in.
    pub email: String,
    /// What to call them.
    pub name: String,
    /// Their one role.
    pub role: &'static str,
    /// The organisations they belong to.
    pub orgs: Vec<Uuid>,
}

/// The same identity in every demo city: a kind and a number.
const fn fixed(kind: u128, number: u128) -> Uuid {
    Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + (kind << 32) + number)
}

/// The `number`th organisation, from 0.
pub const fn organisation(number: u128) -> Uuid {
    fixed(1, number)
}

/// The `number`th restaurant, from 0; two to an organisation.
pub const fn restaurant(number: u128) -> Uuid {
    fixed(2, number)
}

/// The `number`th customer, from 0.
pub const fn customer(number: u128) -> Uuid {
    fixed(3, number)
}

/// The `number`th courier, from 0.
pub const fn courier(number: u128) -> Uuid {
    fixed(4, number)
}

fn account(user_id: Uuid, email: String, name: String, role: &'static str, orgs: Vec<Uuid>) -> Account {
    Account { user_id, email, name, role, orgs }
}

/// Every account of the demo city.
pub fn accounts() -> Vec<Account> {
    let customers = (0..CUSTOMERS).map(|n| {
        account(customer(n), format!("customer{n}@demo.example"), format!("Customer {n}"), CUSTOMER, Vec::new())
    });
    let couriers = (0..COURIERS).map(|n| {
        account(courier(n), format!("courier{n}@demo.example"), format!("Courier {n}"), DELIVERY_PARTNER, Vec::new())
    });
    let owners = (0..ORGANISATIONS).map(|n| {
        account(
            fixed(5, n),
            format!("owner{n}@demo.example"),
            format!("Owner {n}"),
            RESTAURANT_OWNER,
            vec![organisation(n)],
        )
    });
    let staff = [
        account(fixed(6, 0), "admin@demo.example".into(), "Admin".into(), ADMIN, Vec::new()),
        account(fixed(6, 1), "support@demo.example".into(), "Support".into(), SUPPORT, Vec::new()),
    ];
    customers.chain(couriers).chain(owners).chain(staff).collect()
}
