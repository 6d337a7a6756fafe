//! Scenes about tickets: who may answer, when, and what follows.

use std::time::Duration;

use contracts::orders::{OrderState, OrderStatus};
use contracts::permissions::{ADMIN, RESTAURANT_OWNER};
use contracts::restaurants::MenuState;
use kernel::http::{Body, Caller, Path};
use kernel::jobs::DueTimer;
use kernel::store::{Scalar, Tx};
use kernel::testing::hearing::fire;
use kernel::{params, sql};
use uuid::Uuid;

use super::city::{City, caller, menu, order};
use crate::api::tickets::{Acceptance, Rejection, TicketPath, accept_ticket, finish_ticket, reject_ticket};
use crate::ticket::TicketStatus;
use crate::{Settings, jobs, reactions, store};

impl City {
    /// An order that has come as far as the kitchen.
    async fn arrived(&self, menu: &MenuState, auto_accept: bool) -> OrderState {
        self.hear(reactions::menu_changed, menu).await;
        let order = OrderState { auto_accept, ..order(menu, &[(1, 2)]) };
        self.hear(reactions::order_created, &order).await;
        let awaiting = OrderState { status: OrderStatus::AwaitingAcceptance, ..order.clone() };
        for _ in 0..2 {
            self.hear(reactions::order_updated, &awaiting).await;
        }
        order
    }

    async fn accept(&self, caller: &Caller, order: &OrderState) -> Result<(), String> {
        let (caller, order_id) = (caller.clone(), order.order_id);
        let yes = move |tx, kitchen| {
            accept_ticket(tx, kitchen, caller.clone(), Path(TicketPath { order_id }), Body(Acceptance::default()))
        };
        self.ask(yes).await.map(drop)
    }

    async fn reject(&self, caller: &Caller, order: &OrderState) -> Result<(), String> {
        let (caller, order_id) = (caller.clone(), order.order_id);
        let no = move |tx, kitchen| {
            let reason = "the oven is broken".to_owned();
            reject_ticket(tx, kitchen, caller.clone(), Path(TicketPath { order_id }), Body(Rejection { reason }))
        };
        self.ask(no).await.map(drop)
    }

    async fn finish(&self, caller: &Caller, order: &OrderState) -> Result<(), String> {
        let (caller, order_id) = (caller.clone(), order.order_id);
        let done = move |tx, kitchen| finish_ticket(tx, kitchen, caller.clone(), Path(TicketPath { order_id }));
        self.ask(done).await.map(drop)
    }

    /// Fires every deadline that is due, as the kernel does.
    async fn fire(&self) {
        let due = self.timers().await;
        for (step, due_at, entity) in due {
            let due = DueTimer { org: Uuid::from_u128(100), entity, step, due_at };
            let react = |tx: Tx, kitchen, due: DueTimer| async move {
                match due.step.as_str() {
                    "acceptance" => jobs::acceptance_due(tx, kitchen, due).await,
                    _ => jobs::ready_due(tx, kitchen, due).await,
                }
            };
            fire(&self.kitchen.store, &self.kitchen, react, due).await.unwrap();
        }
    }

    async fn timers(&self) -> Vec<(String, kernel::clock::Timestamp, Uuid)> {
        let db = self.kitchen.store.read();
        let now = self.kitchen.clock.now();
        let steps =
            db.all(sql!(Timer, "SELECT step, due_at, entity_id FROM saga_timer ORDER BY due_at"), params![]).await;
        steps.unwrap().into_iter().filter(|t| t.due_at <= now).map(|t| (t.step, t.due_at, t.entity_id)).collect()
    }

    async fn waiting(&self) -> i64 {
        let count = sql!(Scalar<i64>, "SELECT COUNT(*) AS value FROM saga_timer");
        self.kitchen.store.read().one(count, params![]).await.unwrap().0
    }

    async fn status(&self, order: &OrderState) -> TicketStatus {
        store::ticket_by_id(&self.kitchen.store.read(), order.order_id).await.unwrap().unwrap().status
    }
}

kernel::row! {
    struct Timer {
        step: String,
        due_at: kernel::clock::Timestamp,
        entity_id: Uuid,
    }
}

