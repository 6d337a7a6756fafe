//! A delivery service on a database of its own, and orders to send it.

use std::sync::Arc;
use std::time::Duration;

use contracts::Place;
use contracts::delivery::EVENTS;
use contracts::kitchen::TicketState;
use contracts::orders::{Card, DeliverTo, OrderState, OrderStatus};
use contracts::permissions::DELIVERY_PARTNER;
use kernel::clock::{Clock, Timestamp};
use kernel::config::Live;
use kernel::events::{Event, Fault, Received};
use kernel::http::{Body, Caller, Fail, Identity, Json, Path};
use kernel::jobs::DueTimer;
use kernel::money::Currency;
use kernel::store::{Options, Store, Tx, WriteError};
use kernel::testing::hearing::{fire, hear, received};
use kernel::testing::scratch;
use kernel::{params, row, sql};
use uuid::Uuid;

use crate::api::couriers::{CourierView, ShiftChange, change_shift};
use crate::api::deliveries::{DeliveryPath, DeliveryView, give_back, hand_over, pick_up};
use crate::delivery::DeliveryStatus;
use crate::store::{self, CourierRow};
use crate::{Delivery, Settings, jobs};

row! {
    struct Said {
        aggregate_id: Uuid,
        event_type: String,
        aggregate_version: i64,
    }
}

row! {
    struct TimerRow {
        org_id: Uuid,
        entity_id: Uuid,
        step: String,
        due_at: Timestamp,
    }
}

pub(super) struct City {
    pub(super) delivery: Arc<Delivery>,
    clock: Clock,
    _folder: tempfile::TempDir,
}

impl City {
    pub(super) async fn new(settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual("2026-11-21T12:00:00Z".parse().unwrap());
        let claims = EVENTS.iter().map(|event| event.name).collect();
        let engine = scratch::chosen(folder.path().join("delivery.db"));
        let store = Store::open(Options { claims, ..Options::new(engine, clock.clone()) }, store::STEPS).await.unwrap();
        Self { delivery: Arc::new(Delivery { store, settings: Live::fixed(settings) }), clock, _folder: folder }
    }

    /// Lets the service hear an event, for the organisation that it tells of.
    pub(super) async fn hear<E, F, Fut>(&self, react: F, payload: &E::Payload)
    where
        E: Event + Clone,
        E::Payload: Clone,
        F: Fn(Tx, Arc<Delivery>, Received<E>) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Fault>> + Send + 'static,
    {
        let event = received(E::from_payload(payload.clone()));
        hear(&self.delivery.store, &self.delivery, react, event).await.unwrap();
    }

    /// Runs a handler; a refusal comes back as its code.
    async fn ask<T, F, Fut>(&self, handle: F) -> Result<T, String>
    where
        T: Send + 'static,
        F: Fn(Tx, Arc<Delivery>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, Fail>> + Send + 'static,
    {
        let delivery = self.delivery.clone();
        match self.delivery.store.write(move |tx| handle(tx, delivery.clone())).await {
            Ok(answer) => Ok(answer),
            Err(WriteError::Unit(Fail::Refused(problem))) => Err(problem.code.into_owned()),
            Err(other) => panic!("{other:?}"),
        }
    }

    /// A courier begins or ends a shift, this far east of the restaurant.
    pub(super) async fn shift(&self, courier: u128, on: bool, east: Option<i64>) -> Result<(), String> {
        let who = caller(courier);
        let handle = move |tx, state| {
            let change = ShiftChange { on, place: east.map(at), name: None };
            change_shift(tx, state, who.clone(), Body(change))
        };
        self.ask(handle).await.map(|_: Json<CourierView>| ())
    }

    pub(super) async fn pick_up(&self, courier: u128, order: &OrderState) -> Result<(), String> {
        let (who, order_id) = (caller(courier), order.order_id);
        let handle = move |tx, state| pick_up(tx, state, who.clone(), Path(DeliveryPath { order_id }));
        self.ask(handle).await.map(|_: Json<DeliveryView>| ())
    }

    pub(super) async fn hand_over(&self, courier: u128, order: &OrderState) -> Result<(), String> {
        let (who, order_id) = (caller(courier), order.order_id);
        let handle = move |tx, state| hand_over(tx, state, who.clone(), Path(DeliveryPath { order_id }));
        self.ask(handle).await.map(|_: Json<DeliveryView>| ())
    }

    pub(super) async fn give_back(&self, courier: u128, order: &OrderState) -> Result<(), String> {
        let (who, order_id) = (caller(courier), order.order_id);
        let handle = move |tx, state| give_back(tx, state, who.clone(), Path(DeliveryPath { order_id }));
        self.ask(handle).await.map(|_: Json<DeliveryView>| ())
    }

    /// Lets time pass and fires, in the order of their deadlines, the timers that fall due, as the kernel does.
    pub(super) async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        let all = sql!(TimerRow, "SELECT org_id, entity_id, step, due_at FROM saga_timer ORDER BY due_at, entity_id");
        let timers = self.delivery.store.read().all(all, params![]).await.unwrap();
        for timer in timers.into_iter().filter(|timer| timer.due_at <= self.clock.now()) {
            let due = DueTimer { org: timer.org_id, entity: timer.entity_id, step: timer.step, due_at: timer.due_at };
            let react = |tx: Tx, delivery, due: DueTimer| async move {
                match due.step.as_str() {
                    "deadline" => jobs::deadline_passed(tx, delivery, due).await,
                    _ => jobs::drive(tx, delivery, due).await,
                }
            };
            fire(&self.delivery.store, &self.delivery, react, due).await.unwrap();
        }
    }

