//! A desk that takes orders for one open restaurant, and the people around it.

use std::sync::Arc;
use std::time::Duration;

use contracts::Place;
use contracts::delivery::DeliveryState;
use contracts::kitchen::{ReservationState, TicketState};
use contracts::payments::{PaymentState, PaymentStatus};
use contracts::permissions;
use contracts::restaurants::{Hours, MenuItem, MenuState, RestaurantState};
use kernel::clock::{Clock, Timestamp};
use kernel::config::Live;
use kernel::events::{Event, Fault, Payload, Received};
use kernel::http::{Body, Caller, Fail, Identity, Path, Problem, Query, Reply};
use kernel::jobs::DueTimer;
use kernel::money::Currency;
use kernel::store::{Engine, Json, Options, Scalar, Store, StoreError, Tx, WriteError};
use kernel::telemetry::{Metrics, Trace};
use kernel::testing::{hearing, scratch};
use kernel::{ids, params, sql};
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::{
    OrderPath, PageQuery, cancel_order, list_customer_orders, place_order, put_cart, put_discount, show_order,
};
use crate::{Orders, Settings, jobs};

/// Somebody with one role.
#[derive(Clone, Copy, Debug)]
pub(super) struct Person {
    pub(super) id: Uuid,
    role: &'static str,
    org: Option<Uuid>,
}

const ORG: Uuid = Uuid::from_u128(1);
const RESTAURANT: Uuid = Uuid::from_u128(2);
const DISH: Uuid = Uuid::from_u128(3);

const fn somebody(number: u128, role: &'static str, org: Option<Uuid>) -> Person {
    Person { id: Uuid::from_u128(number), role, org }
}

pub(super) const CUSTOMER: Person = somebody(10, permissions::CUSTOMER, None);
pub(super) const STRANGER: Person = somebody(11, permissions::CUSTOMER, None);
pub(super) const OWNER: Person = somebody(12, permissions::RESTAURANT_OWNER, Some(ORG));
pub(super) const COURIER: Person = somebody(13, permissions::DELIVERY_PARTNER, None);
pub(super) const SUPPORTER: Person = somebody(14, permissions::SUPPORT, None);

pub(super) fn person(who: Person) -> Caller {
    Caller(Identity {
        user_id: who.id,
        email: "somebody@example.org".into(),
        roles: vec![who.role.into()],
        orgs: who.org.into_iter().collect(),
        auth_time: 0,
        session: None,
    })
}

/// Orders without its port and its bus.
pub(super) struct Desk {
    orders: Arc<Orders>,
    clock: Clock,
    _folder: tempfile::TempDir,
}

impl Desk {
    /// One desk on SQLite, and one on PostgreSQL where the test run has one.
    pub(super) async fn on_every_engine() -> Vec<Self> {
        let mut desks = Vec::new();
        for (engine, folder) in scratch::engines() {
            desks.push(Self::open(engine, folder).await);
        }
        desks
    }

    async fn open(engine: Engine, folder: tempfile::TempDir) -> Self {
        // A Thursday.
        let clock = Clock::manual("2026-01-01T12:00:00Z".parse().unwrap());
        let claims = contracts::orders::EVENTS.iter().map(|event| event.name).collect();
        let options = Options { claims, ..Options::new(engine, clock.clone()) };
        let store = Store::open(options, crate::store::STEPS).await.unwrap();
        let created = Metrics::new("orders").counter("order_created_total", "Orders placed", &["restaurant_id"]);
        let orders = Arc::new(Orders { store, settings: Live::fixed(Settings::default()), created });
        let desk = Self { orders, clock, _folder: folder };
        desk.keep("restaurant", restaurant()).await;
        desk.keep("menu", menu()).await;
        desk
    }

