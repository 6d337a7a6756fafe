//! Scenarios of the money path: a database, a clock moved by hand, and a provider that is real or cruel.

mod cruel;
mod figures;
mod network;
mod storms;

use std::sync::Arc;
use std::time::Duration;

use contracts::Place;
use contracts::orders::{Card, DeliverTo, OrderState, OrderStatus};
use contracts::payments::{EVENTS, PaymentState};
use kernel::clock::{Clock, Timestamp};
use kernel::config::Live;
use kernel::events::Fault;
use kernel::jobs::DueTimer;
use kernel::money::Currency;
use kernel::secrets::Secrets;
use kernel::store::{Engine, Options, Store, StoreError, Tx};
use kernel::telemetry::Metrics;
use kernel::{ids, params, row, sql};
use tempfile::TempDir;
use uuid::Uuid;

use crate::attempt::Heard;
use crate::provider::Provider;
use crate::steps::{self, Case};
use crate::store::PaymentRow;
use crate::{Payments, Settings, jobs, store};

row! {
    pub(super) struct Said {
        pub(super) event_type: String,
        pub(super) payload: String,
    }
}

/// A payments service without its port and its bus, driven by hand.
pub(super) struct Desk {
    pub(super) state: Arc<Payments>,
    pub(super) clock: Clock,
    provider: Arc<dyn Provider>,
    secrets: Secrets,
    _folder: TempDir,
}

fn make(store: Store, provider: Arc<dyn Provider>, secrets: &Secrets) -> Arc<Payments> {
    let pair = secrets.pair("webhook").unwrap();
    Arc::new(Payments::with(
        store,
        &Metrics::new("payments"),
        Live::fixed(Settings::default()),
        provider,
        Live::fixed(pair),
    ))
}

pub(super) use kernel::testing::hearing::fire;
use kernel::testing::scratch::engines;

impl Desk {
    pub(super) async fn open(provider: Arc<dyn Provider>, clock: Clock) -> Self {
        let (engine, folder) = engines().swap_remove(0);
        Self::open_on(engine, folder, provider, clock).await
    }

    pub(super) async fn open_on(engine: Engine, folder: TempDir, provider: Arc<dyn Provider>, clock: Clock) -> Self {
        let claims = EVENTS.iter().map(|e| e.name).collect();
        let options = Options { claims, ..Options::new(engine, clock.clone()) };
        let store = Store::open(options, store::STEPS).await.unwrap();
        let secrets = Secrets::open(&folder.path().join("secrets")).unwrap();
        Self { state: make(store, provider.clone(), &secrets), clock, provider, secrets, _folder: folder }
    }

    /// What a kill leaves: the database. Workers of the old process may go on as zombies.
    pub(super) fn restart(&mut self) {
        self.state = make(self.state.store.clone(), self.provider.clone(), &self.secrets);
    }

    /// Moves the clock and lets everything that is then due be asked, until no worker is left.
    pub(super) async fn turn(&self, by: Duration) {
        self.clock.advance(by);
        jobs::ask_provider(self.state.clone()).await.unwrap();
        while !self.state.calls.are_done() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(super) async fn create(&self, order: &OrderState) {
        let order = order.clone();
        self.unit(move |tx| {
            let order = order.clone();
            async move { steps::start(&tx, &order, String::new()).await }
        })
        .await;
    }

    pub(super) async fn hear(&self, order: &OrderState, news: Heard) {
        let (org, id) = (order.org_id, order.order_id);
        let store = self.state.store.in_org(org);
        let heard = store.write(move |tx| async move {
            let Some(mut case) = Case::of(&tx, org, id, news).await? else { return Ok::<_, StoreError>(()) };
            if news.ended { steps::ended(&tx, &mut case).await } else { steps::accepted(&tx, &mut case).await }
        });
        heard.await.unwrap();
    }

    /// The retry window of a payment closes, as its timer would tell.
    pub(super) async fn close_window(&self, payment: Uuid) {
        self.fire(payment, steps::RETRY_WINDOW, jobs::retry_window_over).await;
    }

    /// Fires a timer of a payment.
    pub(super) async fn fire<F, Fut>(&self, payment: Uuid, step: &str, timer: F)
    where
        F: Fn(Tx, Arc<Payments>, DueTimer) -> Fut + Copy + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Fault>> + Send + 'static,
    {
        let org = self.payment_org(payment).await;
        let due = DueTimer { org, entity: payment, step: step.to_owned(), due_at: self.clock.now() };
        fire(&self.state.store, &self.state, timer, due).await.unwrap();
    }

    async fn payment_org(&self, payment: Uuid) -> Uuid {
        store::payment(&self.state.store.read(), payment).await.unwrap().unwrap().org_id
    }

    pub(super) async fn unit<F, Fut>(&self, work: F)
    where
        F: Fn(Tx) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), StoreError>> + Send + 'static,
    {
        self.state.store.write(work).await.unwrap();
    }

    pub(super) async fn payment(&self, order: &OrderState) -> Option<PaymentRow> {
        store::payment_of_order(&self.state.store.read(), order.order_id).await.unwrap()
    }

    /// What the world was told of a payment: event types with their payloads, in order.
    pub(super) async fn said(&self, payment: Uuid) -> Vec<(String, PaymentState)> {
        let sql = sql!(Said, "SELECT event_type, payload FROM outbox WHERE aggregate_id = $1 ORDER BY seq");
        let said = self.state.store.read().all(sql, params![payment]).await.unwrap();
        said.into_iter().map(|s| (s.event_type, serde_json::from_str(&s.payload).unwrap())).collect()
    }

    /// The types alone.
    pub(super) async fn told(&self, payment: Uuid) -> Vec<String> {
        self.said(payment).await.into_iter().map(|(kind, _)| kind).collect()
    }
}

pub(super) const ENDED: Heard = Heard { ended: true, accepted: false };
pub(super) const ACCEPTED: Heard = Heard { ended: false, accepted: true };

pub(super) fn order(token: &str) -> OrderState {
    let place = Place { longitude_e6: 0, latitude_e6: 0 };
    let at = Timestamp::from_micros(0);
    OrderState {
        org_id: ids::fresh(),
        order_id: ids::fresh(),
        version: 1,
        code: "ORD-1".into(),
        status: OrderStatus::Pending,
        reason: None,
        customer_id: ids::fresh(),
        customer_email: "someone@example.test".into(),
        channel: "customer_app".into(),
        restaurant_id: ids::fresh(),
        restaurant_name: "Trattoria".into(),
        pick_up: place,
        auto_accept: false,
        prep_minutes: 10,
        lines: Vec::new(),
        currency: Currency::EUR,
        subtotal_minor: 2_000,
        discount_minor: 0,
        delivery_fee_minor: 0,
        tax_minor: 0,
        total_minor: 2_000,
        card: Card { token: token.into(), brand: "visa".into(), last4: "4242".into() },
        deliver_to: DeliverTo { name: "A".into(), street: "B".into(), city: "C".into(), place, note: String::new() },
        placed_at: at,
        changed_at: at,
    }
}
