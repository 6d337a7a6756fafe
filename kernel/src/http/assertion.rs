//! Who calls: identity headers between services, joined by a short-lived proof that the caller may set them.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};
use uuid::Uuid;

use super::late::{Late, OutOfTime};
use crate::clock::Timestamp;
use crate::secrets::Pair;

const ASSERTION_TEXT: &str = "x-internal-assertion";
/// The proof.
pub const ASSERTION: HeaderName = HeaderName::from_static(ASSERTION_TEXT);
/// The user's id.
pub const USER_ID: HeaderName = HeaderName::from_static("x-user-id");
/// The user's address.
pub const USER_EMAIL: HeaderName = HeaderName::from_static("x-user-email");
/// The user's roles, separated by commas.
pub const USER_ROLES: HeaderName = HeaderName::from_static("x-user-roles");
/// The organisations the user acts for, separated by commas.
pub const ORG_IDS: HeaderName = HeaderName::from_static("x-org-ids");
/// When the user last proved who they are, in seconds.
pub const AUTH_TIME: HeaderName = HeaderName::from_static("x-auth-time");
/// The session the call belongs to.
pub const SESSION_ID: HeaderName = HeaderName::from_static("x-session-id");

// The order is part of the proof.
const COUNT: usize = 6;
static CARRIED: [HeaderName; COUNT] = [USER_ID, USER_EMAIL, USER_ROLES, ORG_IDS, AUTH_TIME, SESSION_ID];

/// How long a proof is good, and how far clocks may differ, in seconds.
pub(super) const LIFE: i64 = 60;
pub(crate) const SKEW: i64 = 5;

/// The person behind a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who.
    pub user_id: Uuid,
    /// Where to write to.
    pub email: String,
    /// What they may be.
    pub roles: Vec<String>,
    /// For whom they act.
    pub orgs: Vec<Uuid>,
    /// When they last proved who they are, in seconds since 1970.
    pub auth_time: i64,
    /// The session the call belongs to; none for tokens without one.
    pub session: Option<Uuid>,
}

/// Identity headers made once, for callers that forward the same identity often: in one piece, as they are signed.
#[derive(Clone, Debug)]
pub struct Carried(Box<[u8]>);

impl Default for Carried {
    fn default() -> Self {
        Self::of(None)
    }
}

impl Carried {
    /// The headers of this identity; of nobody, none.
    pub fn of(identity: Option<&Identity>) -> Self {
        let Some(who) = identity else { return Self::from([None; COUNT]) };
        let orgs: Vec<String> = who.orgs.iter().map(Uuid::to_string).collect();
        let (user, roles, orgs) = (who.user_id.to_string(), who.roles.join(","), orgs.join(","));
        let (auth_time, session) = (who.auth_time.to_string(), who.session.map(|session| session.to_string()));
        // A control character cannot travel; the sender of such an address loses it, nobody else is harmed.
        let texts = [&user, &who.email, &roles, &orgs, &auth_time].map(|text| sendable(text));
        let [user, email, roles, orgs, auth_time] = texts.each_ref().map(|text| Some(text.as_bytes()));
        Self::from([user, email, roles, orgs, auth_time, session.as_ref().map(String::as_bytes)])
    }

    /// Each on a line, which no header can break.
    fn from(values: [Option<&[u8]>; COUNT]) -> Self {
        let mut lines =
            Vec::with_capacity(values.iter().map(|value| 1 + value.map_or(0, |value| 1 + value.len())).sum());
        for value in values {
            lines.push(b'\n');
            if let Some(value) = value {
                // Tells an empty header from one that is not there.
                lines.push(b'=');
                lines.extend_from_slice(value);
            }
        }
        Self(lines.into())
    }

    /// Those that are there.
    fn headers(&self) -> impl Iterator<Item = (&'static HeaderName, &[u8])> + Clone {
        let values = self.0.split(|byte| *byte == b'\n').skip(1).map(|line| line.strip_prefix(b"="));
        CARRIED.iter().zip(values).filter_map(|(name, value)| Some((name, value?)))
    }
}

