//! All SQL of this service.

use kernel::clock::Timestamp;
use kernel::store::{Db, Json, List, Migration, StoreError, Tx, any};
use kernel::{params, row, sql};
use uuid::Uuid;

/// The schema, step by step.
pub(crate) const STEPS: &[Migration] =
    &[Migration { name: "001_auth", sql: include_str!("../migrations/001_auth.sql") }];

/// The organisation of rows that belong to no organisation: all of them here.
pub(crate) const PLATFORM: Uuid = Uuid::nil();

row! {
    /// A person who can sign in.
    pub(crate) struct AccountRow in "accounts" {
        pub(crate) org_id: Uuid,
        pub(crate) id: Uuid,
        pub(crate) email: String,
        pub(crate) email_folded: String,
        pub(crate) name: String,
        pub(crate) password_hash: String,
        pub(crate) roles: Json<Vec<String>>,
        pub(crate) orgs: Json<Vec<Uuid>>,
        pub(crate) created_at: Timestamp,
    }
}

row! {
    /// One sign-in on one device.
    pub(crate) struct SessionRow in "sessions" {
        pub(crate) org_id: Uuid,
        pub(crate) id: Uuid,
        pub(crate) user_id: Uuid,
        pub(crate) client_id: String,
        pub(crate) scope: String,
        pub(crate) version: i64,
        pub(crate) active: bool,
        pub(crate) reason: Option<String>,
        pub(crate) auth_time: Timestamp,
        pub(crate) opened_at: Timestamp,
        pub(crate) last_used_at: Timestamp,
        pub(crate) expires_at: Timestamp,
        pub(crate) ended_at: Option<Timestamp>,
    }
}

row! {
    /// A code on its way to the client, or one that was used.
    pub(crate) struct CodeRow in "auth_codes" {
        pub(crate) org_id: Uuid,
        pub(crate) code_hash: Vec<u8>,
        pub(crate) user_id: Uuid,
        pub(crate) client_id: String,
        pub(crate) redirect_uri: String,
        pub(crate) scope: String,
        pub(crate) nonce: Option<String>,
        pub(crate) challenge: String,
        pub(crate) auth_time: Timestamp,
        pub(crate) expires_at: Timestamp,
        pub(crate) used_at: Option<Timestamp>,
        pub(crate) session_id: Option<Uuid>,
    }
}

row! {
    /// A refresh token, current or rotated.
    pub(crate) struct RefreshRow in "refresh_tokens" {
        pub(crate) org_id: Uuid,
        pub(crate) token_hash: Vec<u8>,
        pub(crate) session_id: Uuid,
        pub(crate) created_at: Timestamp,
        pub(crate) rotated_at: Option<Timestamp>,
        pub(crate) successor: Option<Vec<u8>>,
    }
}

row! {
    /// A signing key with its private half sealed.
    pub(crate) struct KeyRow in "signing_keys" {
        pub(crate) org_id: Uuid,
        pub(crate) kid: String,
        pub(crate) private_key: Vec<u8>,
        pub(crate) modulus: Vec<u8>,
        pub(crate) exponent: Vec<u8>,
        pub(crate) published_at: Timestamp,
        pub(crate) signs_from: Timestamp,
    }
}

row! {
    struct IdRow { id: Uuid }
}

pub(crate) async fn account(db: &Db, id: Uuid) -> Result<Option<AccountRow>, StoreError> {
    db.maybe(
        sql!(AccountRow, "SELECT org_id, id, email, email_folded, name, password_hash, roles, orgs, created_at FROM accounts WHERE org_id = $1 AND id = $2"),
        params![PLATFORM, id],
    )
    .await
}

pub(crate) async fn account_by_email(db: &Db, folded: &str) -> Result<Option<AccountRow>, StoreError> {
    db.maybe(
        sql!(AccountRow, "SELECT org_id, id, email, email_folded, name, password_hash, roles, orgs, created_at FROM accounts WHERE org_id = $1 AND email_folded = $2"),
        params![PLATFORM, folded.to_owned()],
    )
    .await
}

