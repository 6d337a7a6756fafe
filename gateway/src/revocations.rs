//! Sessions and users whose tokens stopped counting before they expired.

use std::collections::HashMap;
use std::sync::Arc;

use kernel::clock::Timestamp;
use parking_lot::RwLock;
use uuid::Uuid;

/// What was revoked. Clones share one list: one side feeds it, the gateway asks it for every request.
#[derive(Clone, Debug, Default)]
pub struct Revocations(Arc<RwLock<Lists>>);

#[derive(Debug, Default)]
struct Lists {
    // Session → until when it must be remembered.
    sessions: HashMap<Uuid, i64>,
    // User → tokens issued before this do not count, and until when that must be remembered.
    users: HashMap<Uuid, (i64, i64)>,
}

impl Revocations {
    /// Ends a session. `keep_until` is when its last token has expired.
    pub fn revoke_session(&self, session: Uuid, keep_until: Timestamp) {
        let mut lists = self.0.write();
        let until = lists.sessions.entry(session).or_default();
        *until = (*until).max(keep_until.seconds());
    }

    /// Ends every token of a user that was issued before `not_before`.
    pub fn revoke_user(&self, user: Uuid, not_before: Timestamp, keep_until: Timestamp) {
        let mut lists = self.0.write();
        let (before, until) = lists.users.entry(user).or_default();
        *before = (*before).max(not_before.seconds());
        *until = (*until).max(keep_until.seconds());
    }

    /// Drops what no living token can be about any more.
    pub fn forget(&self, now: Timestamp) {
        let mut lists = self.0.write();
        lists.sessions.retain(|_, until| *until >= now.seconds());
        lists.users.retain(|_, (_, until)| *until >= now.seconds());
    }

    /// Whether a token of this user and session, issued then, no longer counts.
    pub fn revoked(&self, user: Uuid, session: Option<Uuid>, issued_at: i64) -> bool {
        let lists = self.0.read();
        session.is_some_and(|session| lists.sessions.contains_key(&session))
            || lists.users.get(&user).is_some_and(|(before, _)| issued_at < *before)
    }
}
