//! Tokens: checked once with the key, then known by their hash; expiry and revocation are asked every time.

use std::sync::Arc;

use aws_lc_rs::digest;
use jsonwebtoken::{Header, Validation, decode, decode_header};
use kernel::clock::Timestamp;
use kernel::http::assertion::{Carried, Identity};
use moka::sync::Cache;
use serde::Deserialize;
use uuid::Uuid;

use crate::keys::{Key, Keys};
use crate::limits::Tier;
use crate::revocations::Revocations;
use crate::said::Said;

/// How far clocks may differ, in seconds.
const SKEW: i64 = 60;
/// No token of ours is longer; hashing more would be work for strangers.
const LONGEST: usize = 8 * 1024;
const REMEMBERED: u64 = 100_000;

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

#[derive(Deserialize)]
struct Claims {
    sub: Uuid,
    exp: i64,
    #[serde(default)]
    iat: i64,
    nbf: Option<i64>,
    #[serde(default)]
    email: String,
    #[serde(default)]
    roles: Vec<String>,
    #[serde(default)]
    orgs: Vec<Uuid>,
    auth_time: Option<i64>,
    sid: Option<Uuid>,
    tier: Option<String>,
}

/// Checks tokens.
pub(crate) struct Tokens {
    keys: Arc<Keys>,
    revocations: Revocations,
    issuer: String,
    audience: String,
    known: Cache<[u8; 32], Arc<Principal>>,
}

impl Tokens {
    pub(crate) fn new(keys: Arc<Keys>, revocations: Revocations, issuer: String, audience: String) -> Self {
        Self { keys, revocations, issuer, audience, known: Cache::new(REMEMBERED) }
    }

    /// Who this token stands for at this moment.
    pub(crate) async fn check(&self, token: &str, now: Timestamp) -> Result<Arc<Principal>, TokenError> {
        if token.len() > LONGEST {
            return Err(TokenError::Invalid);
        }
        let hash: [u8; 32] = digest::digest(&digest::SHA256, token.as_bytes()).as_ref().try_into().expect("32 bytes");
        // A key that was removed must take its tokens with it, so a new set checks them again.
        let known = self.known.get(&hash).filter(|known| known.generation == self.keys.generation());
        let principal = if let Some(known) = known {
            known
        } else {
            let checked = Arc::new(self.verify(token).await?);
            self.known.insert(hash, Arc::clone(&checked));
            checked
        };
        principal.stands(&self.revocations, now)?;
        Ok(principal)
    }

    async fn verify(&self, token: &str) -> Result<Principal, TokenError> {
        let header = decode_header(token).map_err(|_| TokenError::Invalid)?;
        let id = key_id(&header).ok_or(TokenError::Invalid)?;
        let mut set = self.keys.current();
        if set.get(id).is_none() {
            set = self.keys.learn(id).await;
        }
        let key = match set.get(id) {
            Some(key) => key,
            None if set.is_empty() => return Err(TokenError::NoKeys),
            None => return Err(TokenError::Invalid),
        };
        if header.alg != key.algorithm {
            return Err(TokenError::Invalid);
        }
        let claims = self.claims(token, key)?;
        Ok(principal(claims, set.generation))
    }

    fn claims(&self, token: &str, key: &Key) -> Result<Claims, TokenError> {
        let mut validation = Validation::new(key.algorithm);
        validation.set_audience(&[&self.audience]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Time is asked of our clock, on every request, not only now.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        decode::<Claims>(token, &key.key, &validation).map(|data| data.claims).map_err(|_| TokenError::Invalid)
    }
}

/// The key a head names, if the head is one we take: an access token that brings no key of its own.
fn key_id(header: &Header) -> Option<&str> {
    let typ = header.typ.as_deref()?;
    let access_token = typ.eq_ignore_ascii_case("at+jwt") || typ.eq_ignore_ascii_case("application/at+jwt");
    let brings_its_own = header.jku.is_some() || header.jwk.is_some() || header.x5u.is_some() || header.x5c.is_some();
    let wants_more = header.crit.is_some() || header.extras.inner().contains_key("b64");
    header.kid.as_deref().filter(|_| access_token && !brings_its_own && !wants_more)
}

fn principal(claims: Claims, generation: u64) -> Principal {
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
        tier: Tier::named(claims.tier.as_deref()),
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
