//! An authorization request: what a client asks for before a person signs in, and how it is told no.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kernel::clock::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::form_urlencoded;

use crate::client::Clients;
use crate::oauth::OauthError;

/// How long a person may look at the sign-in page.
pub(crate) const FORM_LIFE: std::time::Duration = std::time::Duration::from_secs(600);
/// Scopes that mean something here; others are ignored, as OpenID Connect wants it.
pub(crate) const SCOPES: &[&str] = &["openid", "email", "profile", "offline_access"];

/// The parameters as they come.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct AuthorizeQuery {
    /// `code`.
    pub(crate) response_type: Option<String>,
    /// The program that asks.
    pub(crate) client_id: Option<String>,
    /// Where to send the person back to; one that is registered.
    pub(crate) redirect_uri: Option<String>,
    /// `openid` for an ID token.
    pub(crate) scope: Option<String>,
    /// Comes back as it is.
    pub(crate) state: Option<String>,
    /// Goes into the ID token as it is.
    pub(crate) nonce: Option<String>,
    /// SHA-256 of the verifier in base64url (RFC 7636).
    pub(crate) code_challenge: Option<String>,
    /// `S256`.
    pub(crate) code_challenge_method: Option<String>,
    /// `query`, or left out.
    pub(crate) response_mode: Option<String>,
    /// `none` is refused: nobody is ever signed in already.
    pub(crate) prompt: Option<String>,
    /// Not supported.
    pub(crate) request: Option<String>,
    /// Not supported.
    pub(crate) request_uri: Option<String>,
}

/// A request that was found good; it travels through the sign-in page, sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SignInRequest {
    pub(crate) client_id: String,
    pub(crate) redirect_uri: String,
    pub(crate) scope: String,
    pub(crate) state: Option<String>,
    pub(crate) nonce: Option<String>,
    pub(crate) challenge: String,
    /// Micros since 1970.
    pub(crate) good_until: i64,
}

/// A request that was not found good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It cannot be told to the client, because nobody knows where that is; the person is told.
    Tell(&'static str),
    /// It is told to the client.
    SendBack { redirect_uri: String, state: Option<String>, error: OauthError },
}

/// Judges a request.
pub(crate) fn judge(clients: &Clients, asked: AuthorizeQuery, now: Timestamp) -> Result<SignInRequest, Unfit> {
    let client = asked.client_id.as_deref().and_then(|id| clients.find(id));
    let client = client.ok_or(Unfit::Tell("The program that sent you here is not known."))?;
    let redirect_uri = asked.redirect_uri.clone().filter(|uri| client.may_return_to(uri));
    let redirect_uri = redirect_uri.ok_or(Unfit::Tell("The address to return to is not one of this program's."))?;
    match check(&asked) {
        Err(error) => Err(Unfit::SendBack { redirect_uri, state: asked.state, error }),
        Ok(challenge) => Ok(SignInRequest {
            client_id: client.id.to_owned(),
            redirect_uri,
            scope: known_scopes(asked.scope.as_deref().unwrap_or("")),
            state: asked.state,
            nonce: asked.nonce,
            challenge,
            good_until: now.plus(FORM_LIFE).micros(),
        }),
    }
}

/// The challenge, if all else is as it must be.
fn check(asked: &AuthorizeQuery) -> Result<String, OauthError> {
    let fail = |code, why: &'static str| Err(OauthError::new(code, why));
    if asked.request.is_some() {
        return fail("request_not_supported", "Send the parameters themselves.");
    }
    if asked.request_uri.is_some() {
        return fail("request_uri_not_supported", "Send the parameters themselves.");
    }
    match asked.response_type.as_deref() {
        Some("code") => {}
        None => return fail("invalid_request", "response_type is missing."),
        Some(_) => return fail("unsupported_response_type", "Only response_type=code is supported."),
    }
    if asked.response_mode.as_deref().is_some_and(|mode| mode != "query") {
        return fail("invalid_request", "Only response_mode=query is supported.");
    }
    if asked.prompt.as_deref().is_some_and(|prompt| prompt.split(' ').any(|word| word == "none")) {
        return fail("login_required", "Nobody is signed in without a password here.");
    }
    if asked.code_challenge_method.as_deref() != Some("S256") {
        return fail("invalid_request", "code_challenge_method=S256 is required.");
    }
    match &asked.code_challenge {
        Some(challenge) if is_challenge(challenge) => Ok(challenge.clone()),
        _ => fail("invalid_request", "code_challenge must be a SHA-256 in base64url without padding."),
    }
}

fn is_challenge(text: &str) -> bool {
    URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == 32)
}

