//! Tickets.

use contracts::kitchen::TicketState;
use kernel::clock::Timestamp;
use kernel::store::{AnyOf, Db, Json, List, StoreError, Tx};
use kernel::{params, row, sql};
use uuid::Uuid;

use crate::needs::TicketLine;
use crate::ticket::TicketStatus;

row! {
    pub(crate) struct TicketRow in "tickets" {
        pub(crate) org_id: Uuid,
        pub(crate) id: Uuid,
        pub(crate) restaurant_id: Uuid,
        pub(crate) version: i64,
        pub(crate) status: TicketStatus,
        pub(crate) code: String,
        pub(crate) lines: Json<Vec<TicketLine>>,
        pub(crate) prep_minutes: i64,
        pub(crate) reason: Option<String>,
        pub(crate) accept_by: Option<Timestamp>,
        pub(crate) ready_at: Option<Timestamp>,
        pub(crate) opened_at: Timestamp,
        pub(crate) changed_at: Timestamp,
    }
}

/// The columns of [`TicketRow`].
macro_rules! ticket_columns {
    () => {
        "org_id, id, restaurant_id, version, status, code, lines, prep_minutes, reason, accept_by, ready_at, opened_at, changed_at"
    };
}

impl TicketRow {
    /// The ticket as it is published.
    pub(crate) fn state(&self) -> TicketState {
        TicketState {
            org_id: self.org_id,
            order_id: self.id,
            version: self.version,
            restaurant_id: self.restaurant_id,
            reason: self.reason.clone(),
            ready_at: self.ready_at,
            at: self.changed_at,
        }
    }
}

pub(crate) async fn ticket(db: &Db, org: Uuid, order: Uuid) -> Result<Option<TicketRow>, StoreError> {
    db.maybe(
        sql!(TicketRow, concat!("SELECT ", ticket_columns!(), " FROM tickets WHERE org_id = $1 AND id = $2")),
        params![org, order],
    )
    .await
}

/// The same where the organisation is not known yet.
pub(crate) async fn ticket_by_id(db: &Db, order: Uuid) -> Result<Option<TicketRow>, StoreError> {
    db.maybe(sql!(TicketRow, concat!("SELECT ", ticket_columns!(), " FROM tickets WHERE id = $1")), params![order])
        .await
}

/// Moves a ticket on from exactly what it was; says whether nobody else was first.
pub(crate) async fn move_ticket(tx: &Tx, from: &TicketRow, to: &TicketRow) -> Result<bool, StoreError> {
    let touched = tx
        .run(
            sql!("UPDATE tickets SET status = $1, version = $2, reason = $3, ready_at = $4, changed_at = $5 WHERE org_id = $6 AND id = $7 AND status = $8 AND version = $9"),
            params![to.status, to.version, to.reason, to.ready_at, to.changed_at, from.org_id, from.id, from.status, from.version],
        )
        .await?;
    Ok(touched == 1)
}

/// Which tickets to list; newest order first.
pub(crate) struct Wanted {
    /// Organisations to look into; none means all.
    pub(crate) orgs: Option<AnyOf>,
    pub(crate) restaurant: Option<Uuid>,
    pub(crate) status: Option<TicketStatus>,
    /// The last one of the page before.
    pub(crate) before: Option<Uuid>,
}

pub(crate) async fn list_tickets(db: &Db, wanted: Wanted, limit: i64) -> Result<Vec<TicketRow>, StoreError> {
    List::new(concat!("SELECT ", ticket_columns!(), " FROM tickets"))
        .and_if("org_id = ANY({})", wanted.orgs)
        .and_if("restaurant_id = {}", wanted.restaurant)
        .and_if("status = {}", wanted.status)
        .and_if("id < {}", wanted.before)
        .fetch(db, "id DESC", limit)
        .await
}
