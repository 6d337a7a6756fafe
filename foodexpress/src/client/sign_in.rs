//! Signing in as a browser would: authorization code with PKCE, the login form, the token.

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Client;

/// The client that the built-in provider knows for command-line use.
const CLIENT_ID: &str = "foodexpress-cli";
const REDIRECT: &str = "http://127.0.0.1/callback";

/// An access token for this account.
pub(crate) async fn sign_in(client: &Client, email: &str, password: &str) -> Result<String> {
    let verifier = URL_SAFE_NO_PAD.encode(kernel::ids::secret_bytes::<32>());
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
    let challenge = URL_SAFE_NO_PAD.encode(digest);
    let state = URL_SAFE_NO_PAD.encode(kernel::ids::secret_bytes::<12>());
    let code = authorize(client, email, password, &challenge, &state).await?;
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("redirect_uri", REDIRECT),
        ("client_id", CLIENT_ID),
        ("code_verifier", verifier.as_str()),
    ];
    let response = client.knock(|http, door| http.post(format!("{door}/token")).form(&form)).await?;
    let status = response.status();
    let body: serde_json::Value = response.json().await.context("the token endpoint's answer is not JSON")?;
    match body["access_token"].as_str() {
        Some(token) => Ok(token.to_owned()),
        None => bail!("no token for {email}: {status} {body}"),
    }
}

async fn authorize(client: &Client, email: &str, password: &str, challenge: &str, state: &str) -> Result<String> {
    let query = [
        ("response_type", "code"),
        ("client_id", CLIENT_ID),
        ("redirect_uri", REDIRECT),
        ("scope", "openid email"),
        ("state", state),
        ("code_challenge", challenge),
        ("code_challenge_method", "S256"),
    ];
    let page = client.knock(|http, door| http.get(format!("{door}/authorize")).query(&query)).await?;
    let status = page.status();
    let page = page.text().await?;
    let Some(request) = hidden_field(&page, "request") else { bail!("no sign-in form: {status} {page}") };
    let form = [("request", request), ("email", email), ("password", password)];
    let answer = client.knock(|http, door| http.post(format!("{door}/login")).form(&form)).await?;
    let location = answer.headers().get("location").and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
    let query = location.split_once('?').map_or("", |(_, query)| query);
    let field = |name: &str| {
        query.split('&').filter_map(|p| p.split_once('=')).find(|(n, _)| *n == name).map(|(_, v)| v.to_owned())
    };
    if field("state").as_deref() != Some(state) {
        bail!("sign-in as {email} was refused: {}", answer.status());
    }
    field("code").context("the redirect carries no code")
}

fn hidden_field<'a>(page: &'a str, name: &str) -> Option<&'a str> {
    let after = page.split_once(&format!("name=\"{name}\" value=\""))?.1;
    after.split_once('"').map(|(value, _)| value)
}
