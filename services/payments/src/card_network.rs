//! The card network's HTTP API, client side: requests out, answers sorted into what they mean.

use std::time::Duration;

use kernel::config::Live;
use kernel::money::Currency;
use kernel::secrets::Pair;
use kernel::telemetry::{Name, Role, Span, key};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::provider::{
    Asking, BookLine, BookPage, Call, Known, KnownRefund, Provider, Reply, Standing, Unreadable, What,
};

const PAGE: i64 = 1_000;

/// A card network at an address.
pub struct CardNetwork {
    client: Client,
    base: String,
    api_key: Live<Pair>,
}

/// A client that cannot be made, and why.
#[derive(Debug, thiserror::Error)]
#[error("the client of the card network: {0}")]
pub struct ClientError(String);

impl CardNetwork {
    /// A client that gives up on a call after `timeout`; each call takes the key as it is then.
    ///
    /// # Errors
    /// An address that is not one.
    pub fn new(base: &str, api_key: Live<Pair>, timeout: Duration) -> Result<Self, ClientError> {
        let explain = |e: &dyn std::fmt::Display| ClientError(format!("{base}: {e}"));
        reqwest::Url::parse(base).map_err(|e| explain(&e))?;
        // No redirect is followed and no proxy of the environment is used: money talks to one address only.
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(timeout.min(Duration::from_secs(1)))
            .timeout(timeout)
            .tcp_nodelay(true)
            .build()
            .map_err(|e| explain(&e))?;
        Ok(Self { client, base: base.trim_end_matches('/').to_owned(), api_key })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(self.api_key.get().current.reveal_text())
    }

    /// Sends it as one span of the trace at work, which goes along.
    async fn send(&self, request: RequestBuilder, name: Name) -> Result<reqwest::Response, reqwest::Error> {
        let mut span = Span::part(Role::Client, name);
        span.set(key::HTTP_REQUEST_METHOD, name.0);
        span.set(key::URL_TEMPLATE, name.1);
        span.set(key::SERVICE_PEER_NAME, "card-network");
        let trace = span.trace();
        let request = if trace.is_none() { request } else { request.header("traceparent", trace.traceparent()) };
        let look = |span: &mut Span, done: &Result<reqwest::Response, reqwest::Error>| match done {
            Ok(response) => span.answered(response.status().as_u16()),
            Err(error) => span.fail(reason(error)),
        };
        span.watch(request.send(), look).await
    }

    async fn make(&self, call: &Call) -> Reply {
        let (path, body) = path_and_body(call);
        let request = self.request(Method::POST, &path).header("idempotency-key", &call.key).json(&body);
        let response = match self.send(request, Name("POST", template(&call.what))).await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return Reply::NotSent(reason(&error)),
            Err(error) => return Reply::Unknown(reason(&error)),
        };
        let status = response.status();
        match response.bytes().await {
            Ok(body) => read_answer(&call.what, status, &body),
            Err(error) => Reply::Unknown(reason(&error)),
        }
    }

    async fn ask<T: for<'de> Deserialize<'de>>(
        &self,
        path: &'static str,
        query: &[(&str, &str)],
    ) -> Result<Option<T>, Unreadable> {
        let request = self.request(Method::GET, path).query(query);
        let response = self.send(request, Name("GET", path)).await.map_err(|e| Unreadable(reason(&e)))?;
        let status = response.status();
        let body = response.bytes().await.map_err(|e| Unreadable(reason(&e)))?;
        if status == StatusCode::NOT_FOUND && code(&body) == "reference_not_found" {
            return Ok(None);
        }
        if status != StatusCode::OK {
            return Err(Unreadable(format!("status {status}, code {}", code(&body))));
        }
        serde_json::from_slice(&body).map(Some).map_err(|e| Unreadable(format!("an answer that does not read: {e}")))
    }
}

impl Provider for CardNetwork {
    fn call<'a>(&'a self, call: &'a Call) -> Asking<'a, Reply> {
        Box::pin(self.make(call))
    }