#[tokio::test]
async fn the_restaurant_accepts_cooks_and_hands_over() {
    let city = City::new(Settings::default()).await;
    let menu = menu(1, &[Some(5)]);
    let order = city.arrived(&menu, false).await;
    let owner = caller(RESTAURANT_OWNER, menu.org_id);
    assert_eq!(city.finish(&owner, &order).await, Err("ticket_not_cooking".into()));
    city.accept(&owner, &order).await.unwrap();
    assert_eq!(city.accept(&owner, &order).await, Err("ticket_not_open".into()));
    assert_eq!(city.waiting().await, 0, "the deadline is gone");
    for _ in 0..2 {
        city.hear(reactions::order_confirmed, &order).await;
    }
    assert_eq!(city.figures(&menu).await, [(3, 0)], "cooking uses the stock up");
    city.finish(&owner, &order).await.unwrap();
    city.hear(reactions::order_shipped, &order).await;
    city.hear(reactions::order_delivered, &order).await;
    assert_eq!(city.status(&order).await, TicketStatus::HandedOver);
    let wanted = ["inventory.reserved 1", "kitchen.accepted 1", "kitchen.started 2", "kitchen.ready 3"];
    assert_eq!(city.said(order.order_id).await, wanted);
}

#[tokio::test]
async fn a_refusal_frees_the_stock_and_the_orders_own_end_adds_nothing() {
    let city = City::new(Settings::default()).await;
    let menu = menu(1, &[Some(5)]);
    let order = city.arrived(&menu, false).await;
    city.reject(&caller(ADMIN, Uuid::nil()), &order).await.unwrap();
    city.hear(reactions::order_rejected, &order).await;
    assert_eq!(city.status(&order).await, TicketStatus::Rejected);
    assert_eq!(city.figures(&menu).await, [(5, 0)]);
    assert_eq!(city.waiting().await, 0);
    let wanted = ["inventory.reserved 1", "inventory.released 2", "kitchen.rejected 1"];
    assert_eq!(city.said(order.order_id).await, wanted);
}

#[tokio::test]
async fn a_ticket_that_nobody_answers_expires_at_its_deadline_and_not_before() {
    let city = City::new(Settings::default()).await;
    let menu = menu(1, &[Some(5)]);
    let order = city.arrived(&menu, false).await;
    city.pass(Duration::from_millis(299_999));
    city.fire().await;
    assert_eq!(city.status(&order).await, TicketStatus::Open);
    city.pass(Duration::from_millis(1));
    city.fire().await;
    assert_eq!(city.status(&order).await, TicketStatus::Expired);
    let owner = caller(RESTAURANT_OWNER, menu.org_id);
    assert_eq!(city.accept(&owner, &order).await, Err("ticket_not_open".into()));
    assert_eq!(city.figures(&menu).await, [(5, 0)]);
    let wanted = ["inventory.reserved 1", "inventory.released 2", "kitchen.expired 1"];
    assert_eq!(city.said(order.order_id).await, wanted);
}

#[tokio::test]
async fn a_demo_kitchen_accepts_and_finishes_by_itself() {
    let city = City::new(Settings { auto_ready_after_ms: Some(500), ..Settings::default() }).await;
    let menu = menu(1, &[None]);
    let order = city.arrived(&menu, true).await;
    city.hear(reactions::order_confirmed, &order).await;
    city.pass(Duration::from_millis(500));
    city.fire().await;
    let wanted = ["inventory.reserved 1", "kitchen.accepted 1", "kitchen.started 2", "kitchen.ready 3"];
    assert_eq!(city.said(order.order_id).await, wanted);
}

#[tokio::test]
async fn a_withdrawn_ticket_takes_no_answer() {
    let city = City::new(Settings::default()).await;
    let menu = menu(1, &[Some(5)]);
    let order = city.arrived(&menu, false).await;
    city.hear(reactions::order_cancelled, &order).await;
    let owner = caller(RESTAURANT_OWNER, menu.org_id);
    assert_eq!(city.accept(&owner, &order).await, Err("ticket_not_open".into()));
    assert_eq!(city.reject(&owner, &order).await, Err("ticket_not_open".into()));
    city.hear(reactions::order_confirmed, &order).await;
    assert_eq!(city.status(&order).await, TicketStatus::Withdrawn);
    assert_eq!(city.waiting().await, 0);
    assert_eq!(city.said(order.order_id).await, ["inventory.reserved 1", "inventory.released 2"]);
}

#[tokio::test]
async fn another_organisations_ticket_is_not_there() {
    let city = City::new(Settings::default()).await;
    let menu = menu(1, &[None]);
    let order = city.arrived(&menu, false).await;
    let stranger = caller(RESTAURANT_OWNER, Uuid::from_u128(999));
    assert_eq!(city.accept(&stranger, &order).await, Err("not_found".into()));
    assert_eq!(city.reject(&stranger, &order).await, Err("not_found".into()));
    assert_eq!(city.finish(&stranger, &order).await, Err("not_found".into()));
    assert_eq!(city.status(&order).await, TicketStatus::Open);
}