/// Those of `ids` that have an account.
pub(crate) async fn known_accounts(db: &Db, ids: &[Uuid]) -> Result<Vec<Uuid>, StoreError> {
    let rows = db
        .all(sql!(IdRow, "SELECT id FROM accounts WHERE org_id = $1 AND id = ANY($2)"), params![PLATFORM, any(ids)])
        .await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

pub(crate) async fn rename(tx: &Tx, id: Uuid, name: &str) -> Result<bool, StoreError> {
    let text = sql!("UPDATE accounts SET name = $1 WHERE org_id = $2 AND id = $3");
    Ok(tx.run(text, params![name.to_owned(), PLATFORM, id]).await? == 1)
}

pub(crate) async fn session(db: &Db, id: Uuid) -> Result<Option<SessionRow>, StoreError> {
    db.maybe(
        sql!(SessionRow, "SELECT org_id, id, user_id, client_id, scope, version, active, reason, auth_time, opened_at, last_used_at, expires_at, ended_at FROM sessions WHERE org_id = $1 AND id = $2"),
        params![PLATFORM, id],
    )
    .await
}

/// A person's sessions, newest first, after this one.
pub(crate) async fn sessions_of(
    db: &Db,
    user: Uuid,
    after: Option<(Timestamp, Uuid)>,
    limit: i64,
) -> Result<Vec<SessionRow>, StoreError> {
    List::new("SELECT org_id, id, user_id, client_id, scope, version, active, reason, auth_time, opened_at, last_used_at, expires_at, ended_at FROM sessions")
        .and("org_id = {}", PLATFORM)
        .and("user_id = {}", user)
        .and_pair("(opened_at, id) < ({}, {})", after)
        .fetch(db, "opened_at DESC, id DESC", limit)
        .await
}

/// Active sessions whose time is over.
pub(crate) async fn sessions_due(db: &Db, now: Timestamp, limit: i64) -> Result<Vec<Uuid>, StoreError> {
    let rows = db
        .all(
            sql!(
                IdRow,
                "SELECT id FROM sessions WHERE org_id = $1 AND active AND expires_at <= $2 ORDER BY expires_at LIMIT $3"
            ),
            params![PLATFORM, now, limit],
        )
        .await?;
    Ok(rows.into_iter().map(|row| row.id).collect())
}

/// Ends an active session of this version; says whether it was still there to end.
pub(crate) async fn end_session(
    tx: &Tx,
    id: Uuid,
    version: i64,
    reason: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let text = sql!(
        "UPDATE sessions SET active = FALSE, version = version + 1, reason = $1, ended_at = $2 WHERE org_id = $3 AND id = $4 AND version = $5 AND active"
    );
    Ok(tx.run(text, params![reason.to_owned(), now, PLATFORM, id, version]).await? == 1)
}

/// Notes a sign of life. It is not a change that anybody is told of, so the version stays.
pub(crate) async fn touch_session(tx: &Tx, id: Uuid, now: Timestamp) -> Result<(), StoreError> {
    let text = sql!("UPDATE sessions SET last_used_at = $1 WHERE org_id = $2 AND id = $3");
    tx.run(text, params![now, PLATFORM, id]).await.map(drop)
}

pub(crate) async fn code(db: &Db, hash: &[u8]) -> Result<Option<CodeRow>, StoreError> {
    db.maybe(
        sql!(CodeRow, "SELECT org_id, code_hash, user_id, client_id, redirect_uri, scope, nonce, challenge, auth_time, expires_at, used_at, session_id FROM auth_codes WHERE org_id = $1 AND code_hash = $2"),
        params![PLATFORM, hash.to_vec()],
    )
    .await
}

/// Uses a fresh code for this session; says whether it was still fresh.
pub(crate) async fn use_code(tx: &Tx, hash: &[u8], session: Uuid, now: Timestamp) -> Result<bool, StoreError> {
    let text = sql!(
        "UPDATE auth_codes SET used_at = $1, session_id = $2 WHERE org_id = $3 AND code_hash = $4 AND used_at IS NULL"
    );
    Ok(tx.run(text, params![now, session, PLATFORM, hash.to_vec()]).await? == 1)
}

pub(crate) async fn refresh_token(db: &Db, hash: &[u8]) -> Result<Option<RefreshRow>, StoreError> {
    db.maybe(
        sql!(RefreshRow, "SELECT org_id, token_hash, session_id, created_at, rotated_at, successor FROM refresh_tokens WHERE org_id = $1 AND token_hash = $2"),
        params![PLATFORM, hash.to_vec()],
    )
    .await
}

/// Rotates a current token; says whether it was still current.
pub(crate) async fn rotate(tx: &Tx, hash: &[u8], successor: Vec<u8>, now: Timestamp) -> Result<bool, StoreError> {
    let text = sql!(
        "UPDATE refresh_tokens SET rotated_at = $1, successor = $2 WHERE org_id = $3 AND token_hash = $4 AND rotated_at IS NULL"
    );
    Ok(tx.run(text, params![now, successor, PLATFORM, hash.to_vec()]).await? == 1)
}

/// The keys that verifiers must know, oldest first.
pub(crate) async fn keys(db: &Db) -> Result<Vec<KeyRow>, StoreError> {
    db.all(
        sql!(KeyRow, "SELECT org_id, kid, private_key, modulus, exponent, published_at, signs_from FROM signing_keys WHERE org_id = $1 ORDER BY signs_from, kid"),
        params![PLATFORM],
    )
    .await
}

pub(crate) async fn forget_keys(tx: &Tx, kids: &[String]) -> Result<(), StoreError> {
    let text = sql!("DELETE FROM signing_keys WHERE org_id = $1 AND kid = ANY($2)");
    tx.run(text, params![PLATFORM, any(kids)]).await.map(drop)
}

/// Sealed successors that nobody may ask for again.
pub(crate) async fn forget_successors(tx: &Tx, rotated_before: Timestamp) -> Result<u64, StoreError> {
    let text = sql!(
        "UPDATE refresh_tokens SET successor = NULL WHERE org_id = $1 AND successor IS NOT NULL AND rotated_at < $2"
    );
    tx.run(text, params![PLATFORM, rotated_before]).await
}

pub(crate) async fn forget_codes(tx: &Tx, expired_before: Timestamp) -> Result<u64, StoreError> {
    let text = sql!("DELETE FROM auth_codes WHERE org_id = $1 AND expires_at < $2");
    tx.run(text, params![PLATFORM, expired_before]).await
}

/// Sessions that ended long ago, with their refresh tokens.
pub(crate) async fn forget_sessions(tx: &Tx, ended_before: Timestamp) -> Result<u64, StoreError> {
    let tokens = sql!(
        "DELETE FROM refresh_tokens WHERE org_id = $1 AND session_id IN (SELECT id FROM sessions WHERE sessions.org_id = $1 AND ended_at < $2)"
    );
    tx.run(tokens, params![PLATFORM, ended_before]).await?;
    tx.run(sql!("DELETE FROM sessions WHERE org_id = $1 AND ended_at < $2"), params![PLATFORM, ended_before]).await
}