    fn lookup<'a>(&'a self, reference: &'a str) -> Asking<'a, Result<Vec<Known>, Unreadable>> {
        Box::pin(async move {
            let found: Option<Lookup> = self.ask("/v1/lookup", &[("reference", reference)]).await?;
            found.map_or_else(Vec::new, |f| f.authorizations).into_iter().map(Authorization::known).collect()
        })
    }

    fn books(&self, after: i64) -> Asking<'_, Result<BookPage, Unreadable>> {
        Box::pin(async move {
            let query = [("after", &*after.to_string()), ("limit", &*PAGE.to_string())];
            let page: Option<Books> = self.ask("/v1/books", &query).await?;
            let page = page.ok_or_else(|| Unreadable("no books at this address".into()))?;
            let lines = page.operations.into_iter().map(Line::read).collect();
            Ok(BookPage { lines, next_after: page.next_after })
        })
    }
}

/// The path as traces name it, without the identities in it.
const fn template(what: &What) -> &'static str {
    match what {
        What::Authorize { .. } => "/v1/authorizations",
        What::Capture { .. } => "/v1/authorizations/{id}/capture",
        What::Void { .. } => "/v1/authorizations/{id}/void",
        What::Refund { .. } => "/v1/refunds",
    }
}

fn path_and_body(call: &Call) -> (String, Value) {
    match &call.what {
        What::Authorize { reference, token, amount } => (
            "/v1/authorizations".to_owned(),
            json!({ "reference": reference, "token": token, "amount_minor": amount.amount_minor, "currency": amount.currency }),
        ),
        What::Capture { provider_id, amount_minor } => {
            (format!("/v1/authorizations/{provider_id}/capture"), json!({ "amount_minor": amount_minor }))
        }
        What::Void { provider_id } => (format!("/v1/authorizations/{provider_id}/void"), json!({})),
        What::Refund { provider_id, amount_minor } => (
            "/v1/refunds".to_owned(),
            json!({ "authorization": provider_id, "reference": call.key, "amount_minor": amount_minor }),
        ),
    }
}

/// Errors of the client name addresses and causes, never bodies.
fn reason(error: &reqwest::Error) -> String {
    let kind = if error.is_timeout() {
        "timed out"
    } else if error.is_connect() {
        "no connection"
    } else {
        "broken off"
    };
    kind.to_owned()
}

fn code(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    body["code"].as_str().unwrap_or("none").to_owned()
}

fn read_answer(what: &What, status: StatusCode, body: &[u8]) -> Reply {
    let code = code(body);
    match status.as_u16() {
        200 => read_success(what, body),
        // The key was used for something else: what that was, only the books can tell.
        422 if code == "idempotency_key_reused" => Reply::Unknown(code),
        402 | 409 | 422 => Reply::Final(code),
        other => Reply::Unknown(format!("status {other}, code {code}")),
    }
}

fn read_success(what: &What, body: &[u8]) -> Reply {
    let Ok(answer) = serde_json::from_slice::<Answer>(body) else {
        return Reply::Unknown("an answer that does not read".into());
    };
    let refusal = answer.decline_code.or(answer.code).unwrap_or_else(|| "declined".into());
    match (what, answer.status.as_str()) {
        (What::Authorize { .. }, "authorized") => Reply::Approved(answer.id),
        (What::Authorize { .. }, "declined") => Reply::Declined(refusal),
        (What::Authorize { .. }, "requires_action") => {
            Reply::RequiresAction(answer.id, answer.challenge_url.unwrap_or_default())
        }
        (What::Capture { amount_minor, .. }, "succeeded") if answer.amount_minor == *amount_minor => {
            Reply::Approved(answer.id)
        }
        (What::Void { .. }, "succeeded") => Reply::Approved(answer.id),
        (What::Refund { amount_minor, .. }, "succeeded") if answer.amount_minor == *amount_minor => {
            Reply::Approved(answer.id)
        }
        (What::Refund { .. }, "failed") => Reply::Declined(refusal),
        (_, other) => Reply::Unknown(format!("status {other} is not one that was asked for")),
    }
}

