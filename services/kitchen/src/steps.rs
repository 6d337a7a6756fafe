//! What several entrances do alike, inside the caller's unit: setting stock aside, and moving tickets on.

use std::time::Duration;

use contracts::kitchen::{
    InventoryRejected, InventoryReleased, InventoryReserved, KitchenAccepted, KitchenExpired, KitchenReady,
    KitchenRejected, KitchenStarted,
};
use contracts::orders::OrderState;
use kernel::clock::Timestamp;
use kernel::store::{Json, StoreError, Tx};
use uuid::Uuid;

use crate::Settings;
use crate::needs::{needed, ticket_lines};
use crate::store::{self, LineRow, ReservationRow, ReservationStatus, TicketRow};
use crate::ticket::{Step, TicketStatus};

/// The deadline for accepting.
pub(crate) const ACCEPTANCE: &str = "acceptance";
/// When a demo kitchen is done.
pub(crate) const READY: &str = "ready";

/// Sets aside all that an order needs, or nothing, and says which.
pub(crate) async fn reserve(tx: &Tx, order: &OrderState) -> Result<(), StoreError> {
    let mut reservation = reservation(tx, order, ReservationStatus::Reserved, 1);
    if !tx.add(&reservation).await? {
        return Ok(());
    }
    let (org, restaurant) = (order.org_id, order.restaurant_id);
    let needs = needed(&order.lines);
    let items: Vec<Uuid> = needs.keys().copied().collect();
    let mut taken = Vec::new();
    for item in store::limited(tx, org, restaurant, &items).await? {
        let need = &needs[&item];
        if store::set_aside(tx, org, restaurant, item, need.quantity).await? {
            taken.push(LineRow { org_id: org, order_id: order.order_id, item_id: item, quantity: need.quantity });
        } else {
            reservation.missing.0.push(need.name.clone());
        }
    }
    if reservation.missing.0.is_empty() {
        tx.insert_all(&taken).await?;
        return tx.emit(InventoryReserved(reservation.state()));
    }
    for line in taken {
        store::put_back(tx, org, restaurant, line.item_id, line.quantity).await?;
    }
    store::reject_reservation(tx, &reservation).await?;
    tx.emit(InventoryRejected(reservation.state()))
}

fn reservation(tx: &Tx, order: &OrderState, status: ReservationStatus, version: i64) -> ReservationRow {
    ReservationRow {
        org_id: order.org_id,
        id: order.order_id,
        restaurant_id: order.restaurant_id,
        version,
        status,
        missing: Json(Vec::new()),
        changed_at: tx.now(),
    }
}

/// Frees the stock of an order that has ended; if none was asked for yet, bars it.
pub(crate) async fn bar(tx: &Tx, order: &OrderState) -> Result<(), StoreError> {
    let bar = reservation(tx, order, ReservationStatus::Barred, 0);
    if tx.add(&bar).await? {
        return Ok(());
    }
    release(tx, order.org_id, order.order_id).await
}

/// Frees what is set aside for an order, once.
async fn release(tx: &Tx, org: Uuid, order: Uuid) -> Result<(), StoreError> {
    let Some(reservation) = store::release(tx, org, order).await? else { return Ok(()) };
    for line in store::lines(tx, org, order).await? {
        store::put_back(tx, org, reservation.restaurant_id, line.item_id, line.quantity).await?;
    }
    tx.emit(InventoryReleased(reservation.state()))
}

/// Uses up what is set aside for an order, once.
async fn consume(tx: &Tx, org: Uuid, order: Uuid) -> Result<(), StoreError> {
    let Some(restaurant) = store::consume(tx, org, order).await? else { return Ok(()) };
    for line in store::lines(tx, org, order).await? {
        store::use_up(tx, org, restaurant, line.item_id, line.quantity).await?;
    }
    Ok(())
}

