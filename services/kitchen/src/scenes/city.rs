//! A kitchen on a database of its own, and orders to send it.

use std::sync::Arc;
use std::time::Duration;

use contracts::Place;
use contracts::orders::{Card, DeliverTo, OrderLine, OrderState, OrderStatus};
use contracts::restaurants::{MenuItem, MenuState};
use kernel::clock::{Clock, Timestamp};
use kernel::config::Live;
use kernel::events::{Event, Fault, Received};
use kernel::http::{Caller, Fail, Identity};
use kernel::money::Currency;
use kernel::store::{Options, Store, Tx, WriteError};
use kernel::testing::hearing::{hear, received};
use kernel::testing::scratch;
use kernel::{params, row, sql};
use uuid::Uuid;

use crate::{Kitchen, Settings, service, store};

row! {
    /// An event that the kitchen has published.
    pub(super) struct Said {
        pub(super) aggregate_id: Uuid,
        pub(super) event_type: String,
        pub(super) aggregate_version: i64,
    }
}

pub(super) struct City {
    pub(super) kitchen: Arc<Kitchen>,
    _folder: tempfile::TempDir,
}

impl City {
    pub(super) async fn new(settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual("2026-11-21T12:00:00Z".parse().unwrap());
        let claims = service().manifest().publishes.iter().map(|event| event.name).collect();
        let engine = scratch::chosen(folder.path().join("kitchen.db"));
        let store = Store::open(Options { claims, ..Options::new(engine, clock.clone()) }, store::STEPS).await.unwrap();
        Self { kitchen: Arc::new(Kitchen { store, clock, settings: Live::fixed(settings) }), _folder: folder }
    }

    pub(super) fn pass(&self, time: Duration) {
        self.kitchen.clock.advance(time);
    }

    /// Lets the kitchen hear an event.
    pub(super) async fn hear<E, F, Fut>(&self, react: F, payload: &E::Payload)
    where
        E: Event + Clone,
        E::Payload: Clone,
        F: Fn(Tx, Arc<Kitchen>, Received<E>) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Fault>> + Send + 'static,
    {
        let event = received(E::from_payload(payload.clone()));
        hear(&self.kitchen.store, &self.kitchen, react, event).await.unwrap();
    }

    /// Runs a handler; a refusal comes back as its code.
    pub(super) async fn ask<T, F, Fut>(&self, handle: F) -> Result<T, String>
    where
        T: Send + 'static,
        F: Fn(Tx, Arc<Kitchen>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, Fail>> + Send + 'static,
    {
        let kitchen = self.kitchen.clone();
        match self.kitchen.store.write(move |tx| handle(tx, kitchen.clone())).await {
            Ok(answer) => Ok(answer),
            Err(WriteError::Unit(Fail::Refused(problem))) => Err(problem.code.into_owned()),
            Err(other) => panic!("{other:?}"),
        }
    }

    /// Names and versions of what was published about an order, in order.
    pub(super) async fn said(&self, order: Uuid) -> Vec<String> {
        let all = sql!(Said, "SELECT aggregate_id, event_type, aggregate_version FROM outbox ORDER BY seq");
        let said = self.kitchen.store.read().all(all, params![]).await.unwrap();
        let about = said.into_iter().filter(|said| said.aggregate_id == order);
        about.map(|said| format!("{} {}", said.event_type, said.aggregate_version)).collect()
    }

    /// On hand and reserved of each counted item.
    pub(super) async fn figures(&self, menu: &MenuState) -> Vec<(i64, i64)> {
        let db = self.kitchen.store.read();
        let rows = store::list_stock(&db, None, menu.restaurant_id, None, 100).await.unwrap();
        rows.into_iter().map(|row| (row.on_hand, row.reserved)).collect()
    }
}

/// A menu whose items have these daily stocks.
pub(super) fn menu(version: i64, stocks: &[Option<i64>]) -> MenuState {
    let item = |(n, daily_stock): (u128, &Option<i64>)| MenuItem {
        item_id: Uuid::from_u128(n),
        name: format!("Dish {n}"),
        description: String::new(),
        category: "Mains".into(),
        price_minor: 900,
        tax_basis_points: 1000,
        sold_out: false,
        daily_stock: *daily_stock,
        options: Vec::new(),
    };
    MenuState {
        org_id: Uuid::from_u128(100),
        restaurant_id: Uuid::from_u128(200),
        version,
        currency: Currency::EUR,
        items: (1..).zip(stocks).map(item).collect(),
    }
}

/// An order over these items and quantities.
pub(super) fn order(menu: &MenuState, lines: &[(u128, i64)]) -> OrderState {
    let place = Place { longitude_e6: 0, latitude_e6: 0 };
    let line = |(item, quantity): &(u128, i64)| OrderLine {
        item_id: Uuid::from_u128(*item),
        name: format!("Dish {item}"),
        quantity: *quantity,
        unit_price_minor: 900,
        line_total_minor: 900 * quantity,
        tax_basis_points: 1000,
        choices: Vec::new(),
    };
    OrderState {
        org_id: menu.org_id,
        order_id: kernel::ids::fresh(),
        version: 1,
        code: "ORD-TEST1".into(),
        status: OrderStatus::Pending,
        reason: None,
        customer_id: Uuid::from_u128(300),
        customer_email: "a@demo.example".into(),
        channel: "customer_app".into(),
        restaurant_id: menu.restaurant_id,
        restaurant_name: "Lanterna".into(),
        pick_up: place,
        auto_accept: false,
        prep_minutes: 20,
        lines: lines.iter().map(line).collect(),
        currency: Currency::EUR,
        subtotal_minor: 900,
        discount_minor: 0,
        delivery_fee_minor: 0,
        tax_minor: 0,
        total_minor: 900,
        card: Card { token: "tok".into(), brand: "visa".into(), last4: "4242".into() },
        deliver_to: DeliverTo { name: "A".into(), street: "S 1".into(), city: "M".into(), place, note: String::new() },
        placed_at: Timestamp::default(),
        changed_at: Timestamp::default(),
    }
}

/// Somebody with one role in one organisation.
pub(super) fn caller(role: &str, org: Uuid) -> Caller {
    Caller(Identity {
        user_id: Uuid::from_u128(400),
        email: "owner@demo.example".into(),
        roles: vec![role.to_owned()],
        orgs: vec![org],
        auth_time: 0,
        session: None,
    })
}