fn known_scopes(asked: &str) -> String {
    let known: Vec<&str> = SCOPES.iter().copied().filter(|scope| asked.split(' ').any(|word| word == *scope)).collect();
    known.join(" ")
}

/// Whether a verifier is the one behind the challenge (RFC 7636 section 4.6).
pub(crate) fn verifies(verifier: &str, challenge: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
    let well_formed = (43..=128).contains(&verifier.len()) && verifier.bytes().all(allowed);
    // The challenge is no secret, and the hash hides the verifier: comparing may take what time it wants.
    well_formed && URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes())) == challenge
}

/// The address with these parameters added to its query.
pub(crate) fn with_parameters(uri: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let mark = if uri.contains('?') { '&' } else { '?' };
    format!("{uri}{mark}{}", query.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    /// The example of RFC 7636 appendix B.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    fn good() -> AuthorizeQuery {
        let some = |text: &str| Some(text.to_owned());
        AuthorizeQuery {
            response_type: some("code"),
            client_id: some("foodexpress-cli"),
            redirect_uri: some("http://127.0.0.1:4000/callback"),
            scope: some("email unheard-of openid"),
            state: some("s"),
            code_challenge: some(CHALLENGE),
            code_challenge_method: some("S256"),
            ..AuthorizeQuery::default()
        }
    }

    fn judged(change: impl FnOnce(&mut AuthorizeQuery)) -> Result<SignInRequest, Unfit> {
        let mut asked = good();
        change(&mut asked);
        judge(&Clients::of(&Settings::default()), asked, Timestamp::default())
    }

    #[test]
    fn pkce_takes_the_verifier_of_the_challenge_only() {
        assert!(verifies(VERIFIER, CHALLENGE));
        let other = VERIFIER.replace('d', "e");
        for wrong in [other.as_str(), "", "short", CHALLENGE, &format!("{VERIFIER}=")] {
            assert!(!verifies(wrong, CHALLENGE), "{wrong}");
        }
        assert!(!verifies(VERIFIER, VERIFIER), "plain is not a method");
    }

    #[test]
    fn a_good_request_keeps_what_it_asked_for_and_drops_unknown_scopes() {
        let request = judged(|_| {}).unwrap();
        assert_eq!(request.scope, "openid email");
        assert_eq!((request.challenge.as_str(), request.state.as_deref()), (CHALLENGE, Some("s")));
        assert_eq!(request.good_until, 600_000_000);
    }

    #[test]
    fn nobody_is_sent_to_an_address_that_is_not_registered() {
        assert!(matches!(judged(|q| q.client_id = Some("stranger".into())), Err(Unfit::Tell(_))));
        assert!(matches!(judged(|q| q.client_id = None), Err(Unfit::Tell(_))));
        assert!(matches!(judged(|q| q.redirect_uri = Some("https://evil.example/".into())), Err(Unfit::Tell(_))));
        assert!(matches!(judged(|q| q.redirect_uri = None), Err(Unfit::Tell(_))));
    }

    #[test]
    fn everything_else_is_told_to_the_client_with_its_state() {
        let cases: [(fn(&mut AuthorizeQuery), &str); 10] = [
            (|q| q.response_type = None, "invalid_request"),
            (|q| q.response_type = Some("token".into()), "unsupported_response_type"),
            (|q| q.code_challenge = None, "invalid_request"),
            (|q| q.code_challenge = Some("abc".into()), "invalid_request"),
            (|q| q.code_challenge_method = None, "invalid_request"),
            (|q| q.code_challenge_method = Some("plain".into()), "invalid_request"),
            (|q| q.response_mode = Some("fragment".into()), "invalid_request"),
            (|q| q.prompt = Some("none".into()), "login_required"),
            (|q| q.request = Some("x".into()), "request_not_supported"),
            (|q| q.request_uri = Some("x".into()), "request_uri_not_supported"),
        ];
        for (case, (change, wanted)) in cases.into_iter().enumerate() {
            let Err(Unfit::SendBack { redirect_uri, state, error }) = judged(change) else { panic!("case {case}") };
            assert_eq!((error.error, state.as_deref()), (wanted, Some("s")), "case {case}");
            assert_eq!(redirect_uri, "http://127.0.0.1:4000/callback");
        }
    }

    #[test]
    fn parameters_are_added_to_an_address_with_and_without_a_query() {
        let pairs = [("code", Some("a-b_c")), ("state", None), ("iss", Some("http://h:1"))];
        assert_eq!(with_parameters("http://x/y", &pairs), "http://x/y?code=a-b_c&iss=http%3A%2F%2Fh%3A1");
        assert_eq!(with_parameters("http://x/y?z=1", &pairs[..1]), "http://x/y?z=1&code=a-b_c");
    }
}
