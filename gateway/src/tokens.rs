//! Tokens: checked once with the key, then known by their text; expiry and revocation are asked every time.

mod known;
mod parts;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use kernel::clock::Timestamp;
use kernel::http::assertion::{Carried, Identity};
use known::Known;
use parts::{Claims, Head, Parts};
use uuid::Uuid;

use crate::keys::{Key, Keys};
use crate::limits::Tier;
use crate::revocations::Revocations;
use crate::said::Said;

/// How far clocks may differ, in seconds.
const SKEW: i64 = 60;
/// No token of ours is longer; reading more would be work for strangers.
const LONGEST: usize = 8 * 1024;

/// Who a token stands for.
#[derive(Debug)]
pub(crate) struct Principal {
    pub(crate) user: Uuid,
    pub(crate) roles: Vec<String>,
    pub(crate) tier: Tier,
    /// The identity headers, made once.
    pub(crate) carried: Carried,
    pub(crate) said: Said,
    session: Option<Uuid>,
    issued_at: i64,
    not_before: i64,
    expires: i64,
    generation: u64,
}

impl Principal {
    /// Whether the token still counts at this moment.
    pub(crate) fn stands(&self, revocations: &Revocations, now: Timestamp) -> Result<(), TokenError> {
        let seconds = now.seconds();
        if seconds > self.expires.saturating_add(SKEW) {
            return Err(TokenError::Expired);
        }
        if seconds < self.not_before.saturating_sub(SKEW) {
            return Err(TokenError::Invalid);
        }
        if revocations.revoked(self.user, self.session, self.issued_at) {
            return Err(TokenError::Revoked);
        }
        Ok(())
    }
}

/// Why a token does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenError {
    /// It is not a token of ours.
    Invalid,
    /// It was one.
    Expired,
    /// It was ended.
    Revoked,
    /// We have no keys to check it with.
    NoKeys,
}

/// Checks tokens.
pub(crate) struct Tokens {
    keys: Arc<Keys>,
    revocations: Revocations,
    issuer: String,
    audience: String,
    known: Known<Arc<Principal>>,
}

impl Tokens {
    pub(crate) fn new(keys: Arc<Keys>, revocations: Revocations, issuer: String, audience: String) -> Self {
        Self { keys, revocations, issuer, audience, known: Known::default() }
    }

    /// Who this token stands for at this moment.
    pub(crate) async fn check(&self, token: &[u8], now: Timestamp) -> Result<Arc<Principal>, TokenError> {
        if token.len() > LONGEST {
            return Err(TokenError::Invalid);
        }
        // A key that was removed must take its tokens with it, so a new set checks them again.
        let known = self.known.get(token).filter(|known| known.generation == self.keys.generation());
        let principal = match known {
            Some(known) => known,
            None => {
                // On the heap, so that a known token does not carry room for the reading of an unknown one along.
                let checked = Arc::new(Box::pin(self.verify(token)).await?);
                self.known.put(token, Arc::clone(&checked));
                checked
            }
        };
        principal.stands(&self.revocations, now)?;
        Ok(principal)
    }

    async fn verify(&self, token: &[u8]) -> Result<Principal, TokenError> {
        let parts = Parts::of(token).ok_or(TokenError::Invalid)?;
        let head = parts::bytes(parts.head).ok_or(TokenError::Invalid)?;
        let head: Head<'_> = parts::read(&head).ok_or(TokenError::Invalid)?;
        let id = head.key().ok_or(TokenError::Invalid)?;
        let mut set = self.keys.current();
        if set.get(id).is_none() {
            set = self.keys.learn(id).await;
        }
        let key = match set.get(id) {
            Some(key) => key,
            None if set.is_empty() => return Err(TokenError::NoKeys),
            None => return Err(TokenError::Invalid),
        };
        if head.algorithm() != Some(key.algorithm) {
            return Err(TokenError::Invalid);
        }
        self.vouched(&parts, key, set.generation).ok_or(TokenError::Invalid)
    }

    /// Who it is, if the key vouches for it and it was issued for us. What nobody vouches for is not read.
    fn vouched(&self, parts: &Parts<'_>, key: &Key, generation: u64) -> Option<Principal> {
        key.key.verify_sig(parts.signed, &parts::bytes(parts.signature)?).ok()?;
        let claims = parts::bytes(parts.claims)?;
        let claims: Claims<'_> = parts::read(&claims)?;
        // Time is asked of our clock, on every request, not only now.
        claims.are_for(&self.issuer, &self.audience).then(|| principal(claims, generation))
    }
}

fn principal(claims: Claims<'_>, generation: u64) -> Principal {
    let tier = Tier::named(claims.tier());
    let identity = Identity {
        user_id: claims.sub,
        email: claims.email,
        roles: claims.roles,
        orgs: claims.orgs,
        // A token that does not say when its bearer signed in was not signed in for just now, however new it is.
        auth_time: claims.auth_time.unwrap_or(0),
        session: claims.sid,
    };
    Principal {
        user: claims.sub,
        tier,
        carried: Carried::of(Some(&identity)),
        said: Said::default(),
        roles: identity.roles,
        session: claims.sid,
        issued_at: claims.iat,
        not_before: claims.nbf.unwrap_or(i64::MIN),
        expires: claims.exp,
        generation,
    }
}
