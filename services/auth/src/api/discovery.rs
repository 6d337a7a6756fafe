//! What clients and verifiers read about the provider.

use std::sync::Arc;

use kernel::http::{Answer, Fail};
use serde::Serialize;

use crate::authorization::SCOPES;
use crate::keys::Jwk;
use crate::state::Auth;

/// Shorter than a key is published before it signs, so that no cache misses one.
const CACHE: &str = "public, max-age=300";

/// The metadata of OpenID Connect Discovery 1.0 and RFC 8414.
#[derive(Serialize)]
struct Provider {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    userinfo_endpoint: String,
    revocation_endpoint: String,
    jwks_uri: String,
    scopes_supported: &'static [&'static str],
    response_types_supported: [&'static str; 1],
    response_modes_supported: [&'static str; 1],
    grant_types_supported: [&'static str; 2],
    subject_types_supported: [&'static str; 1],
    id_token_signing_alg_values_supported: [&'static str; 1],
    token_endpoint_auth_methods_supported: [&'static str; 1],
    revocation_endpoint_auth_methods_supported: [&'static str; 1],
    code_challenge_methods_supported: [&'static str; 1],
    claims_supported: [&'static str; 9],
    authorization_response_iss_parameter_supported: bool,
    request_parameter_supported: bool,
    request_uri_parameter_supported: bool,
}

#[derive(Serialize)]
struct Keys {
    keys: Vec<Jwk>,
}

fn cached<T: Serialize>(value: &T) -> Answer {
    let body = serde_json::to_vec(value).expect("a plain data type always becomes JSON");
    Answer::new(200, "application/json", body).header("cache-control", CACHE)
}

pub(super) async fn describe_provider(state: Arc<Auth>) -> Result<Answer, Fail> {
    let issuer = &state.settings.issuer;
    let at = |path: &str| format!("{issuer}{path}");
    Ok(cached(&Provider {
        issuer: issuer.clone(),
        authorization_endpoint: at("/authorize"),
        token_endpoint: at("/token"),
        userinfo_endpoint: at("/userinfo"),
        revocation_endpoint: at("/revoke"),
        jwks_uri: at("/.well-known/jwks.json"),
        scopes_supported: SCOPES,
        response_types_supported: ["code"],
        response_modes_supported: ["query"],
        grant_types_supported: ["authorization_code", "refresh_token"],
        subject_types_supported: ["public"],
        id_token_signing_alg_values_supported: ["RS256"],
        token_endpoint_auth_methods_supported: ["none"],
        revocation_endpoint_auth_methods_supported: ["none"],
        code_challenge_methods_supported: ["S256"],
        claims_supported: ["iss", "aud", "sub", "exp", "iat", "auth_time", "nonce", "email", "name"],
        authorization_response_iss_parameter_supported: true,
        request_parameter_supported: false,
        request_uri_parameter_supported: false,
    }))
}

pub(super) async fn list_keys(state: Arc<Auth>) -> Result<Answer, Fail> {
    Ok(cached(&Keys { keys: state.keys.published(&state.store).await? }))
}
