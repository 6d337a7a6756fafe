//! The sign-in page and what its form does.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kernel::clock::Timestamp;
use kernel::http::{Answer, Fail};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::account::fold;
use crate::authorization::{AuthorizeQuery, SignInRequest, Unfit, judge, with_parameters};
use crate::demo;
use crate::grant::CODE_LIFE;
use crate::oauth::{AskedForm, AskedQuery};
use crate::opaque::Opaque;
use crate::page::{self, Shown, SignIn};
use crate::state::Auth;
use crate::store::{self, AccountRow, CodeRow, PLATFORM};

/// What the form on the sign-in page sends.
#[derive(Deserialize, JsonSchema)]
pub(super) struct LoginForm {
    /// The sealed request, as the page had it.
    pub(super) request: Option<String>,
    /// The address to sign in with.
    pub(super) email: Option<String>,
    /// The password.
    pub(super) password: Option<String>,
}

pub(super) async fn authorize(state: Arc<Auth>, asked: AskedQuery<AuthorizeQuery>) -> Result<Shown, Fail> {
    // Where to send an unreadable request back to is as unreadable as the rest of it: the person is told.
    let asked = match asked.0 {
        Ok(asked) => asked,
        Err(error) => return Ok(Shown(page::message(400, &error.description))),
    };
    match judge(&state.clients, asked, state.now()) {
        Ok(request) => Ok(Shown(form(&state, 200, &request, &seal(&state, &request), "", None))),
        Err(Unfit::Tell(why)) => Ok(Shown(page::message(400, why))),
        Err(Unfit::SendBack { redirect_uri, state: given, error }) => {
            let parameters = [
                ("error", Some(error.error)),
                ("error_description", Some(error.description.as_ref())),
                ("state", given.as_deref()),
                ("iss", Some(state.settings.issuer.as_str())),
            ];
            Ok(Shown(send_back(&redirect_uri, &parameters)))
        }
    }
}

pub(super) async fn login(state: Arc<Auth>, form: AskedForm<LoginForm>) -> Result<Shown, Fail> {
    let form = match form.0 {
        Ok(form) => form,
        Err(error) => return Ok(Shown(page::message(400, &error.description))),
    };
    let (sealed, email) = (form.request.unwrap_or_default(), form.email.unwrap_or_default());
    let Some(request) = open(&state, &sealed) else {
        return Ok(Shown(page::message(400, "This sign-in page is too old. Go back to the program and start again.")));
    };
    demo::ensure(&state).await?;
    match check(&state, &fold(&email), form.password.unwrap_or_default()).await? {
        Checked::Right(account) => {
            state.sign_ins.count(&["right"]);
            accept(&state, &request, &account).await.map(Shown)
        }
        Checked::Wrong => {
            state.sign_ins.count(&["wrong"]);
            let alert = "E-mail address or password is wrong.";
            Ok(Shown(self::form(&state, 401, &request, &sealed, &email, Some(alert))))
        }
        Checked::TooOften(wait) => {
            state.sign_ins.count(&["throttled"]);
            let seconds = wait.as_secs() + 1;
            let alert = format!("Too many wrong passwords. Wait {seconds} seconds and try again.");
            let answer = self::form(&state, 429, &request, &sealed, &email, Some(&alert));
            Ok(Shown(answer.header("retry-after", seconds.to_string())))
        }
    }
}

enum Checked {
    Right(Box<AccountRow>),
    Wrong,
    TooOften(Duration),
}

/// The same steps whether there is such an account or not.
async fn check(state: &Auth, email: &str, password: String) -> Result<Checked, Fail> {
    let turn = state.passwords.turn().await?;
    // Asked only now, so that of many guesses sent at once no more than two slip past.
    if let Some(wait) = state.throttle.wait(email, state.now()) {
        return Ok(Checked::TooOften(wait));
    }
    let account = store::account_by_email(&state.store.read(), email).await?;
    let stored = account.as_ref().map(|account| account.password_hash.clone());
    let fits = state.passwords.fits(turn, password, stored).await?;
    match account.filter(|_| fits) {
        Some(account) => {
            state.throttle.succeeded(email);
            Ok(Checked::Right(Box::new(account)))
        }
        None => {
            state.throttle.failed(email, state.now());
            Ok(Checked::Wrong)
        }
    }
}

/// Sends the person back with a code.
async fn accept(state: &Auth, request: &SignInRequest, account: &AccountRow) -> Result<Answer, Fail> {
    let (code, now) = (Opaque::fresh(), state.now());
    let row = CodeRow {
        org_id: PLATFORM,
        code_hash: code.hash(),
        user_id: account.id,
        client_id: request.client_id.clone(),
        redirect_uri: request.redirect_uri.clone(),
        scope: request.scope.clone(),
        nonce: request.nonce.clone(),
        challenge: request.challenge.clone(),
        auth_time: now,
        expires_at: now.plus(CODE_LIFE),
        used_at: None,
        session_id: None,
    };
    let stored = state.store.write(move |tx| {
        let row = row.clone();
        async move { tx.insert(&row).await.map_err(Fail::from) }
    });
    stored.await?;
    let parameters =
        [("code", Some(code.text())), ("state", request.state.clone()), ("iss", Some(state.settings.issuer.clone()))];
    Ok(send_back(&request.redirect_uri, &parameters.each_ref().map(|(name, value)| (*name, value.as_deref()))))
}

/// 303, so that the browser does not send the password on.
fn send_back(redirect_uri: &str, parameters: &[(&str, Option<&str>)]) -> Answer {
    Answer::empty(303)
        .header("location", with_parameters(redirect_uri, parameters))
        .header("cache-control", "no-store")
        .header("referrer-policy", "no-referrer")
}

fn form(state: &Auth, status: u16, request: &SignInRequest, sealed: &str, email: &str, alert: Option<&str>) -> Answer {
    let client = state.clients.find(&request.client_id).map_or("a program", |client| client.name);
    SignIn { request: sealed, client, redirect_uri: &request.redirect_uri, email, alert }.answer(status)
}

fn seal(state: &Auth, request: &SignInRequest) -> String {
    let plain = serde_json::to_vec(request).expect("a plain data type always becomes JSON");
    URL_SAFE_NO_PAD.encode(state.forms.seal(&plain))
}

/// The request of a page that we made, unless it is too old or its client is no longer allowed what it was.
fn open(state: &Auth, sealed: &str) -> Option<SignInRequest> {
    let plain = state.forms.open(&URL_SAFE_NO_PAD.decode(sealed).ok()?)?;
    let request: SignInRequest = serde_json::from_slice(&plain).ok()?;
    let client = state.clients.find(&request.client_id)?;
    let fits = client.may_return_to(&request.redirect_uri) && state.now() < Timestamp::from_micros(request.good_until);
    fits.then_some(request)
}
