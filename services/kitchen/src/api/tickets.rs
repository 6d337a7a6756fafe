//! Handlers about tickets: listing, accepting, refusing, finishing.

use std::sync::Arc;

use garde::Validate;
use kernel::clock::Timestamp;
use kernel::http::{Body, Caller, Fail, Json, Page, Path, Query};
use kernel::store::Tx;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{may_work, own_orgs};
use crate::Kitchen;
use crate::needs::TicketLine;
use crate::steps::{self, Note, Outcome, in_minutes};
use crate::store::{self, TicketRow, Wanted};
use crate::ticket::{Refusal, Step, TicketStatus};

/// Which tickets to show, newest order first.
#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListTickets {
    /// Only those that stand here.
    #[garde(skip)]
    status: Option<TicketStatus>,
    /// Only those of this restaurant.
    #[garde(skip)]
    restaurant_id: Option<Uuid>,
    /// How many to give at most.
    #[serde(default = "page_size")]
    #[garde(range(min = 1, max = 100))]
    page_size: i64,
    /// Where the page before ended.
    #[garde(skip)]
    page_token: Option<Uuid>,
}

fn page_size() -> i64 {
    20
}

/// An order as the kitchen sees it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TicketView {
    /// The order.
    order_id: Uuid,
    /// The restaurant.
    restaurant_id: Uuid,
    /// For people to say, such as `ORD-7K3QD`.
    code: String,
    /// Where it stands.
    status: TicketStatus,
    /// What to cook.
    lines: Vec<TicketLine>,
    /// Why it was refused.
    reason: Option<String>,
    /// Until when it can be accepted, where somebody has to.
    accept_by: Option<Timestamp>,
    /// When the food is likely ready.
    ready_at: Option<Timestamp>,
    /// When it reached the kitchen.
    opened_at: Timestamp,
    /// When it reached this status.
    changed_at: Timestamp,
}

impl From<TicketRow> for TicketView {
    fn from(row: TicketRow) -> Self {
        Self {
            order_id: row.id,
            restaurant_id: row.restaurant_id,
            code: row.code,
            status: row.status,
            lines: row.lines.0,
            reason: row.reason,
            accept_by: row.accept_by,
            ready_at: row.ready_at,
            opened_at: row.opened_at,
            changed_at: row.changed_at,
        }
    }
}

pub(crate) async fn list_tickets(
    state: Arc<Kitchen>,
    caller: Caller,
    Query(list): Query<ListTickets>,
) -> Result<Json<Page<TicketView>>, Fail> {
    let wanted = Wanted {
        orgs: own_orgs(&caller),
        restaurant: list.restaurant_id,
        status: list.status,
        before: list.page_token,
    };
    let rows = store::list_tickets(&state.store.read(), wanted, list.page_size + 1).await?;
    let page = Page::cut(rows, list.page_size, |last| last.id.simple().to_string());
    Ok(Json(page.map(TicketView::from)))
}

/// Which ticket.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct TicketPath {
    /// The order.
    pub(crate) order_id: Uuid,
}

/// A yes.
#[derive(Debug, Default, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct Acceptance {
    /// How long it will take; the restaurant's usual time if absent.
    #[serde(default)]
    #[garde(range(min = 1, max = 240))]
    pub(crate) ready_in_minutes: Option<i64>,
}

pub(crate) async fn accept_ticket(
    tx: Tx,
    _: Arc<Kitchen>,
    caller: Caller,
    Path(path): Path<TicketPath>,
    Body(yes): Body<Acceptance>,
) -> Result<Json<TicketView>, Fail> {
    let ticket = workable(&tx, &caller, path.order_id).await?;
    let ready_at = in_minutes(&tx, yes.ready_in_minutes.unwrap_or(ticket.prep_minutes));
    let note = Note { ready_at: Some(ready_at), ..Note::default() };
    take(&tx, &ticket, Step::Accept, note, Refusal::TicketNotOpen).await
}

/// A no.
#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rejection {
    /// Why; the customer reads it.
    #[garde(length(min = 1, max = 200), custom(plain_text))]
    pub(crate) reason: String,
}

fn plain_text<C>(text: &str, _: &C) -> garde::Result {
    if text.trim().is_empty() {
        return Err(garde::Error::new("must not be blank"));
    }
    if kernel::cards::looks_like_a_card(text) {
        return Err(garde::Error::new("looks like a card number, which does not belong here"));
    }
    Ok(())
}

pub(crate) async fn reject_ticket(
    tx: Tx,
    _: Arc<Kitchen>,
    caller: Caller,
    Path(path): Path<TicketPath>,
    Body(no): Body<Rejection>,
) -> Result<Json<TicketView>, Fail> {
    let ticket = workable(&tx, &caller, path.order_id).await?;
    let note = Note { reason: Some(no.reason), ..Note::default() };
    take(&tx, &ticket, Step::Reject, note, Refusal::TicketNotOpen).await
}

pub(crate) async fn finish_ticket(
    tx: Tx,
    _: Arc<Kitchen>,
    caller: Caller,
    Path(path): Path<TicketPath>,
) -> Result<Json<TicketView>, Fail> {
    let ticket = workable(&tx, &caller, path.order_id).await?;
    let note = Note { ready_at: Some(tx.now()), ..Note::default() };
    take(&tx, &ticket, Step::Finish, note, Refusal::TicketNotCooking).await
}

/// The ticket, if the caller may work on it.
async fn workable(tx: &Tx, caller: &Caller, order: Uuid) -> Result<TicketRow, Fail> {
    let found = store::ticket_by_id(tx, order).await?;
    found.filter(|ticket| may_work(caller, ticket.org_id)).ok_or_else(Fail::not_found)
}

async fn take(
    tx: &Tx,
    ticket: &TicketRow,
    step: Step,
    note: Note,
    otherwise: Refusal,
) -> Result<Json<TicketView>, Fail> {
    match steps::take(tx, ticket, step, note).await? {
        Outcome::Taken(now) => Ok(Json(TicketView::from(*now))),
        Outcome::Impossible => Err(otherwise.problem().with("status", ticket.status.word()).into()),
        Outcome::Overtaken => Err(Fail::Busy),
    }
}
