//! All SQL of the notifications service: who is who, what they want, messages, and the mailbox.

use contracts::notifications::MessageState;
use kernel::clock::Timestamp;
use kernel::store::{Db, Json, List, Migration, Scalar, StoreError, Tx};
use kernel::telemetry::{Name, Role, Span};
use kernel::{params, row, sql};
use uuid::Uuid;

use crate::channel::Letter;
use crate::message::MessageStatus;
use crate::preferences::{Preferences, PreferencesRow, Via};

pub(crate) const STEPS: &[Migration] =
    &[Migration { name: "001_notifications", sql: include_str!("../migrations/001_notifications.sql") }];

/// The organisation of what belongs to people and not to a restaurant.
const PEOPLE: Uuid = Uuid::nil();

row! {
    /// Whose order it is, as far as that was heard.
    pub(crate) struct KnownOrder {
        pub(crate) org_id: Uuid,
        pub(crate) order_id: Uuid,
        pub(crate) customer_id: Option<Uuid>,
        pub(crate) code: String,
        pub(crate) restaurant_name: String,
    }
}

row! {
    /// A courier who was found for an order that is not known yet.
    pub(crate) struct HeldRow in "held_couriers" {
        pub(crate) org_id: Uuid,
        pub(crate) event_id: Uuid,
        pub(crate) order_id: Uuid,
        pub(crate) courier: String,
        pub(crate) traceparent: String,
    }
}

row! {
    pub(crate) struct MessageRow in "messages" {
        pub(crate) org_id: Uuid,
        pub(crate) id: Uuid,
        pub(crate) version: i64,
        pub(crate) event_id: Uuid,
        pub(crate) user_id: Uuid,
        pub(crate) order_id: Uuid,
        pub(crate) via: Via,
        pub(crate) template: String,
        pub(crate) address: String,
        pub(crate) title: String,
        pub(crate) body: String,
        pub(crate) status: MessageStatus,
        pub(crate) tries: i64,
        pub(crate) next_try_at: Option<Timestamp>,
        pub(crate) error: Option<String>,
        pub(crate) trace_id: String,
        pub(crate) traceparent: String,
        pub(crate) created_at: Timestamp,
        pub(crate) ended_at: Option<Timestamp>,
    }
}

/// The columns of [`MessageRow`].
macro_rules! message_columns {
    () => {
        "org_id, id, version, event_id, user_id, order_id, via, template, address, title, body, status, tries, next_try_at, error, trace_id, traceparent, created_at, ended_at"
    };
}

impl MessageRow {
    /// The message as it is published.
    pub(crate) fn state(&self, at: Timestamp) -> MessageState {
        MessageState {
            org_id: self.org_id,
            message_id: self.id,
            version: self.version,
            user_id: self.user_id,
            subject_id: self.order_id,
            channel: self.via.word().to_owned(),
            template: self.template.clone(),
            trace_id: self.trace_id.clone(),
            error: self.error.clone(),
            at,
        }
    }

    /// A further step of the trace of the event that it tells of.
    pub(crate) fn span(&self) -> Span {
        Span::after(&self.traceparent, Role::Internal, Name("send a message", ""))
    }
}

row! {
    /// What the mailbox holds.
    pub(crate) struct LetterRow in "mailbox" {
        pub(crate) org_id: Uuid,
        pub(crate) message_id: Uuid,
        pub(crate) user_id: Uuid,
        pub(crate) order_id: Uuid,
        pub(crate) via: Via,
        pub(crate) address: String,
        pub(crate) title: String,
        pub(crate) body: String,
        pub(crate) trace_id: String,
        pub(crate) sent_at: Timestamp,
    }
}

impl LetterRow {
    pub(crate) fn new(letter: &Letter, sent_at: Timestamp) -> Self {
        let Letter { org_id, message_id, user_id, order_id, via, address, title, body, trace_id } = letter.clone();
        Self { org_id, message_id, user_id, order_id, via, address, title, body, trace_id, sent_at }
    }
}

/// Keeps where to reach somebody; what was said last wins, in whatever order it is heard.
pub(crate) async fn put_contact(tx: &Tx, user: Uuid, email: &str, heard_at: Timestamp) -> Result<(), StoreError> {
    let sql = sql!(
        "INSERT INTO contacts (org_id, user_id, email, heard_at) VALUES ($1, $2, $3, $4) ON CONFLICT (org_id, user_id) DO UPDATE SET email = excluded.email, heard_at = excluded.heard_at WHERE contacts.heard_at < excluded.heard_at"
    );
    tx.run(sql, params![PEOPLE, user, *email, heard_at]).await.map(drop)
}

/// Somebody's address.
pub(crate) async fn contact(db: &Db, user: Uuid) -> Result<Option<String>, StoreError> {
    let sql = sql!(Scalar<String>, "SELECT email AS value FROM contacts WHERE org_id = $1 AND user_id = $2");
    Ok(db.maybe(sql, params![PEOPLE, user]).await?.map(|Scalar(email)| email))
}

pub(crate) async fn preferences(db: &Db, user: Uuid) -> Result<Option<Preferences>, StoreError> {
    let sql =
        sql!(PreferencesRow, "SELECT email, sms, push, kinds FROM preferences WHERE org_id = $1 AND user_id = $2");
    Ok(db.maybe(sql, params![PEOPLE, user]).await?.map(Preferences::from))
}

