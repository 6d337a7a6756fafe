//! A notifications service on a database of its own, with a channel that can be made to fail, and events to tell of.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use contracts::Place;
use contracts::delivery::DeliveryState;
use contracts::notifications::EVENTS;
use contracts::orders::{Card, DeliverTo, OrderState, OrderStatus};
use contracts::payments::{PaymentState, PaymentStatus};
use kernel::clock::{Clock, Timestamp};
use kernel::config::Live;
use kernel::events::{Event, Fault, Received};
use kernel::money::Currency;
use kernel::store::{Options, Store, Tx};
use kernel::telemetry::Trace;
use kernel::testing::hearing::{hear, received};
use kernel::testing::scratch;
use kernel::{params, row, sql};
use uuid::Uuid;

use crate::channel::{Channel, Letter, Mailbox, Sending};
use crate::message::Trouble;
use crate::store::{self, LetterRow, MessageRow, Wanted};
use crate::{Notifications, Settings, jobs};

pub(crate) const CUSTOMER: Uuid = Uuid::from_u128(300);
const ORG: Uuid = Uuid::from_u128(100);
pub(crate) const ORDER: Uuid = Uuid::from_u128(500);

row! {
    struct Said {
        event_type: String,
        aggregate_version: i64,
        headers: String,
    }
}

/// The mailbox behind a door that stays shut for a number of tries.
pub(super) struct Door {
    mailbox: Mailbox,
    pub(super) shut_for: AtomicUsize,
    /// Whether a refusal is for good.
    for_good: bool,
}

impl Channel for Door {
    fn send(&self, letters: Vec<Letter>) -> Sending<'_> {
        let shut = self.shut_for.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if !shut {
            return self.mailbox.send(letters);
        }
        let why = "the door is shut".to_owned();
        let trouble = if self.for_good { Trouble::Final(why) } else { Trouble::Passing(why) };
        Box::pin(async move { vec![Err(trouble); letters.len()] })
    }
}

pub(super) struct City {
    pub(super) state: Arc<Notifications>,
    clock: Clock,
    _folder: tempfile::TempDir,
}

impl City {
    pub(super) async fn new() -> Self {
        Self::with_door(0, false).await
    }

    pub(super) async fn with_door(shut_for: usize, for_good: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual("2026-11-21T12:00:00Z".parse().unwrap());
        let claims = EVENTS.iter().map(|event| event.name).collect();
        let engine = scratch::chosen(folder.path().join("notifications.db"));
        let store = Store::open(Options { claims, ..Options::new(engine, clock.clone()) }, store::STEPS).await.unwrap();
        let door = Door { mailbox: Mailbox::new(store.clone()), shut_for: AtomicUsize::new(shut_for), for_good };
        let state = Notifications { store, settings: Live::fixed(Settings::default()), channel: Arc::new(door) };
        Self { state: Arc::new(state), clock, _folder: folder }
    }

    /// Lets the service hear an event under this identity; its trace has the same number.
    pub(super) async fn hear<E, F, Fut>(&self, react: F, id: u128, payload: &E::Payload)
    where
        E: Event + Clone,
        E::Payload: Clone,
        F: Fn(Tx, Arc<Notifications>, Received<E>) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Fault>> + Send + 'static,
    {
        let trace = Trace { trace_id: id.to_be_bytes(), span_id: [1; 8], sampled: false };
        let event = Received { id: Uuid::from_u128(id), trace, ..received(E::from_payload(payload.clone())) };
        hear(&self.state.store, &self.state, react, event).await.unwrap();
    }

    pub(super) async fn send(&self) {
        jobs::send_queued(self.state.clone()).await.unwrap();
    }

    pub(super) fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    /// The customer's mailbox, oldest first.
    pub(super) async fn mailbox(&self) -> Vec<LetterRow> {
        let wanted = Wanted { user: Some(CUSTOMER), ..Wanted::default() };
        let mut letters = store::mailbox(&self.state.store.read(), wanted, 100).await.unwrap();
        letters.reverse();
        letters
    }

    pub(super) async fn messages(&self) -> Vec<MessageRow> {
        let mut rows = store::messages(&self.state.store.read(), Wanted::default(), 100).await.unwrap();
        rows.reverse();
        rows
    }

    /// Name, version and trace of what was published, in order.
    pub(super) async fn said(&self) -> Vec<(String, i64, String)> {
        let all = sql!(Said, "SELECT event_type, aggregate_version, headers FROM outbox ORDER BY seq");
        let said = self.state.store.read().all(all, params![]).await.unwrap();
        said.into_iter().map(|said| (said.event_type, said.aggregate_version, said.headers)).collect()
    }
}

/// An order that has reached this status.
pub(crate) fn order(status: OrderStatus) -> OrderState {
    let place = Place { longitude_e6: 0, latitude_e6: 0 };
    OrderState {
        org_id: ORG,
        order_id: ORDER,
        version: 1,
        code: "ORD-TEST1".into(),
        status,
        reason: None,
        customer_id: CUSTOMER,
        customer_email: "a@demo.example".into(),
        channel: "customer_app".into(),
        restaurant_id: Uuid::from_u128(200),
        restaurant_name: "Lanterna".into(),
        pick_up: place,
        auto_accept: false,
        prep_minutes: 20,
        lines: Vec::new(),
        currency: Currency::EUR,
        subtotal_minor: 1250,
        discount_minor: 0,
        delivery_fee_minor: 0,
        tax_minor: 0,
        total_minor: 1250,
        card: Card { token: "tok".into(), brand: "visa".into(), last4: "4242".into() },
        deliver_to: DeliverTo { name: "A".into(), street: "S 1".into(), city: "M".into(), place, note: String::new() },
        placed_at: Timestamp::default(),
        changed_at: Timestamp::default(),
    }
}

/// A payment of that order that has failed for good.
pub(crate) fn payment() -> PaymentState {
    PaymentState {
        org_id: ORG,
        payment_id: Uuid::from_u128(600),
        version: 1,
        order_id: ORDER,
        customer_id: CUSTOMER,
        customer_email: "a@demo.example".into(),
        status: PaymentStatus::Failed,
        currency: Currency::EUR,
        amount_minor: 1250,
        captured_minor: 0,
        refunded_minor: 0,
        masked_card: "visa ****4242".into(),
        decline_code: Some("insufficient_funds".into()),
        retry_until: None,
        at: Timestamp::default(),
    }
}

/// A courier who was found for that order.
pub(super) fn delivery(courier: &str) -> DeliveryState {
    DeliveryState {
        org_id: ORG,
        order_id: ORDER,
        version: 1,
        courier_id: Some(Uuid::from_u128(700)),
        courier_name: Some(courier.to_owned()),
        reason: None,
        at: Timestamp::default(),
    }
}
