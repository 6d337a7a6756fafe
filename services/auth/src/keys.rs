//! Signing keys: when each is published, signs and is forgotten, and RS256 itself.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kernel::clock::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::settings::Settings;

/// How far clocks of verifiers may be off.
const SKEW: Duration = Duration::from_secs(60);

/// The times that rotation keeps to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// How long a key signs.
    pub(crate) period: Duration,
    /// How long it is published before.
    pub(crate) publish: Duration,
    /// How long it stays published after, until its last token has run out everywhere.
    pub(crate) keep: Duration,
}

impl Rules {
    /// The rules that the settings make.
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            period: Duration::from_secs(settings.key_period_s),
            publish: Duration::from_secs(settings.key_publish_s),
            keep: settings.access_life() + SKEW,
        }
    }
}

/// A key as rotation sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) kid: String,
    /// From then on it signs, until the next one does.
    pub(crate) signs_from: Timestamp,
}

/// What has to be done now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Keys to make and publish, by when they will sign.
    pub(crate) make: Vec<Timestamp>,
    /// Keys that no living token needs.
    pub(crate) forget: Vec<String>,
}

/// The key that signs now: the one that began last.
pub(crate) fn signs_now(keys: &[Life], now: Timestamp) -> Option<&Life> {
    keys.iter().filter(|key| key.signs_from <= now).max_by_key(|key| (key.signs_from, key.kid.as_str()))
}

/// Keeps one key signing and the next one published long enough before its turn.
pub(crate) fn plan(keys: &[Life], now: Timestamp, rules: &Rules) -> Plan {
    let mut plan = Plan::default();
    let current = signs_now(keys, now);
    // Without a key that signs nobody has a list worth caching, so the first one may sign at once.
    let since = current.map_or(now, |key| key.signs_from);
    if current.is_none() {
        plan.make.push(now);
    }
    if !keys.iter().any(|key| key.signs_from > now) {
        plan.make.push(since.plus(rules.period).max(now.plus(rules.publish)));
    }
    let replaced = |key: &Life| keys.iter().map(|k| k.signs_from).filter(|from| *from > key.signs_from).min();
    let done = |key: &&Life| replaced(key).is_some_and(|at| at.plus(rules.keep) <= now);
    plan.forget = keys.iter().filter(done).map(|key| key.kid.clone()).collect();
    plan
}

/// A public key as the list of keys shows it (RFC 7517).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Jwk {
    /// `RSA`.
    pub(crate) kty: &'static str,
    /// `sig`.
    #[serde(rename = "use")]
    pub(crate) usage: &'static str,
    /// `RS256`.
    pub(crate) alg: &'static str,
    /// Its name in the header of a token.
    pub(crate) kid: String,
    /// The modulus.
    pub(crate) n: String,
    /// The exponent.
    pub(crate) e: String,
}

impl Jwk {
    /// The entry of this key.
    pub(crate) fn new(kid: &str, modulus: &[u8], exponent: &[u8]) -> Self {
        let text = |bytes| URL_SAFE_NO_PAD.encode(bytes);
        Self { kty: "RSA", usage: "sig", alg: "RS256", kid: kid.to_owned(), n: text(modulus), e: text(exponent) }
    }
}

/// A key that can sign.
pub(crate) struct SigningKey {
    pub(crate) kid: String,
    pair: KeyPair,
}

impl SigningKey {
    /// A new key of 2048 bits; takes some 100 ms of a core.
    pub(crate) fn generate() -> Result<Self, String> {
        let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|e| format!("making an RSA key: {e}"))?;
        let mut key = Self { kid: String::new(), pair };
        let (modulus, exponent) = key.public()?;
        key.kid = thumbprint(&modulus, &exponent);
        Ok(key)
    }

    /// The key from its private form.
    pub(crate) fn from_pkcs8(kid: &str, der: &[u8]) -> Result<Self, String> {
        let pair = KeyPair::from_pkcs8(der).map_err(|e| format!("signing key {kid} does not read: {e}"))?;
        Ok(Self { kid: kid.to_owned(), pair })
    }

    /// Its private form, for sealing.
    pub(crate) fn pkcs8(&self) -> Result<Vec<u8>, String> {
        let der: Pkcs8V1Der<'_> = self.pair.as_der().map_err(|e| format!("writing an RSA key: {e}"))?;
        Ok(der.as_ref().to_vec())
    }

    /// Modulus and exponent.
    pub(crate) fn public(&self) -> Result<(Vec<u8>, Vec<u8>), String> {
        public_parts(self.pair.public_key().as_ref()).ok_or_else(|| "a public RSA key does not read".to_owned())
    }

    /// The RS256 signature of this text.
    pub(crate) fn sign(&self, text: &[u8]) -> Result<Vec<u8>, String> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        let signed = self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature);
        signed.map(|()| signature).map_err(|e| format!("signing with {}: {e}", self.kid))
    }
}