pub(crate) async fn put_preferences(tx: &Tx, user: Uuid, wanted: &Preferences) -> Result<(), StoreError> {
    let sql = sql!(
        "INSERT INTO preferences (org_id, user_id, email, sms, push, kinds, changed_at) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (org_id, user_id) DO UPDATE SET email = excluded.email, sms = excluded.sms, push = excluded.push, kinds = excluded.kinds, changed_at = excluded.changed_at"
    );
    let Preferences { email, sms, push, kinds } = wanted;
    tx.run(sql, params![PEOPLE, user, *email, *sms, *push, Json(kinds.clone()), tx.now()]).await.map(drop)
}

pub(crate) async fn known_order(db: &Db, org: Uuid, order: Uuid) -> Result<Option<KnownOrder>, StoreError> {
    let sql = sql!(
        KnownOrder,
        "SELECT org_id, order_id, customer_id, code, restaurant_name FROM orders_heard WHERE org_id = $1 AND order_id = $2"
    );
    db.maybe(sql, params![org, order]).await
}

/// Keeps whose order it is; whoever asks for it at the same time waits until this is known.
pub(crate) async fn put_order(tx: &Tx, order: &KnownOrder) -> Result<(), StoreError> {
    let sql = sql!(
        "INSERT INTO orders_heard (org_id, order_id, customer_id, code, restaurant_name) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (org_id, order_id) DO UPDATE SET customer_id = excluded.customer_id, code = excluded.code, restaurant_name = excluded.restaurant_name"
    );
    let values = params![order.org_id, order.order_id, order.customer_id, order.code, order.restaurant_name];
    tx.run(sql, values).await.map(drop)
}

/// What is known of an order. If it is nothing, that somebody asked stays behind, so that whoever learns of it sees them.
pub(crate) async fn ask_for_order(tx: &Tx, org: Uuid, order: Uuid) -> Result<KnownOrder, StoreError> {
    let sql = sql!(
        KnownOrder,
        "INSERT INTO orders_heard (org_id, order_id, code, restaurant_name) VALUES ($1, $2, '', '') ON CONFLICT (org_id, order_id) DO UPDATE SET code = orders_heard.code RETURNING org_id, order_id, customer_id, code, restaurant_name"
    );
    tx.one(sql, params![org, order]).await
}

/// Takes out the couriers who wait for an order to be known.
pub(crate) async fn take_held(tx: &Tx, org: Uuid, order: Uuid) -> Result<Vec<HeldRow>, StoreError> {
    let sql = sql!(
        HeldRow,
        "DELETE FROM held_couriers WHERE org_id = $1 AND order_id = $2 RETURNING org_id, event_id, order_id, courier, traceparent"
    );
    tx.all(sql, params![org, order]).await
}

/// Queued messages whose time has come, the longest due first.
pub(crate) async fn due(db: &Db, now: Timestamp, limit: i64) -> Result<Vec<MessageRow>, StoreError> {
    let sql = sql!(
        MessageRow,
        concat!(
            "SELECT ",
            message_columns!(),
            " FROM messages WHERE next_try_at IS NOT NULL AND next_try_at <= $1 ORDER BY next_try_at NULLS LAST, id LIMIT $2"
        )
    );
    db.all(sql, params![now, limit]).await
}

/// Writes what a try led to if nobody else did for the same try; says whether nobody did.
pub(crate) async fn move_message(tx: &Tx, from: &MessageRow, to: &MessageRow) -> Result<bool, StoreError> {
    let sql = sql!(
        "UPDATE messages SET version = $1, status = $2, tries = $3, next_try_at = $4, error = $5, ended_at = $6 WHERE org_id = $7 AND id = $8 AND status = $9 AND tries = $10"
    );
    let values = params![
        to.version,
        to.status,
        to.tries,
        to.next_try_at,
        to.error,
        to.ended_at,
        from.org_id,
        from.id,
        from.status,
        from.tries
    ];
    Ok(tx.run(sql, values).await? == 1)
}

/// Puts a letter into the mailbox unless it is there.
pub(crate) async fn put_in_mailbox(tx: &Tx, letter: &LetterRow) -> Result<(), StoreError> {
    tx.add(letter).await.map(drop)
}

/// Which messages or letters to list; newest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) user: Option<Uuid>,
    pub(crate) order: Option<Uuid>,
    /// Older than this one.
    pub(crate) before: Option<(Timestamp, Uuid)>,
}

pub(crate) async fn mailbox(db: &Db, wanted: Wanted, limit: i64) -> Result<Vec<LetterRow>, StoreError> {
    List::new("SELECT org_id, message_id, user_id, order_id, via, address, title, body, trace_id, sent_at FROM mailbox")
        .and_if("user_id = {}", wanted.user)
        .and_if("order_id = {}", wanted.order)
        .and_pair("(sent_at, message_id) < ({}, {})", wanted.before)
        .fetch(db, "sent_at DESC, message_id DESC", limit)
        .await
}

pub(crate) async fn messages(db: &Db, wanted: Wanted, limit: i64) -> Result<Vec<MessageRow>, StoreError> {
    List::new(concat!("SELECT ", message_columns!(), " FROM messages"))
        .and_if("user_id = {}", wanted.user)
        .and_if("order_id = {}", wanted.order)
        .and_pair("(created_at, id) < ({}, {})", wanted.before)
        .fetch(db, "created_at DESC, id DESC", limit)
        .await
}
