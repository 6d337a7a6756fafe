//! Grants: a code or a refresh token becomes the right to tokens, once, and its theft is noticed.
//!
//! A refused grant may still change something (it ends the session of a stolen token), so refusals are values here
//! and their unit commits.

use std::time::Duration;

use kernel::clock::Timestamp;
use kernel::store::{StoreError, Tx};
use uuid::Uuid;

use crate::authorization::verifies;
use crate::opaque::Opaque;
use crate::seal::Sealer;
use crate::session::{self, Reason};
use crate::store::{self, AccountRow, CodeRow, PLATFORM, RefreshRow, SessionRow};

/// How long a code may travel.
pub(crate) const CODE_LIFE: Duration = Duration::from_secs(60);
/// How long after its rotation a refresh token still gives its successor: a lost answer is not a theft.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// The right to tokens.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) account: AccountRow,
    pub(crate) session: SessionRow,
    pub(crate) nonce: Option<String>,
    /// What gets the next tokens.
    pub(crate) refresh: Opaque,
}

/// Why there are no tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is no such code or token, or not any more.
    Unknown,
    /// It is too old.
    Expired,
    /// It was given to another client, for another address or under another challenge.
    NotYours,
    /// It was used before; its session has ended.
    Reused,
    /// Its session had ended before.
    SessionEnded,
}

impl Refused {
    /// The word for metrics and logs. Callers are told all of these alike.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::NotYours => "not_yours",
            Self::Reused => "reused",
            Self::SessionEnded => "session_ended",
        }
    }
}

type Verdict = Result<Grant, Refused>;

/// A code as a client brings it.
#[derive(Clone, Debug)]
pub(crate) struct BroughtCode {
    pub(crate) code: Opaque,
    pub(crate) client_id: String,
    pub(crate) redirect_uri: String,
    pub(crate) verifier: String,
}

/// What a new session is made with. Chosen before the unit, which may run twice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewSession {
    pub(crate) id: Uuid,
    pub(crate) refresh: Opaque,
    pub(crate) life: Duration,
}

/// Uses a code: opens its session, or ends the one it opened before.
pub(crate) async fn redeem(tx: &Tx, brought: &BroughtCode, new: &NewSession) -> Result<Verdict, StoreError> {
    let hash = brought.code.hash();
    let Some(code) = store::code(tx, &hash).await? else { return Ok(Err(Refused::Unknown)) };
    if let Some(session) = code.session_id {
        return stolen(tx, session).await.map(Err);
    }
    if let Err(refused) = judge_code(&code, brought, tx.now()) {
        return Ok(Err(refused));
    }
    let Some(account) = store::account(tx, code.user_id).await? else { return Ok(Err(Refused::Unknown)) };
    if !store::use_code(tx, &hash, new.id, tx.now()).await? {
        // Somebody used it since it was read above: then this is the second use.
        let session = store::code(tx, &hash).await?.and_then(|code| code.session_id);
        return match session {
            Some(session) => stolen(tx, session).await.map(Err),
            None => Ok(Err(Refused::Unknown)),
        };
    }
    let session = opened(&code, new, tx.now());
    tx.insert(&current_token(&new.refresh, session.id, tx.now())).await?;
    session::open(tx, &session).await?;
    Ok(Ok(Grant { account, session, nonce: code.nonce, refresh: new.refresh }))
}

fn judge_code(code: &CodeRow, brought: &BroughtCode, now: Timestamp) -> Result<(), Refused> {
    let same = code.client_id == brought.client_id && code.redirect_uri == brought.redirect_uri;
    if !same || !verifies(&brought.verifier, &code.challenge) {
        return Err(Refused::NotYours);
    }
    if code.expires_at <= now { Err(Refused::Expired) } else { Ok(()) }
}

fn opened(code: &CodeRow, new: &NewSession, now: Timestamp) -> SessionRow {
    SessionRow {
        org_id: PLATFORM,
        id: new.id,
        user_id: code.user_id,
        client_id: code.client_id.clone(),
        scope: code.scope.clone(),
        version: 1,
        active: true,
        reason: None,
        auth_time: code.auth_time,
        opened_at: now,
        last_used_at: now,
        expires_at: now.plus(new.life),
        ended_at: None,
    }
}

