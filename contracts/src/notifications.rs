//! What `notifications` says: a message went out, or could not.

use kernel::clock::Timestamp;
use kernel::events::{Payload, Subject};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One message to one person over one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MessageState {
    /// The restaurant's organisation.
    pub org_id: Uuid,
    /// The message.
    pub message_id: Uuid,
    /// Counts steps from 1.
    pub version: i64,
    /// Who is told.
    pub user_id: Uuid,
    /// What it is about, usually an order.
    pub subject_id: Uuid,
    /// `email`, `sms` or `push`.
    pub channel: String,
    /// The template that was used.
    pub template: String,
    /// The trace that set it off.
    pub trace_id: String,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// When this happened.
    pub at: Timestamp,
}

impl Payload for MessageState {
    fn subject(&self) -> Subject {
        Subject { org: self.org_id, id: self.message_id, version: self.version }
    }
}

kernel::events! {
    publisher "notifications", topic "notifications.events", aggregate "message";
    /// A message was handed to its channel.
    "notification.sent" v 1 [] => NotificationSent(MessageState);
    /// A message could not be handed to its channel and will not be tried again.
    "notification.failed" v 1 [] => NotificationFailed(MessageState);
}
