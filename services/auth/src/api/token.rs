//! The token endpoint, and giving tokens back.

use std::sync::Arc;

use kernel::http::{Answer, Fail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::grant::{self, BroughtCode, Grant, NewSession, Refused};
use crate::oauth::{AskedForm, OauthAnswer, OauthError, json};
use crate::opaque::Opaque;
use crate::state::Auth;
use crate::token;

/// What a client sends to get tokens.
#[derive(Deserialize, JsonSchema)]
pub(super) struct TokenForm {
    /// `authorization_code` or `refresh_token`.
    pub(super) grant_type: Option<String>,
    /// The program that asks.
    pub(super) client_id: Option<String>,
    /// The code, for `authorization_code`.
    pub(super) code: Option<String>,
    /// The address the code was sent to, for `authorization_code`.
    pub(super) redirect_uri: Option<String>,
    /// What the challenge was made from, for `authorization_code`.
    pub(super) code_verifier: Option<String>,
    /// The refresh token, for `refresh_token`.
    pub(super) refresh_token: Option<String>,
}

/// What a client sends to give a token back.
#[derive(Deserialize, JsonSchema)]
pub(super) struct RevokeForm {
    /// The refresh token.
    pub(super) token: Option<String>,
    /// The program it was given to.
    pub(super) client_id: Option<String>,
    /// Ignored: tokens of the two kinds look different.
    #[serde(rename = "token_type_hint")]
    _hint: Option<String>,
}

/// What a client gets.
#[derive(Serialize, JsonSchema)]
pub(super) struct Tokens {
    /// Proves who calls, for as long as it lasts.
    access_token: String,
    /// `Bearer`.
    token_type: &'static str,
    /// How long that is, in seconds.
    expires_in: u64,
    /// What it is good for.
    scope: String,
    /// Gets the next tokens, once.
    refresh_token: String,
    /// Says who signed in, for clients that asked for `openid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    id_token: Option<String>,
}

/// What the form asks for.
enum Asked {
    Redeem(BroughtCode),
    Refresh { token: Opaque, client_id: String },
}

pub(super) async fn grant_tokens(state: Arc<Auth>, form: AskedForm<TokenForm>) -> Result<OauthAnswer<Tokens>, Fail> {
    let asked = match form.0.and_then(|form| read(&state, form)) {
        Ok(asked) => asked,
        Err(error) => return Ok(error.answer().into()),
    };
    match decide(&state, asked).await? {
        Ok(grant) => {
            state.grants.count(&["granted"]);
            Ok(json(200, &tokens(&state, grant).await?).into())
        }
        Err(refused) => {
            state.grants.count(&[refused.word()]);
            Ok(invalid_grant().answer().into())
        }
    }
}

/// One answer for every reason: who guesses learns nothing.
fn invalid_grant() -> OauthError {
    OauthError::new("invalid_grant", "The code or token is unknown, expired, used or not this client's. Sign in again.")
}

fn read(state: &Auth, form: TokenForm) -> Result<Asked, OauthError> {
    let client_id = known_client(state, form.client_id)?;
    let missing = |name: &str| OauthError::invalid_request(format!("{name} is missing."));
    match form.grant_type.as_deref() {
        Some("authorization_code") => Ok(Asked::Redeem(BroughtCode {
            code: opaque(form.code.ok_or_else(|| missing("code"))?)?,
            client_id,
            redirect_uri: form.redirect_uri.ok_or_else(|| missing("redirect_uri"))?,
            verifier: form.code_verifier.ok_or_else(|| missing("code_verifier"))?,
        })),
        Some("refresh_token") => {
            let token = opaque(form.refresh_token.ok_or_else(|| missing("refresh_token"))?)?;
            Ok(Asked::Refresh { token, client_id })
        }
        None => Err(missing("grant_type")),
        Some(_) => Err(OauthError::new("unsupported_grant_type", "Use authorization_code or refresh_token.")),
    }
}

fn known_client(state: &Auth, id: Option<String>) -> Result<String, OauthError> {
    id.filter(|id| state.clients.find(id).is_some())
        .ok_or_else(|| OauthError::new("invalid_client", "client_id is missing or not known."))
}

fn opaque(text: String) -> Result<Opaque, OauthError> {
    Opaque::parse(&text).ok_or_else(invalid_grant)
}

async fn decide(state: &Auth, asked: Asked) -> Result<Result<Grant, Refused>, Fail> {
    let decided = match asked {
        Asked::Redeem(brought) => {
            let life = state.settings.session_life();
            let new = NewSession { id: kernel::ids::fresh(), refresh: Opaque::fresh(), life };
            let unit = state.store.write(move |tx| {
                let brought = brought.clone();
                async move { grant::redeem(&tx, &brought, &new).await.map_err(Fail::from) }
            });
            unit.await?
        }
        Asked::Refresh { token, client_id } => {
            let next = Opaque::fresh();
            let unit = state.store.write(move |tx| {
                let client_id = client_id.clone();
                async move { grant::refresh(&tx, &token, &client_id, &next).await.map_err(Fail::from) }
            });
            unit.await?
        }
    };
    Ok(decided)
}

async fn tokens(state: &Auth, grant: Grant) -> Result<Tokens, Fail> {
    let key = state.keys.current(&state.store).await?;
    let now = state.now();
    let good_for = token::good_until(&grant, &state.settings, now).since(now);
    Ok(Tokens {
        access_token: token::access(&grant, &state.settings, &key, now).map_err(Fail::Fault)?,
        token_type: "Bearer",
        expires_in: good_for.as_secs(),
        id_token: token::id(&grant, &state.settings, &key, now).map_err(Fail::Fault)?,
        refresh_token: grant.refresh.text(),
        scope: grant.session.scope,
    })
}

pub(super) async fn revoke_token(state: Arc<Auth>, form: AskedForm<RevokeForm>) -> Result<OauthAnswer<()>, Fail> {
    let (token, client_id) = match form.0.and_then(|form| read_revocation(&state, form)) {
        Ok((Some(token), client_id)) => (token, client_id),
        Ok((None, _)) => return Ok(Answer::empty(200).into()),
        Err(error) => return Ok(error.answer().into()),
    };
    let revoked = state.store.write(move |tx| {
        let client_id = client_id.clone();
        async move { grant::revoke(&tx, &token, &client_id).await.map_err(Fail::from) }
    });
    match revoked.await? {
        Ok(()) => Ok(Answer::empty(200).into()),
        Err(_) => Ok(OauthError::new("unauthorized_client", "The token was given to another client.").answer().into()),
    }
}

/// The token to revoke. A word that is none needs no revoking; an access token cannot be, only its session can.
fn read_revocation(state: &Auth, form: RevokeForm) -> Result<(Option<Opaque>, String), OauthError> {
    let client_id = known_client(state, form.client_id)?;
    let token = form.token.ok_or_else(|| OauthError::invalid_request("token is missing."))?;
    if token.split('.').count() == 3 {
        return Err(OauthError::new("unsupported_token_type", "Revoke the refresh token, or log out."));
    }
    Ok((Opaque::parse(&token), client_id))
}