fn sendable(text: &str) -> Cow<'_, str> {
    if text.contains(|c: char| c.is_ascii_control()) {
        text.replace(|c: char| c.is_ascii_control(), "").into()
    } else {
        text.into()
    }
}

/// Why the headers do not prove who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssertionError {
    /// There is no proof.
    #[error("the call carries no proof of its caller")]
    Missing,
    /// It is not a proof of this kind, or a header is there twice.
    #[error("the proof of the caller is malformed")]
    Malformed,
    /// It was made for another service.
    #[error("the proof of the caller is for another service")]
    WrongAudience,
    /// It is too old, or from the future.
    #[error("the proof of the caller is out of date: the clocks of the two machines differ, the log says by how much")]
    Expired(OutOfTime),
    /// The headers are not those that were signed, or by somebody else.
    #[error("the proof of the caller does not fit")]
    Forged,
}

/// Makes and checks proofs with a secret that all services of the city share.
/// Clones share their secrets, so that all of a process change over at once.
#[derive(Clone, Debug)]
pub struct Signer(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    keys: ArcSwap<Keys>,
    late: Late,
}

#[derive(Clone, Debug)]
struct Keys {
    key: hmac::Key,
    /// Proofs made with it are good as well.
    other: Option<hmac::Key>,
}

impl Signer {
    /// A signer with this secret.
    pub fn new(secret: &[u8]) -> Self {
        let keys = ArcSwap::from_pointee(Keys { key: key(secret), other: None });
        Self(Arc::new(Shared { keys, late: Late::default() }))
    }

    /// A signer with this secret; proofs made with what is accepted beside it are good, too.
    pub fn of(pair: &Pair) -> Self {
        let signer = Self::new(pair.current.reveal());
        signer.renew(pair);
        signer
    }

    /// Takes another secret, for all clones.
    pub fn renew(&self, pair: &Pair) {
        let other = pair.other().map(|other| key(other.reveal()));
        self.0.keys.store(Arc::new(Keys { key: key(pair.current.reveal()), other }));
    }

    /// The headers with which `caller` calls `audience`, for this user or as itself.
    pub fn sign(&self, caller: &str, audience: &str, identity: Option<&Identity>, now: Timestamp) -> HeaderMap {
        let (who, mut headers) = (Carried::of(identity), HeaderMap::with_capacity(8));
        let value = |bytes: &[u8]| HeaderValue::from_bytes(bytes).expect("without control characters");
        for (name, bytes) in who.headers() {
            headers.insert(name, value(bytes));
        }
        headers.insert(ASSERTION, value(self.proof(caller, audience, &who, now).as_bytes()));
        headers
    }

    /// The same as lines of a request.
    pub fn lines(&self, caller: &str, audience: &str, who: &Carried, now: Timestamp) -> Vec<u8> {
        let proof = self.proof(caller, audience, who, now);
        let texts = who.headers().map(|(name, value)| (name.as_str(), value));
        let all = || texts.clone().chain([(ASSERTION_TEXT, proof.as_bytes())]);
        let mut lines = Vec::with_capacity(all().map(|(name, value)| name.len() + value.len() + 4).sum());
        for (name, value) in all() {
            for part in [name.as_bytes(), b": ", value, b"\r\n"] {
                lines.extend_from_slice(part);
            }
        }
        lines
    }

    fn proof(&self, caller: &str, audience: &str, who: &Carried, now: Timestamp) -> String {
        let mut proof = String::with_capacity(128);
        write!(proof, "v1.{}.{caller}.{audience}", now.seconds()).expect("writing to a string cannot fail");
        let tag = hmac::sign(&self.0.keys.load().key, &message(&proof, who));
        proof.push('.');
        URL_SAFE_NO_PAD.encode_string(tag.as_ref(), &mut proof);
        proof
    }