#[derive(Deserialize)]
struct Answer {
    id: String,
    status: String,
    amount_minor: i64,
    decline_code: Option<String>,
    code: Option<String>,
    challenge_url: Option<String>,
}

#[derive(Deserialize)]
struct Lookup {
    authorizations: Vec<Authorization>,
}

#[derive(Deserialize)]
struct Authorization {
    id: String,
    status: String,
    decline_code: Option<String>,
    challenge_url: Option<String>,
    captured_minor: i64,
    idempotency_keys: Vec<String>,
    refunds: Vec<Line>,
}

impl Authorization {
    fn known(self) -> Result<Known, Unreadable> {
        let standing = match self.status.as_str() {
            "authorized" => Standing::Authorized,
            "declined" => Standing::Declined,
            "requires_action" => Standing::RequiresAction,
            "captured" => Standing::Captured,
            "voided" => Standing::Voided,
            "expired" => Standing::Expired,
            other => return Err(Unreadable(format!("unknown status {other}"))),
        };
        let refund = |line: Line| KnownRefund {
            key: line.idempotency_key,
            succeeded: line.status == "succeeded",
            code: line.code,
        };
        Ok(Known {
            provider_id: self.id,
            standing,
            decline_code: self.decline_code,
            challenge_url: self.challenge_url,
            captured_minor: self.captured_minor,
            keys: self.idempotency_keys,
            refunds: self.refunds.into_iter().map(refund).collect(),
        })
    }
}

#[derive(Deserialize)]
struct Books {
    operations: Vec<Line>,
    next_after: Option<i64>,
}

#[derive(Deserialize)]
struct Line {
    kind: String,
    status: String,
    code: Option<String>,
    authorization_reference: String,
    idempotency_key: Option<String>,
    amount_minor: i64,
    currency: Currency,
}

impl Line {
    fn read(self) -> BookLine {
        BookLine {
            succeeded: self.status == "succeeded",
            kind: self.kind,
            reference: self.authorization_reference,
            key: self.idempotency_key,
            amount_minor: self.amount_minor,
            currency: self.currency,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capture(status: u16, body: &Value) -> Reply {
        let what = What::Capture { provider_id: "auth_1".into(), amount_minor: 5 };
        read_answer(&what, StatusCode::from_u16(status).unwrap(), body.to_string().as_bytes())
    }

    #[test]
    fn only_a_full_answer_counts_as_done_and_only_stated_refusals_as_final() {
        let done = json!({ "id": "cap_1", "status": "succeeded", "amount_minor": 5 });
        assert_eq!(capture(200, &done), Reply::Approved("cap_1".into()));
        assert_eq!(
            capture(402, &json!({ "code": "authorization_expired" })),
            Reply::Final("authorization_expired".into())
        );
        assert_eq!(capture(409, &json!({ "code": "already_voided" })), Reply::Final("already_voided".into()));
        let in_doubt = [
            (200, json!({ "id": "cap_1", "status": "succeeded", "amount_minor": 4 })),
            (200, json!({ "id": "cap_1" })),
            (200, json!({ "id": "cap_1", "status": "pending", "amount_minor": 5 })),
            (301, json!({})),
            (401, json!({})),
            (404, json!({})),
            (408, json!({})),
            (429, json!({})),
            (422, json!({ "code": "idempotency_key_reused" })),
            (500, json!({ "code": "processing_error" })),
            (503, json!({})),
            (504, json!({})),
        ];
        for (status, body) in in_doubt {
            assert!(matches!(capture(status, &body), Reply::Unknown(_)), "{status} {body}");
        }
    }

    #[test]
    fn a_decline_is_an_answer_of_the_bank_and_not_a_failure() {
        let what = What::Authorize {
            reference: "r".into(),
            token: "t".into(),
            amount: kernel::money::Money::new(5, Currency::EUR),
        };
        let body =
            json!({ "id": "auth_1", "status": "declined", "amount_minor": 5, "decline_code": "insufficient_funds" });
        assert_eq!(
            read_answer(&what, StatusCode::OK, body.to_string().as_bytes()),
            Reply::Declined("insufficient_funds".into())
        );
    }
}