    /// Names and versions of what was published about an order, in order.
    pub(super) async fn said(&self, order: &OrderState) -> Vec<String> {
        let all = sql!(Said, "SELECT aggregate_id, event_type, aggregate_version FROM outbox ORDER BY seq");
        let said = self.delivery.store.read().all(all, params![]).await.unwrap();
        let about = said.into_iter().filter(|said| said.aggregate_id == order.order_id);
        about.map(|said| format!("{} {}", said.event_type, said.aggregate_version)).collect()
    }

    /// Where a delivery stands, and the number of its courier.
    pub(super) async fn stands(&self, order: &OrderState) -> (DeliveryStatus, Option<u128>) {
        let row = store::delivery_by_id(&self.delivery.store.read(), order.order_id).await.unwrap().unwrap();
        (row.status, row.courier_id.map(|id| id.as_u128()))
    }

    pub(super) async fn courier(&self, id: u128) -> CourierRow {
        store::courier(&self.delivery.store.read(), Uuid::from_u128(id)).await.unwrap().unwrap()
    }
}

fn at(east: i64) -> Place {
    Place { longitude_e6: 7_776_000 + east, latitude_e6: 43_815_000 }
}

fn caller(courier: u128) -> Caller {
    Caller(Identity {
        user_id: Uuid::from_u128(courier),
        email: format!("courier{courier}@demo.example"),
        roles: vec![DELIVERY_PARTNER.to_owned()],
        orgs: Vec::new(),
        auth_time: 0,
        session: None,
    })
}

/// What the kitchen says when the food is ready.
pub(super) fn ticket(order: &OrderState) -> TicketState {
    TicketState {
        org_id: order.org_id,
        order_id: order.order_id,
        version: 3,
        restaurant_id: order.restaurant_id,
        reason: None,
        ready_at: None,
        at: Timestamp::default(),
    }
}

/// A confirmed order of one of two organisations.
pub(super) fn order(org: u128) -> OrderState {
    OrderState {
        org_id: Uuid::from_u128(org),
        order_id: kernel::ids::fresh(),
        version: 3,
        code: "ORD-TEST1".into(),
        status: OrderStatus::Confirmed,
        reason: None,
        customer_id: Uuid::from_u128(300),
        customer_email: "a@demo.example".into(),
        channel: "customer_app".into(),
        restaurant_id: Uuid::from_u128(200),
        restaurant_name: "Lanterna".into(),
        pick_up: at(0),
        auto_accept: false,
        prep_minutes: 20,
        lines: Vec::new(),
        currency: Currency::EUR,
        subtotal_minor: 900,
        discount_minor: 0,
        delivery_fee_minor: 0,
        tax_minor: 0,
        total_minor: 900,
        card: Card { token: "tok".into(), brand: "visa".into(), last4: "4242".into() },
        deliver_to: DeliverTo {
            name: "A".into(),
            street: "S 1".into(),
            city: "Marenza".into(),
            place: at(5_000),
            note: String::new(),
        },
        placed_at: Timestamp::default(),
        changed_at: Timestamp::default(),
    }
}
