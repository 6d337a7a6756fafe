//! The routes of the notifications service, and their handlers in table order.

use std::sync::Arc;

use contracts::permissions::MESSAGE_WATCH;
use garde::Validate;
use kernel::clock::Timestamp;
use kernel::http::page::{read_token, write_token};
use kernel::http::{Body, Caller, Fail, Json, Page, Query, Routes};
use kernel::manifest::Access::{May, SignedIn};
use kernel::store::Tx;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Notifications;
use crate::message::MessageStatus;
use crate::preferences::{Preferences, Via};
use crate::store::{self, LetterRow, MessageRow, Wanted};

pub(crate) fn routes() -> Routes<Notifications> {
    Routes::new()
        .get("/api/v1/notifications", SignedIn, "Look into one's mailbox", list_notifications)
        .get("/api/v1/notifications/all", May(MESSAGE_WATCH), "List messages to anybody", list_messages)
        .get("/api/v1/notifications/preferences", SignedIn, "Show what one is told, and how", show_preferences)
        .put("/api/v1/notifications/preferences", SignedIn, "Say what one is told, and how", put_preferences)
}

/// Which messages to show, newest first.
#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListNotifications {
    /// Only those about this order.
    #[garde(skip)]
    order_id: Option<Uuid>,
    /// How many to give at most.
    #[serde(default = "page_size")]
    #[garde(range(min = 1, max = 100))]
    page_size: i64,
    /// Where to go on: `next_page_token` of the page before.
    #[garde(length(max = 100))]
    page_token: Option<String>,
}

fn page_size() -> i64 {
    20
}

/// A message that has arrived.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct NotificationView {
    /// The message.
    message_id: Uuid,
    /// The order that it is about.
    order_id: Uuid,
    /// How it came.
    channel: Via,
    /// What it says first.
    title: String,
    /// What it says.
    body: String,
    /// The trace of what it tells of.
    trace_id: String,
    /// When it came.
    sent_at: Timestamp,
}

impl From<LetterRow> for NotificationView {
    fn from(row: LetterRow) -> Self {
        Self {
            message_id: row.message_id,
            order_id: row.order_id,
            channel: row.via,
            title: row.title,
            body: row.body,
            trace_id: row.trace_id,
            sent_at: row.sent_at,
        }
    }
}

pub(crate) async fn list_notifications(
    state: Arc<Notifications>,
    caller: Caller,
    Query(list): Query<ListNotifications>,
) -> Result<Json<Page<NotificationView>>, Fail> {
    let before = read_token(list.page_token.as_deref())?;
    let wanted = Wanted { user: Some(caller.id()), order: list.order_id, before };
    let rows = store::mailbox(&state.store.read(), wanted, list.page_size + 1).await?;
    let page = Page::cut(rows, list.page_size, |row| write_token((row.sent_at, row.message_id)));
    Ok(Json(page.map(NotificationView::from)))
}

/// Whose messages to show, newest first.
#[derive(Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListMessages {
    /// Only those to this person.
    #[garde(skip)]
    user_id: Option<Uuid>,
    /// Only those about this order.
    #[garde(skip)]
    order_id: Option<Uuid>,
    /// How many to give at most.
    #[serde(default = "page_size")]
    #[garde(range(min = 1, max = 100))]
    page_size: i64,
    /// Where to go on: `next_page_token` of the page before.
    #[garde(length(max = 100))]
    page_token: Option<String>,
}

/// A message and how sending it went.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct MessageView {
    /// The message.
    message_id: Uuid,
    /// The event that it tells of.
    event_id: Uuid,
    /// Who is told.
    user_id: Uuid,
    /// The order that it is about.
    order_id: Uuid,
    /// How.
    channel: Via,
    /// The text that was filled in.
    template: String,
    /// Where it goes.
    address: String,
    /// What it says first.
    title: String,
    /// What it says.
    body: String,
    /// Where it stands.
    status: MessageStatus,
    /// How often its channel was tried.
    tries: i64,
    /// When its channel is tried next.
    next_try_at: Option<Timestamp>,
    /// What the channel said the last time it did not take it.
    error: Option<String>,
    /// The trace of what it tells of.
    trace_id: String,
    /// When it was written down.
    created_at: Timestamp,
    /// When it was sent or had failed.
    ended_at: Option<Timestamp>,
}

impl From<MessageRow> for MessageView {
    fn from(row: MessageRow) -> Self {
        Self {
            message_id: row.id,
            event_id: row.event_id,
            user_id: row.user_id,
            order_id: row.order_id,
            channel: row.via,
            template: row.template,
            address: row.address,
            title: row.title,
            body: row.body,
            status: row.status,
            tries: row.tries,
            next_try_at: row.next_try_at,
            error: row.error,
            trace_id: row.trace_id,
            created_at: row.created_at,
            ended_at: row.ended_at,
        }
    }
}

pub(crate) async fn list_messages(
    state: Arc<Notifications>,
    Query(list): Query<ListMessages>,
) -> Result<Json<Page<MessageView>>, Fail> {
    let before = read_token(list.page_token.as_deref())?;
    let wanted = Wanted { user: list.user_id, order: list.order_id, before };
    let rows = store::messages(&state.store.read(), wanted, list.page_size + 1).await?;
    let page = Page::cut(rows, list.page_size, |row| write_token((row.created_at, row.id)));
    Ok(Json(page.map(MessageView::from)))
}

pub(crate) async fn show_preferences(state: Arc<Notifications>, caller: Caller) -> Result<Json<Preferences>, Fail> {
    Ok(Json(store::preferences(&state.store.read(), caller.id()).await?.unwrap_or_default()))
}

pub(crate) async fn put_preferences(
    tx: Tx,
    _: Arc<Notifications>,
    caller: Caller,
    Body(wanted): Body<Preferences>,
) -> Result<Json<Preferences>, Fail> {
    store::put_preferences(&tx, caller.id(), &wanted).await?;
    Ok(Json(wanted))
}