fn current_token(token: &Opaque, session_id: Uuid, now: Timestamp) -> RefreshRow {
    RefreshRow {
        org_id: PLATFORM,
        token_hash: token.hash(),
        session_id,
        created_at: now,
        rotated_at: None,
        successor: None,
    }
}

/// Uses a refresh token: rotates it, repeats its rotation, or ends its session. `next` becomes the successor.
pub(crate) async fn refresh(tx: &Tx, token: &Opaque, client_id: &str, next: &Opaque) -> Result<Verdict, StoreError> {
    let hash = token.hash();
    let Some(mut row) = store::refresh_token(tx, &hash).await? else { return Ok(Err(Refused::Unknown)) };
    let Some(session) = store::session(tx, row.session_id).await? else { return Ok(Err(Refused::Unknown)) };
    if let Err(refused) = judge_session(tx, &session, client_id).await? {
        return Ok(Err(refused));
    }
    let Some(account) = store::account(tx, session.user_id).await? else { return Ok(Err(Refused::Unknown)) };
    let mut granted = None;
    if row.rotated_at.is_none() {
        if store::rotate(tx, &hash, sealer(token).seal(next.bytes()), tx.now()).await? {
            tx.insert(&current_token(next, session.id, tx.now())).await?;
            granted = Some(*next);
        } else if let Some(again) = store::refresh_token(tx, &hash).await? {
            // Somebody rotated it since it was read above: this is the parallel request.
            row = again;
        }
    }
    match granted.or_else(|| successor(token, &row, tx.now())) {
        None => stolen(tx, session.id).await.map(Err),
        Some(refresh) => {
            store::touch_session(tx, session.id, tx.now()).await?;
            Ok(Ok(Grant { account, session, nonce: None, refresh }))
        }
    }
}

async fn judge_session(tx: &Tx, session: &SessionRow, client_id: &str) -> Result<Result<(), Refused>, StoreError> {
    if session.client_id != client_id {
        return Ok(Err(Refused::NotYours));
    }
    if !session.active {
        return Ok(Err(Refused::SessionEnded));
    }
    if session.expires_at <= tx.now() {
        session::end(tx, session, Reason::Expired).await?;
        return Ok(Err(Refused::SessionEnded));
    }
    Ok(Ok(()))
}

/// The successor that was given out, as long as it may be asked for again.
fn successor(token: &Opaque, row: &RefreshRow, now: Timestamp) -> Option<Opaque> {
    let rotated_at = row.rotated_at.filter(|at| now <= at.plus(GRACE));
    rotated_at
        .and(row.successor.as_deref())
        .and_then(|sealed| sealer(token).open(sealed))
        .and_then(|b| Opaque::from_bytes(&b))
}

/// Only who has the token itself can make the key: the database alone does not give the successor away.
fn sealer(token: &Opaque) -> Sealer {
    Sealer::new(token.bytes(), "successor")
}

/// Two parties hold what one should: nobody can tell which is the right one, so the session ends.
async fn stolen(tx: &Tx, session: Uuid) -> Result<Refused, StoreError> {
    if let Some(session) = store::session(tx, session).await?
        && session::end(tx, &session, Reason::Reuse).await?
    {
        tracing::warn!(session.id = %session.id, user.id = %session.user_id, "a code or refresh token came a second time; its session ends");
    }
    Ok(Refused::Reused)
}

/// Ends the session of a refresh token at its holder's wish (RFC 7009). An unknown token is as good as ended.
pub(crate) async fn revoke(tx: &Tx, token: &Opaque, client_id: &str) -> Result<Result<(), Refused>, StoreError> {
    let Some(row) = store::refresh_token(tx, &token.hash()).await? else { return Ok(Ok(())) };
    let Some(session) = store::session(tx, row.session_id).await? else { return Ok(Ok(())) };
    if session.client_id != client_id {
        return Ok(Err(Refused::NotYours));
    }
    session::end(tx, &session, Reason::Logout).await?;
    Ok(Ok(()))
}

#[cfg(test)]
mod tests;
