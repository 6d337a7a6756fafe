//! What `auth` says: sessions that ended and keys that changed.

use kernel::clock::Timestamp;
use kernel::events::{Payload, Subject};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A portal session: one sign-in on one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionState {
    /// The session.
    pub session_id: Uuid,
    /// Whose it is.
    pub user_id: Uuid,
    /// 1 when opened, higher after each change.
    pub version: i64,
    /// Whether tokens of this session are still good.
    pub active: bool,
    /// Why it ended: `logout`, `reuse`, `admin`, `expired`.
    #[serde(default)]
    pub reason: Option<String>,
    /// When this happened.
    pub at: Timestamp,
}

impl Payload for SessionState {
    fn subject(&self) -> Subject {
        Subject { org: Uuid::nil(), id: self.session_id, version: self.version }
    }
}

kernel::events! {
    publisher "auth", topic "auth.events", aggregate "session";
    /// Somebody signed in.
    "session.opened" v 1 [] => SessionOpened(SessionState);
    /// A session ended; its tokens are no longer good.
    "session.revoked" v 1 [] => SessionRevoked(SessionState);
}