    /// Who calls: the service, and the user it calls for. `audience` is the service that asks.
    pub fn verify(
        &self,
        headers: &HeaderMap,
        audience: &str,
        now: Timestamp,
    ) -> Result<(String, Option<Identity>), AssertionError> {
        let proof = single(headers, &ASSERTION)?.ok_or(AssertionError::Missing)?;
        let proof = proof.to_str().map_err(|_| AssertionError::Malformed)?;
        let (signed, tag) = proof.rsplit_once('.').ok_or(AssertionError::Malformed)?;
        let mut parts = signed.split('.');
        let (Some("v1"), Some(issued), Some(caller), Some(meant), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(AssertionError::Malformed);
        };
        let issued: i64 = issued.parse().map_err(|_| AssertionError::Malformed)?;
        let tag = URL_SAFE_NO_PAD.decode(tag).map_err(|_| AssertionError::Malformed)?;
        let mut carried = [None; COUNT];
        for (value, name) in carried.iter_mut().zip(&CARRIED) {
            *value = single(headers, name)?;
        }
        // The proof first: what an unproven header says is not worth an answer.
        let message = message(signed, &Carried::from(carried.map(|value| value.map(HeaderValue::as_bytes))));
        let fits = |key: &hmac::Key| hmac::verify(key, &message, &tag).is_ok();
        let keys = self.0.keys.load();
        if !fits(&keys.key) && !keys.other.as_ref().is_some_and(fits) {
            return Err(AssertionError::Forged);
        }
        if meant != audience {
            return Err(AssertionError::WrongAudience);
        }
        if !(-SKEW..=LIFE + SKEW).contains(&now.seconds().saturating_sub(issued)) {
            let made = Timestamp::from_micros(issued.saturating_mul(1_000_000));
            let apart = OutOfTime { made, here: now };
            self.0.late.tell(caller, apart);
            return Err(AssertionError::Expired(apart));
        }
        Ok((caller.to_owned(), identity(carried)?))
    }
}

/// What is signed: the proof's own fields and the headers.
fn message(signed: &str, who: &Carried) -> Vec<u8> {
    [signed.as_bytes(), &who.0].concat()
}

fn key(secret: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret)
}

fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h HeaderValue>, AssertionError> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() { Err(AssertionError::Malformed) } else { Ok(first) }
}