/// Opens the ticket of an order that is paid for and in stock; a kitchen that accepts by itself does so at once.
pub(crate) async fn open_ticket(tx: &Tx, settings: &Settings, order: &OrderState) -> Result<(), StoreError> {
    let live = store::reservation_status(tx, order.org_id, order.order_id).await? == Some(ReservationStatus::Reserved);
    if !live {
        return Ok(());
    }
    let accept_by = tx.now().plus(Duration::from_millis(settings.accept_within_ms));
    let mut ticket = TicketRow {
        org_id: order.org_id,
        id: order.order_id,
        restaurant_id: order.restaurant_id,
        version: 0,
        status: TicketStatus::Open,
        code: order.code.clone(),
        lines: Json(ticket_lines(&order.lines)),
        prep_minutes: order.prep_minutes,
        reason: None,
        accept_by: Some(accept_by),
        ready_at: None,
        opened_at: tx.now(),
        changed_at: tx.now(),
    };
    if order.auto_accept {
        ticket = TicketRow {
            version: 1,
            status: TicketStatus::Accepted,
            accept_by: None,
            ready_at: Some(in_minutes(tx, order.prep_minutes)),
            ..ticket
        };
    }
    match (tx.add(&ticket).await?, order.auto_accept) {
        (false, _) => Ok(()),
        (true, true) => tx.emit(KitchenAccepted(ticket.state())),
        (true, false) => tx.set_timer(ticket.org_id, ticket.id, ACCEPTANCE, accept_by).await,
    }
}

pub(crate) fn in_minutes(tx: &Tx, minutes: i64) -> Timestamp {
    tx.now().plus(Duration::from_secs(u64::try_from(minutes).unwrap_or(0) * 60))
}

/// What a step adds to a ticket.
#[derive(Debug, Default)]
pub(crate) struct Note {
    pub(crate) reason: Option<String>,
    pub(crate) ready_at: Option<Timestamp>,
}

/// What became of a step.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It was taken; this is the ticket now.
    Taken(Box<TicketRow>),
    /// It cannot be taken from where the ticket stands.
    Impossible,
    /// Somebody else moved the ticket at the same time: look again.
    Overtaken,
}

/// Takes a step of a ticket with all that follows from it.
pub(crate) async fn take(tx: &Tx, from: &TicketRow, step: Step, note: Note) -> Result<Outcome, StoreError> {
    let Some(status) = from.status.after(step) else { return Ok(Outcome::Impossible) };
    let to = TicketRow {
        status,
        version: from.version + i64::from(step.is_published()),
        reason: note.reason.or_else(|| from.reason.clone()),
        ready_at: note.ready_at.or(from.ready_at),
        changed_at: tx.now(),
        ..from.clone()
    };
    if !store::move_ticket(tx, from, &to).await? {
        return Ok(Outcome::Overtaken);
    }
    follow(tx, from, step, &to).await?;
    Ok(Outcome::Taken(Box::new(to)))
}

async fn follow(tx: &Tx, from: &TicketRow, step: Step, to: &TicketRow) -> Result<(), StoreError> {
    match from.status {
        TicketStatus::Open => tx.clear_timer(to.org_id, to.id, ACCEPTANCE).await?,
        TicketStatus::Cooking => tx.clear_timer(to.org_id, to.id, READY).await?,
        _ => false,
    };
    match step {
        Step::Accept => tx.emit(KitchenAccepted(to.state())),
        Step::Reject => {
            release(tx, to.org_id, to.id).await?;
            tx.emit(KitchenRejected(to.state()))
        }
        Step::Expire => {
            release(tx, to.org_id, to.id).await?;
            tx.emit(KitchenExpired(to.state()))
        }
        Step::Start => {
            consume(tx, to.org_id, to.id).await?;
            tx.emit(KitchenStarted(to.state()))
        }
        Step::Finish => tx.emit(KitchenReady(to.state())),
        Step::HandOver | Step::Withdraw => Ok(()),
    }
}