    pub(super) fn orders(&self) -> Arc<Orders> {
        self.orders.clone()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    pub(super) fn path(&self, id: Uuid) -> OrderPath {
        OrderPath { id }
    }

    /// A copy of what another service owns, as the bus would keep it.
    async fn keep<P: Payload + Clone>(&self, source: &'static str, state: P) {
        let insert = move |tx: Tx| {
            let state = state.clone();
            async move {
                let subject = state.subject();
                let sql = sql!(
                    "INSERT INTO projection (org_id, source, entity_id, data, version, last_event_id, last_updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7)"
                );
                let values = params![
                    subject.org,
                    source,
                    subject.id,
                    Json(serde_json::to_value(&state).unwrap()),
                    subject.version,
                    ids::fresh(),
                    tx.now()
                ];
                tx.run(sql, values).await
            }
        };
        self.orders.store.write::<_, StoreError, _, _>(insert).await.unwrap();
    }

    /// Runs a changing handler in its unit.
    async fn act<R, F, Fut>(&self, handler: F) -> Result<Value, Problem>
    where
        R: Reply + 'static,
        F: Fn(Tx, Arc<Orders>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, Fail>> + Send + 'static,
    {
        let orders = self.orders();
        let done = self.orders.store.write(move |tx| handler(tx, orders.clone())).await;
        done.map(body).map_err(|error| Fail::from(error).into())
    }

    pub(super) async fn read<R: Reply>(
        &self,
        handler: impl Future<Output = Result<R, Fail>>,
    ) -> Result<Value, Problem> {
        handler.await.map(body).map_err(Problem::from)
    }

    pub(super) async fn try_place(&self, extra: Value) -> Result<Value, Problem> {
        let mut order = json!({
            "restaurant_id": RESTAURANT,
            "lines": [{"item_id": DISH, "quantity": 2}],
            "deliver_to": {"name": "Ann", "street": "Main Street 1", "city": "Springfield", "place": {"longitude_e6": 1, "latitude_e6": 2}},
            "card": {"token": "tok_1", "brand": "visa", "last4": "4242"},
        });
        order.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        self.act(move |tx, orders| {
            place_order(tx, orders, person(CUSTOMER), Body(serde_json::from_value(order.clone()).unwrap()))
        })
        .await
    }

    pub(super) async fn place(&self, extra: Value) -> Uuid {
        self.try_place(extra).await.unwrap()["id"].as_str().unwrap().parse().unwrap()
    }

    pub(super) async fn show(&self, id: Uuid) -> Value {
        self.read(show_order(self.orders(), person(SUPPORTER), Path(OrderPath { id }))).await.unwrap()
    }

    pub(super) async fn status(&self, id: Uuid) -> String {
        self.show(id).await["status"].as_str().unwrap().to_owned()
    }

    pub(super) async fn cancel(&self, who: Person, id: Uuid) -> Result<Value, Problem> {
        let body = || Body(serde_json::from_value(json!({})).unwrap());
        self.act(move |tx, orders| cancel_order(tx, orders, person(who), Path(OrderPath { id }), body())).await
    }

    pub(super) async fn fill_cart(&self, quantity: i64) -> Result<Value, Problem> {
        let cart = json!({"restaurant_id": RESTAURANT, "lines": [{"item_id": DISH, "quantity": quantity}]});
        self.act(move |tx, orders| {
            put_cart(tx, orders, person(CUSTOMER), Body(serde_json::from_value(cart.clone()).unwrap()))
        })
        .await
    }

    pub(super) async fn set_up_discount(&self, code: &'static str, basis_points: i64) {
        let terms = json!({"kind": "percent", "value": basis_points});
        let path = json!({"org_id": ORG, "code": code});
        let put = move |tx, orders| {
            let (path, terms) =
                (serde_json::from_value(path.clone()).unwrap(), serde_json::from_value(terms.clone()).unwrap());
            put_discount(tx, orders, person(OWNER), Path(path), Body(terms))
        };
        self.act(put).await.unwrap();
    }

    /// Pages of two.
    pub(super) async fn customer_orders(&self, page_token: Option<String>) -> Value {
        let path = Path(serde_json::from_value(json!({"customerId": CUSTOMER.id})).unwrap());
        let query = Query(PageQuery { page_size: Some(2), page_token });
        self.read(list_customer_orders(self.orders(), person(CUSTOMER), path, query)).await.unwrap()
    }

    /// Hands an event to its reaction, as the bus would: again where that may help.
    pub(super) async fn hear<E, F, Fut>(&self, react: F, event: E)
    where
        E: Event + Clone,
        F: Fn(Tx, Arc<Orders>, Received<E>) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Fault>> + Send + 'static,
    {
        let received = Received { time: self.now(), trace: Trace::start(), ..hearing::received(event) };
        loop {
            match hearing::hear(&self.orders.store, &self.orders(), react, received.clone()).await {
                Err(WriteError::Unit(Fault::Retry(_))) => {}
                done => return done.unwrap(),
            }
        }
    }

    /// Hands a timer that is thought to be due to its handler.
    pub(super) async fn fire(&self, id: Uuid, step: &'static str) {
        let due = DueTimer { org: ORG, entity: id, step: step.to_owned(), due_at: self.now() };
        hearing::fire(&self.orders.store, &self.orders(), jobs::deadline_passed, due).await.unwrap();
    }

    /// The events of an order by name; their versions must count from 1 without a gap.
    pub(super) async fn told(&self, id: Uuid) -> Vec<String> {
        let sql = sql!(Scalar<String>, "SELECT event_type AS value FROM outbox WHERE aggregate_id = $1 ORDER BY seq");
        let names = self.orders.store.read().all(sql, params![id]).await.unwrap();
        let sql =
            sql!(Scalar<i64>, "SELECT aggregate_version AS value FROM outbox WHERE aggregate_id = $1 ORDER BY seq");
        let versions = self.orders.store.read().all(sql, params![id]).await.unwrap();
        assert!(versions.iter().zip(1..).all(|(Scalar(version), expected)| *version == expected), "{versions:?}");
        names.into_iter().map(|Scalar(name)| name).collect()
    }

    pub(super) async fn timers(&self, id: Uuid) -> Vec<String> {
        let sql = sql!(Scalar<String>, "SELECT step AS value FROM saga_timer WHERE entity_id = $1");
        let steps = self.orders.store.read().all(sql, params![id]).await.unwrap();
        steps.into_iter().map(|Scalar(step)| step).collect()
    }

    pub(super) fn reservation(&self, order_id: Uuid) -> ReservationState {
        ReservationState {
            org_id: ORG,
            order_id,
            version: 1,
            restaurant_id: RESTAURANT,
            missing: Vec::new(),
            at: self.now(),
        }
    }

    pub(super) fn ticket(&self, order_id: Uuid) -> TicketState {
        TicketState {
            org_id: ORG,
            order_id,
            version: 1,
            restaurant_id: RESTAURANT,
            reason: None,
            ready_at: None,
            at: self.now(),
        }
    }

    pub(super) fn delivery(&self, order_id: Uuid) -> DeliveryState {
        DeliveryState {
            org_id: ORG,
            order_id,
            version: 1,
            courier_id: Some(COURIER.id),
            courier_name: None,
            reason: None,
            at: self.now(),
        }
    }

    pub(super) fn payment(&self, order_id: Uuid, retry_until: Option<Timestamp>) -> PaymentState {
        PaymentState {
            org_id: ORG,
            payment_id: ids::fresh(),
            version: 1,
            order_id,
            customer_id: CUSTOMER.id,
            customer_email: String::new(),
            status: PaymentStatus::Processing,
            currency: Currency::EUR,
            amount_minor: 2_250,
            captured_minor: 0,
            refunded_minor: 0,
            masked_card: "visa ****4242".into(),
            decline_code: None,
            retry_until,
            at: self.now(),
        }
    }
}

fn body(reply: impl Reply) -> Value {
    serde_json::from_slice(&reply.answer().body).unwrap()
}

fn restaurant() -> RestaurantState {
    RestaurantState {
        org_id: ORG,
        restaurant_id: RESTAURANT,
        version: 1,
        name: "Trattoria".into(),
        cuisine: "Italian".into(),
        street: "Main Street 1".into(),
        city: "Springfield".into(),
        place: Place { longitude_e6: 0, latitude_e6: 0 },
        currency: Currency::EUR,
        utc_offset_minutes: 0,
        hours: vec![Hours { weekday: 4, opens_minute: 600, closes_minute: 1_320 }],
        paused: false,
        auto_accept: true,
        prep_minutes: 20,
        delivery_fee_minor: 250,
        minimum_order_minor: 1_500,
    }
}

fn menu() -> MenuState {
    let dish = MenuItem {
        item_id: DISH,
        name: "Pizza".into(),
        description: String::new(),
        category: "Mains".into(),
        price_minor: 1_000,
        tax_basis_points: 700,
        sold_out: false,
        daily_stock: None,
        options: Vec::new(),
    };
    MenuState { org_id: ORG, restaurant_id: RESTAURANT, version: 1, currency: Currency::EUR, items: vec![dish] }
}