fn identity(
    [user, email, roles, orgs, auth_time, session]: [Option<&HeaderValue>; COUNT],
) -> Result<Option<Identity>, AssertionError> {
    let Some(user) = user else { return Ok(None) };
    let words = |value: Option<&HeaderValue>| {
        let value = value.ok_or(AssertionError::Malformed)?;
        std::str::from_utf8(value.as_bytes()).map(str::to_owned).map_err(|_| AssertionError::Malformed)
    };
    let id = |text: &str| text.parse::<Uuid>().map_err(|_| AssertionError::Malformed);
    let list = |text: String| text.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    Ok(Some(Identity {
        user_id: id(&words(Some(user))?)?,
        email: words(email)?,
        roles: list(words(roles)?),
        orgs: list(words(orgs)?).iter().map(|org| id(org)).collect::<Result<_, _>>()?,
        auth_time: words(auth_time)?.parse().map_err(|_| AssertionError::Malformed)?,
        session: session.map(|session| id(&words(Some(session))?)).transpose()?,
    }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::secrets::Secret;

    fn somebody() -> Identity {
        Identity {
            user_id: Uuid::from_u128(7),
            email: "jürgen@example.org".to_owned(),
            roles: vec!["CUSTOMER".to_owned(), "ADMIN".to_owned()],
            orgs: vec![Uuid::from_u128(1), Uuid::from_u128(2)],
            auth_time: 1_700_000_000,
            session: Some(Uuid::from_u128(9)),
        }
    }

    const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

    #[test]
    fn an_identity_arrives_as_it_was_sent() {
        let signer = Signer::new(b"a secret of the city");
        let headers = signer.sign("gateway", "orders", Some(&somebody()), NOW);
        assert_eq!(signer.verify(&headers, "orders", NOW), Ok(("gateway".to_owned(), Some(somebody()))));
        let headers = signer.sign("orders", "auth", None, NOW);
        assert_eq!(signer.verify(&headers, "auth", NOW), Ok(("orders".to_owned(), None)));
    }

    #[test]
    fn what_was_changed_added_removed_or_doubled_is_refused() {
        let signer = Signer::new(b"a secret of the city");
        let signed = signer.sign("gateway", "orders", Some(&somebody()), NOW);
        let check = |headers: &HeaderMap| signer.verify(headers, "orders", NOW).unwrap_err();
        for name in &CARRIED {
            let mut headers = signed.clone();
            headers.insert(name, HeaderValue::from_static("x"));
            assert_eq!(check(&headers), AssertionError::Forged, "{name} changed");
            headers.remove(name);
            assert_eq!(check(&headers), AssertionError::Forged, "{name} removed");
            let mut headers = signed.clone();
            headers.append(name, HeaderValue::from_static("x"));
            assert_eq!(check(&headers), AssertionError::Malformed, "{name} doubled");
        }
        let mut workload = signer.sign("orders", "auth", None, NOW);
        workload.insert(USER_ID, HeaderValue::from_static("00000000-0000-0000-0000-000000000007"));
        assert_eq!(signer.verify(&workload, "auth", NOW), Err(AssertionError::Forged));
        assert_eq!(check(&HeaderMap::new()), AssertionError::Missing);
        let stranger = Signer::new(b"another secret").sign("gateway", "orders", Some(&somebody()), NOW);
        assert_eq!(check(&stranger), AssertionError::Forged);
    }

    #[test]
    fn a_proof_is_for_one_service_and_one_minute() {
        let signer = Signer::new(b"a secret of the city");
        let headers = signer.sign("gateway", "orders", None, NOW);
        let at = |now| signer.verify(&headers, "orders", now).map(|_| ());
        assert_eq!(signer.verify(&headers, "payments", NOW), Err(AssertionError::WrongAudience));
        assert_eq!(at(NOW.plus(Duration::from_secs(65))), Ok(()));
        let out_of_time = |here| Err(AssertionError::Expired(OutOfTime { made: NOW, here }));
        assert_eq!(at(NOW.plus(Duration::from_secs(66))), out_of_time(NOW.plus(Duration::from_secs(66))));
        assert_eq!(at(NOW.minus(Duration::from_secs(5))), Ok(()));
        assert_eq!(at(NOW.minus(Duration::from_secs(6))), out_of_time(NOW.minus(Duration::from_secs(6))));
    }

    #[test]
    fn a_replaced_secret_stays_good_while_it_is_named() {
        let old = Signer::new(b"old").sign("gateway", "orders", None, NOW);
        assert_eq!(Signer::new(b"new").verify(&old, "orders", NOW), Err(AssertionError::Forged));
        let (new, replaced) = (Secret::new(b"new"), Secret::new(b"old"));
        let signer = Signer::of(&Pair { current: new, next: None, previous: Some(replaced) });
        assert!(signer.verify(&old, "orders", NOW).is_ok());
    }

    #[test]
    fn all_change_over_in_two_steps_and_no_proof_on_its_way_is_refused() {
        let (old, new) = (Secret::new(b"old"), Secret::new(b"new"));
        let signers: Vec<Signer> = (0..2).map(|_| Signer::of(&Pair::only(old.clone()))).collect();
        let laid = Pair { current: old.clone(), next: Some(new.clone()), previous: None };
        let done = Pair { current: new, next: None, previous: Some(old) };
        let everybody_understands = || {
            signers.iter().all(|by| {
                let proof = by.clone().sign("gateway", "orders", None, NOW);
                signers.iter().all(|at| at.clone().verify(&proof, "orders", NOW).is_ok())
            })
        };
        for step in [laid, done] {
            for signer in &signers {
                signer.clone().renew(&step);
                assert!(everybody_understands(), "{step:?}");
            }
        }
    }
}