/// A name that follows from the key (RFC 7638), so that no two keys can share one.
fn thumbprint(modulus: &[u8], exponent: &[u8]) -> String {
    let jwk = Jwk::new("", modulus, exponent);
    let canonical = format!("{{\"e\":\"{}\",\"kty\":\"RSA\",\"n\":\"{}\"}}", jwk.e, jwk.n);
    URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes()))
}

/// Reads `RSAPublicKey ::= SEQUENCE { modulus INTEGER, publicExponent INTEGER }` (RFC 8017 appendix A.1.1).
fn public_parts(der: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (sequence, _) = element(0x30, der)?;
    let (modulus, rest) = element(0x02, sequence)?;
    let (exponent, _) = element(0x02, rest)?;
    // A leading zero only says that the number is not negative.
    let number = |bytes: &[u8]| bytes.strip_prefix(&[0]).unwrap_or(bytes).to_vec();
    Some((number(modulus), number(exponent)))
}

/// Content and rest of a DER element with this tag.
fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = der.split_first_chunk::<2>()?;
    let (length, rest) = match first {
        short @ 0..=127 => (usize::from(short), rest),
        long => {
            let (bytes, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            (bytes.iter().try_fold(0_usize, |sum, b| sum.checked_mul(256)?.checked_add(usize::from(*b)))?, rest)
        }
    };
    (found == tag).then(|| rest.split_at_checked(length))?
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);
    const MINUTE: Duration = Duration::from_secs(60);
    const RULES: Rules =
        Rules { period: Duration::from_secs(3600), publish: Duration::from_secs(600), keep: Duration::from_secs(660) };

    #[test]
    fn ten_rotations_never_sign_with_an_unpublished_key_nor_forget_one_that_is_needed() {
        let (mut keys, mut published) = (Vec::<Life>::new(), Vec::<(String, Timestamp)>::new());
        let mut signed: Vec<(String, Timestamp)> = Vec::new();
        for minute in 0..11 * 60 {
            let now = START.plus(MINUTE * minute);
            let plan = plan(&keys, now, &RULES);
            keys.retain(|key| !plan.forget.contains(&key.kid));
            for signs_from in plan.make {
                let kid = format!("k{}", published.len());
                published.push((kid.clone(), now));
                keys.push(Life { kid, signs_from });
            }
            let kid = signs_now(&keys, now).unwrap().kid.clone();
            let (_, since) = published.iter().find(|(k, _)| *k == kid).unwrap();
            assert!(kid == "k0" || now.since(*since) >= RULES.publish, "{kid} signs at minute {minute}");
            signed.push((kid, now));
            for (kid, at) in signed.iter().filter(|(_, at)| now.since(*at) <= RULES.keep) {
                assert!(keys.iter().any(|key| key.kid == *kid), "{kid} signed at {at} and is gone at {now}");
            }
            assert!((2..=3).contains(&keys.len()), "one signs, one is next, one may run out");
        }
        let mut signers: Vec<&String> = signed.iter().map(|(kid, _)| kid).collect();
        signers.dedup();
        assert_eq!(signers.len(), 11);
    }

    #[test]
    fn after_a_long_sleep_the_next_key_signs_and_its_follower_is_still_published_first() {
        let keys = vec![
            Life { kid: "old".to_owned(), signs_from: START },
            Life { kid: "next".to_owned(), signs_from: START.plus(RULES.period) },
        ];
        let now = START.plus(RULES.period * 100);
        assert_eq!(signs_now(&keys, now).unwrap().kid, "next");
        let plan = plan(&keys, now, &RULES);
        assert_eq!(plan, Plan { make: vec![now.plus(RULES.publish)], forget: vec!["old".to_owned()] });
    }

    #[test]
    fn a_key_survives_its_private_form_and_is_named_by_its_thumbprint() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::from_pkcs8(&key.kid, &key.pkcs8().unwrap()).unwrap();
        let (modulus, exponent) = again.public().unwrap();
        assert_eq!((modulus.len(), exponent.as_slice()), (256, &[1, 0, 1][..]));
        assert_eq!(thumbprint(&modulus, &exponent), key.kid);
        assert_eq!(key.sign(b"x").unwrap(), again.sign(b"x").unwrap());
        assert_ne!(SigningKey::generate().unwrap().kid, key.kid);
    }

    #[test]
    fn what_is_not_a_public_key_does_not_read_as_one() {
        for der in [&b""[..], &[0x30], &[0x30, 3, 2, 1], &[0x31, 3, 2, 1, 5], &[0x30, 0x89, 1, 1, 1, 1, 1, 1, 1, 1, 1]]
        {
            assert_eq!(public_parts(der), None, "{der:?}");
        }
    }
}
