//! A token taken apart: its three parts, and what its head and its claims say. Each is read once and strictly.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer};
use uuid::Uuid;

/// The parts of a token in compact form, still encoded.
pub(super) struct Parts<'t> {
    pub(super) head: &'t [u8],
    pub(super) claims: &'t [u8],
    pub(super) signature: &'t [u8],
    /// What the signature is of: head and claims as they were sent.
    pub(super) signed: &'t [u8],
}

impl<'t> Parts<'t> {
    /// None unless there are exactly three.
    pub(super) fn of(token: &'t [u8]) -> Option<Self> {
        let mut parts = token.split(|byte| *byte == b'.');
        let (head, claims, signature) = (parts.next()?, parts.next()?, parts.next()?);
        let signed = &token[..head.len() + 1 + claims.len()];
        parts.next().is_none().then_some(Self { head, claims, signature, signed })
    }
}

/// The bytes of a part: the alphabet of URLs, no padding, and no bits at the end that mean nothing.
pub(super) fn bytes(part: &[u8]) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

/// Reads the object that a part is. A name that counts may stand there once, and nothing may follow.
pub(super) fn read<'b, T: Deserialize<'b>>(bytes: &'b [u8]) -> Option<T> {
    // serde would take a list as well, its items in the order of the fields.
    let is_object = bytes.trim_ascii_start().starts_with(b"{");
    serde_json::from_slice(bytes).ok().filter(|_| is_object)
}

/// Text that is copied only if it was written with escapes.
#[derive(Debug, Deserialize)]
pub(super) struct Text<'b>(#[serde(borrow)] Cow<'b, str>);

/// A name that a head must not have, whatever its value.
#[derive(Debug, Default)]
struct Never;

impl<'de> Deserialize<'de> for Never {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("no token of ours says this"))
    }
}

/// What a head says. Names that nobody gave a meaning are passed over, as the standard (RFC 7515, section 4) wants.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Head<'b> {
    #[serde(borrow)]
    alg: Option<Text<'b>>,
    #[serde(borrow)]
    typ: Option<Text<'b>>,
    #[serde(borrow)]
    kid: Option<Text<'b>>,
    // It brings its own key, or says where one is.
    jku: Never,
    jwk: Never,
    x5u: Never,
    x5c: Never,
    x5t: Never,
    #[serde(rename = "x5t#S256")]
    x5t_s256: Never,
    // Its content is another token, encrypted or packed, or it is to be read by rules that are not ours.
    cty: Never,
    enc: Never,
    zip: Never,
    crit: Never,
    b64: Never,
    // It is meant for another protocol (RFC 8555).
    url: Never,
    nonce: Never,
}

impl Head<'_> {
    /// The key it names, if it is an access token's head.
    pub(super) fn key(&self) -> Option<&str> {
        let typ = &self.typ.as_ref()?.0;
        let access = typ.eq_ignore_ascii_case("at+jwt") || typ.eq_ignore_ascii_case("application/at+jwt");
        self.kid.as_ref().filter(|_| access).map(|kid| &*kid.0)
    }

    /// The algorithm it names.
    pub(super) fn algorithm(&self) -> Option<&str> {
        self.alg.as_ref().map(|alg| &*alg.0)
    }
}

/// What a token says of its bearer. What has no default must be there.
#[derive(Debug, Deserialize)]
pub(super) struct Claims<'b> {
    #[serde(borrow)]
    iss: Text<'b>,
    #[serde(borrow)]
    aud: Audience<'b>,
    pub(super) sub: Uuid,
    pub(super) exp: i64,
    #[serde(default)]
    pub(super) iat: i64,
    pub(super) nbf: Option<i64>,
    #[serde(default)]
    pub(super) email: String,
    #[serde(default)]
    pub(super) roles: Vec<String>,
    #[serde(default)]
    pub(super) orgs: Vec<Uuid>,
    pub(super) auth_time: Option<i64>,
    pub(super) sid: Option<Uuid>,
    #[serde(borrow)]
    tier: Option<Text<'b>>,
}

/// For whom a token was issued.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience<'b> {
    One(#[serde(borrow)] Text<'b>),
    Several(#[serde(borrow)] Vec<Text<'b>>),
}

impl Claims<'_> {
    /// Whether this issuer said so to this audience, of a time that there is.
    pub(super) fn are_for(&self, issuer: &str, audience: &str) -> bool {
        let meant = match &self.aud {
            Audience::One(name) => name.0 == audience,
            Audience::Several(names) => names.iter().any(|name| name.0 == audience),
        };
        meant && self.iss.0 == issuer && self.exp >= 0
    }

    /// The tier it names.
    pub(super) fn tier(&self) -> Option<&str> {
        self.tier.as_ref().map(|tier| &*tier.0)
    }
}
