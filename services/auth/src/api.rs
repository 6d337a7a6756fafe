//! Where requests enter: the OpenID provider's endpoints, then accounts and sessions.

mod accounts;
mod discovery;
mod sessions;
mod sign_in;
mod token;

#[cfg(test)]
mod tests;

use kernel::http::Routes;
use kernel::manifest::Access::{Anyone, SignedIn};

use crate::state::Auth;

/// The route table.
pub(crate) fn routes() -> Routes<Auth> {
    let reads = "clients and verifiers read it before anybody is signed in";
    let signs_in = "it is how people sign in";
    let proves = "the code or token in the request is the proof";
    Routes::new()
        .get("/.well-known/openid-configuration", Anyone(reads), "Describe the provider", discovery::describe_provider)
        .get("/.well-known/jwks.json", Anyone(reads), "List the keys that tokens are signed with", discovery::list_keys)
        .get("/authorize", Anyone(signs_in), "Show the sign-in page", sign_in::authorize)
        .protocol(
            "/login",
            Anyone(signs_in),
            "each success makes a code of its own, good once",
            "Sign in",
            sign_in::login,
        )
        .protocol(
            "/token",
            Anyone(proves),
            "a code works once; a refresh token repeats its answer for 10 seconds, then ends its session",
            "Exchange a code or refresh token for tokens",
            token::grant_tokens,
        )
        .get("/userinfo", SignedIn, "Tell who the caller is", accounts::user_info)
        .protocol(
            "/revoke",
            Anyone(proves),
            "a session ends once",
            "End the session of a refresh token",
            token::revoke_token,
        )
        .protocol("/logout", SignedIn, "a session ends once", "End the caller's session", sessions::log_out)
        .protocol(
            "/api/v1/accounts",
            Anyone("people make an account before they can sign in"),
            "an e-mail address has one account",
            "Create an account",
            accounts::create_account,
        )
        .get("/api/v1/accounts/me", SignedIn, "Show the caller's account", accounts::show_account)
        .patch("/api/v1/accounts/me", SignedIn, "Change the caller's account", accounts::change_account)
        .get("/api/v1/sessions", SignedIn, "List the caller's sessions", sessions::list_sessions)
        .delete("/api/v1/sessions/{id}", SignedIn, "End a session", sessions::end_session)
}
