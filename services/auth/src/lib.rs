//! Proves who a caller is: the built-in OpenID provider.
//!
//! Words: an *account* is a person who can sign in; a *code* stands for one sign-in until the client fetches its
//! tokens; a *session* is one sign-in on one device and the *family* of its refresh tokens; an *access token* is what the
//! gateway believes for at most ten minutes; a *refresh token* gets the next one.
//!
//! States: a session is active, then ended (`logout`, `reuse`, `admin`, `expired`), never active again.
//! A code is fresh, then used. A refresh token is current, then rotated.
//! A signing key is published, signs, and is kept until the last token it signed has run out.
//!
//! What always holds: a code works once, and its second use ends the session of the first; a refresh token that comes
//! back later than ten seconds after its rotation ends the session; within those seconds it gives the same successor;
//! whatever is secret is stored hashed, or sealed under a key that is not in the database; a key signs only after
//! it has been published for as long as anybody may have cached the list without it; an unknown address and a wrong
//! password cost the same time and get the same answer.

mod account;
mod api;
mod authorization;
mod client;
mod demo;
mod grant;
mod jobs;
mod keyring;
mod keys;
mod oauth;
mod opaque;
mod page;
mod password;
mod seal;
mod session;
mod settings;
mod state;
mod store;
#[cfg(test)]
mod testing;
mod throttle;
mod token;

use std::time::Duration;

use kernel::service::Declared;

pub use settings::Settings;
use state::Auth;

/// The declaration.
pub fn service() -> Declared {
    kernel::describe!(Auth)
        .port(8081)
        .migrations(store::STEPS)
        .publishes(contracts::auth::EVENTS)
        .routes(api::routes)
        .every(Duration::from_secs(60), "rotate-keys", jobs::rotate_keys)
        .every(Duration::from_secs(60), "end-sessions", jobs::end_sessions)
        .every(Duration::from_secs(600), "forget", jobs::forget)
        .woken("demo-city", Duration::from_secs(3600), jobs::demo_city)
        .refuses(account::AccountRefusal::DOCS)
        .refuses(session::SessionRefusal::DOCS)
        .refuses(password::PasswordRefusal::DOCS)
        .settings::<Settings>()
        .start_with(Auth::start)
}
