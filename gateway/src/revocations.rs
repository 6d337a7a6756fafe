//! Sessions and users whose tokens stopped counting before they expired.

use std::collections::HashMap;
use std::sync::Arc;

use kernel::clock::Timestamp;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use uuid::Uuid;

/// What was revoked. Clones share one list: one side feeds it, the gateway asks it for every request.
#[derive(Clone, Debug, Default)]
pub struct Revocations(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    lists: RwLock<Lists>,
    /// What other gateways have not been told; kept once somebody asked for it.
    news: Mutex<Option<Vec<Revoked>>>,
    told: Notify,
}

#[derive(Debug, Default)]
struct Lists {
    // Session → until when it must be remembered.
    sessions: HashMap<Uuid, i64>,
    // User → tokens issued before this do not count, and until when that must be remembered.
    users: HashMap<Uuid, (i64, i64)>,
}

/// One revocation, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Revoked {
    Session { id: Uuid, until: i64 },
    User { id: Uuid, before: i64, until: i64 },
}

impl Revocations {
    /// Ends a session. `keep_until` is when its last token has expired.
    pub fn revoke_session(&self, session: Uuid, keep_until: Timestamp) {
        self.tell(Revoked::Session { id: session, until: keep_until.seconds() });
    }

    /// Ends every token of a user that was issued before `not_before`.
    pub fn revoke_user(&self, user: Uuid, not_before: Timestamp, keep_until: Timestamp) {
        self.tell(Revoked::User { id: user, before: not_before.seconds(), until: keep_until.seconds() });
    }

    fn tell(&self, revoked: Revoked) {
        self.learn(revoked);
        if let Some(news) = self.0.news.lock().as_mut() {
            news.push(revoked);
            self.0.told.notify_one();
        }
    }

    /// Takes over what another gateway knows.
    pub(crate) fn learn(&self, revoked: Revoked) {
        let mut lists = self.0.lists.write();
        match revoked {
            Revoked::Session { id, until } => {
                let known = lists.sessions.entry(id).or_default();
                *known = until.max(*known);
            }
            Revoked::User { id, before, until } => {
                let known = lists.users.entry(id).or_default();
                *known = (before.max(known.0), until.max(known.1));
            }
        }
    }

    /// Drops what no living token can be about any more.
    pub fn forget(&self, now: Timestamp) {
        let mut lists = self.0.lists.write();
        lists.sessions.retain(|_, until| *until >= now.seconds());
        lists.users.retain(|_, (_, until)| *until >= now.seconds());
    }

    /// Whether a token of this user and session, issued then, no longer counts.
    pub fn revoked(&self, user: Uuid, session: Option<Uuid>, issued_at: i64) -> bool {
        let lists = self.0.lists.read();
        session.is_some_and(|session| lists.sessions.contains_key(&session))
            || lists.users.get(&user).is_some_and(|(before, _)| issued_at < *before)
    }

    /// What was told here since the last time somebody asked.
    pub(crate) fn news(&self) -> Vec<Revoked> {
        self.0.news.lock().replace(Vec::new()).unwrap_or_default()
    }

    /// Waits until something was told here.
    pub(crate) async fn told(&self) {
        self.0.told.notified().await;
    }

    /// Everything that is known here.
    pub(crate) fn all(&self) -> Vec<Revoked> {
        let lists = self.0.lists.read();
        let sessions = lists.sessions.iter().map(|(id, until)| Revoked::Session { id: *id, until: *until });
        let users =
            lists.users.iter().map(|(id, (before, until))| Revoked::User { id: *id, before: *before, until: *until });
        sessions.chain(users).collect()
    }
}
