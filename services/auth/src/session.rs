//! A session: how it opens, who may end it, and what is told about it.

use std::time::Duration;

use contracts::auth::{SessionOpened, SessionRevoked, SessionState};
use contracts::permissions::SESSION_END;
use kernel::clock::Timestamp;
use kernel::http::{Caller, Fail};
use kernel::store::{StoreError, Tx};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::store::{self, SessionRow};

/// How long ago somebody may have signed in who ends another's session.
const FRESH: Duration = Duration::from_secs(15 * 60);

kernel::refusals! {
    /// Why a session was not ended.
    pub(crate) enum SessionRefusal {
        /// Ending other people's sessions takes a sign-in of the last 15 minutes; sign in again.
        FreshSignInRequired = 401 "fresh_sign_in_required",
        /// The token belongs to no session, so there is none to end.
        NoSession = 400 "no_session",
    }
}

kernel::words! {
    /// Why a session ended.
    pub(crate) enum Reason {
        /// Its owner ended it.
        Logout = "logout",
        /// A code or refresh token came a second time: somebody else has it.
        Reuse = "reuse",
        /// Staff ended it.
        Admin = "admin",
        /// Its time was over.
        Expired = "expired",
    }
}

/// A session as its owner sees it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct SessionView {
    /// The session.
    pub(crate) id: Uuid,
    /// The program that was signed in with.
    pub(crate) client_id: String,
    /// When somebody signed in.
    pub(crate) opened_at: Timestamp,
    /// When its tokens were renewed last.
    pub(crate) last_used_at: Timestamp,
    /// When it ends at the latest.
    pub(crate) expires_at: Timestamp,
    /// Whether its tokens are still good.
    pub(crate) active: bool,
    /// Why it ended: `logout`, `reuse`, `admin` or `expired`.
    pub(crate) reason: Option<String>,
    /// When it ended.
    pub(crate) ended_at: Option<Timestamp>,
    /// Whether it is the one that asks.
    pub(crate) current: bool,
}

impl SessionView {
    /// What a caller sees of one of their sessions.
    pub(crate) fn of(row: SessionRow, caller: &Caller) -> Self {
        let SessionRow { id, client_id, opened_at, last_used_at, expires_at, active, reason, ended_at, .. } = row;
        let current = caller.session == Some(id);
        Self { id, client_id, opened_at, last_used_at, expires_at, active, reason, ended_at, current }
    }
}

/// Opens a session.
pub(crate) async fn open(tx: &Tx, session: &SessionRow) -> Result<(), StoreError> {
    tx.insert(session).await?;
    tx.emit(SessionOpened(state(session, session.opened_at)))
}

/// Ends a session, unless it has ended already; says whether it was this that ended it.
pub(crate) async fn end(tx: &Tx, session: &SessionRow, why: Reason) -> Result<bool, StoreError> {
    let now = tx.now();
    if !session.active || !store::end_session(tx, session.id, session.version, why.word(), now).await? {
        return Ok(false);
    }
    let ended = SessionRow {
        version: session.version + 1,
        active: false,
        reason: Some(why.word().to_owned()),
        ended_at: Some(now),
        ..session.clone()
    };
    tx.emit(SessionRevoked(state(&ended, now)))?;
    Ok(true)
}

/// Why this caller may end this session, or why not.
pub(crate) fn may_end(caller: &Caller, session: &SessionRow, now: Timestamp) -> Result<Reason, Fail> {
    if session.user_id == caller.id() {
        return Ok(Reason::Logout);
    }
    if !SESSION_END.roles.iter().any(|role| caller.has(role)) {
        return Err(Fail::not_found());
    }
    caller.signed_in_within(FRESH, now).map_err(|_| SessionRefusal::FreshSignInRequired)?;
    Ok(Reason::Admin)
}

fn state(session: &SessionRow, at: Timestamp) -> SessionState {
    SessionState {
        session_id: session.id,
        user_id: session.user_id,
        version: session.version,
        active: session.active,
        reason: session.reason.clone(),
        at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{START, caller, session_of};

    #[test]
    fn people_end_their_own_sessions_and_staff_that_of_others_after_a_fresh_sign_in() {
        let (ann, bob) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let session = session_of(ann);
        let judged = |who: Uuid, role: &str, now: Timestamp| match may_end(&caller(who, role), &session, now) {
            Ok(reason) => reason.word().to_owned(),
            Err(Fail::Refused(problem)) => problem.code.into_owned(),
            Err(other) => panic!("{other:?}"),
        };
        let later = START.plus(FRESH + Duration::from_secs(1));
        assert_eq!(judged(ann, "CUSTOMER", later), "logout");
        assert_eq!(judged(bob, "CUSTOMER", START), "not_found");
        assert_eq!(judged(bob, "RESTAURANT_OWNER", START), "not_found");
        assert_eq!(judged(bob, "SUPPORT", START), "admin");
        assert_eq!(judged(bob, "ADMIN", START.plus(FRESH)), "admin");
        assert_eq!(judged(bob, "ADMIN", later), "fresh_sign_in_required");
    }
}
