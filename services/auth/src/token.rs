//! Access tokens and ID tokens: what they claim, and how they are signed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kernel::clock::Timestamp;
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::grant::Grant;
use crate::keys::SigningKey;
use crate::settings::Settings;

/// For whom access tokens are.
pub(crate) const AUDIENCE: &str = "foodexpress";

/// What an access token claims (RFC 9068).
#[derive(Clone, Debug, Serialize)]
struct AccessClaims<'a> {
    iss: &'a str,
    aud: &'static str,
    sub: Uuid,
    email: &'a str,
    roles: &'a [String],
    orgs: &'a [Uuid],
    auth_time: i64,
    sid: Uuid,
    jti: Uuid,
    iat: i64,
    nbf: i64,
    exp: i64,
    client_id: &'a str,
    scope: &'a str,
}

/// What an ID token claims (OpenID Connect Core section 2).
#[derive(Clone, Debug, Serialize)]
struct IdClaims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: Uuid,
    auth_time: i64,
    sid: Uuid,
    iat: i64,
    exp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
}

/// Until when tokens made now are good: the session's end is theirs too.
pub(crate) fn good_until(grant: &Grant, settings: &Settings, now: Timestamp) -> Timestamp {
    now.plus(settings.access_life()).min(grant.session.expires_at)
}

/// The access token.
pub(crate) fn access(grant: &Grant, settings: &Settings, key: &SigningKey, now: Timestamp) -> Result<String, String> {
    let claims = AccessClaims {
        iss: &settings.issuer,
        aud: AUDIENCE,
        sub: grant.account.id,
        email: &grant.account.email,
        roles: &grant.account.roles.0,
        orgs: &grant.account.orgs.0,
        auth_time: grant.session.auth_time.seconds(),
        sid: grant.session.id,
        jti: kernel::ids::fresh(),
        iat: now.seconds(),
        nbf: now.seconds(),
        exp: good_until(grant, settings, now).seconds(),
        client_id: &grant.session.client_id,
        scope: &grant.session.scope,
    };
    signed(key, "at+jwt", &claims)
}

/// The ID token, if the client asked for one with the scope `openid`.
pub(crate) fn id(
    grant: &Grant,
    settings: &Settings,
    key: &SigningKey,
    now: Timestamp,
) -> Result<Option<String>, String> {
    let asked = |scope: &str| grant.session.scope.split(' ').any(|word| word == scope);
    if !asked("openid") {
        return Ok(None);
    }
    let claims = IdClaims {
        iss: &settings.issuer,
        aud: &grant.session.client_id,
        sub: grant.account.id,
        auth_time: grant.session.auth_time.seconds(),
        sid: grant.session.id,
        iat: now.seconds(),
        exp: good_until(grant, settings, now).seconds(),
        nonce: grant.nonce.as_deref(),
        email: asked("email").then_some(grant.account.email.as_str()),
        name: asked("profile").then_some(grant.account.name.as_str()),
    };
    signed(key, "JWT", &claims).map(Some)
}

fn signed<T: Serialize>(key: &SigningKey, kind: &str, claims: &T) -> Result<String, String> {
    let header = json!({"alg": "RS256", "kid": key.kid, "typ": kind}).to_string();
    let claims = serde_json::to_vec(claims).map_err(|e| format!("claims do not become JSON: {e}"))?;
    let mut token = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = key.sign(token.as_bytes())?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Ok(token)
}
