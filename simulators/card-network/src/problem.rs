//! Every refusal of the network: a stable code, its HTTP status and the problem+json it becomes.
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// What went wrong, as a word that clients may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    MalformedJson,
    InvalidParameter,
    IdempotencyKeyRequired,
    IdempotencyKeyInvalid,
    Unauthorized,
    AuthorizationExpired,
    NotFound,
    AuthorizationNotFound,
    ReferenceNotFound,
    MethodNotAllowed,
    RequestTimeout,
    AlreadyCaptured,
    AlreadyVoided,
    AuthorizationDeclined,
    AuthorizationRequiresAction,
    AuthorizationNotCaptured,
    ChallengeNotPending,
    BodyTooLarge,
    UnsupportedMediaType,
    InvalidBody,
    InvalidAmount,
    InvalidCurrency,
    InvalidReference,
    InvalidCard,
    CardExpired,
    CardNotSupported,
    TokenUnknown,
    AmountExceedsAuthorization,
    RefundExceedsCapture,
    IdempotencyKeyReused,
    InvalidFaults,
    InvalidWebhookUrl,
    Internal,
    Injected,
    Unavailable,
    GatewayTimeout,
}

impl Code {
    const fn parts(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::MalformedJson => (400, "malformed_json", "The body is not JSON"),
            Self::InvalidParameter => (400, "invalid_parameter", "A parameter is missing or malformed"),
            Self::IdempotencyKeyRequired => (400, "idempotency_key_required", "An Idempotency-Key is required"),
            Self::IdempotencyKeyInvalid => (400, "idempotency_key_invalid", "The Idempotency-Key is malformed"),
            Self::Unauthorized => (401, "unauthorized", "A valid API key is required"),
            Self::AuthorizationExpired => (402, "authorization_expired", "The authorisation has expired"),
            Self::NotFound => (404, "not_found", "There is nothing at this path"),
            Self::AuthorizationNotFound => (404, "authorization_not_found", "No such authorisation"),
            Self::ReferenceNotFound => (404, "reference_not_found", "The network never saw this reference"),
            Self::MethodNotAllowed => (405, "method_not_allowed", "This path does not take that method"),
            Self::RequestTimeout => (408, "request_timeout", "The body did not arrive in time"),
            Self::AlreadyCaptured => (409, "already_captured", "The authorisation is already captured"),
            Self::AlreadyVoided => (409, "already_voided", "The authorisation is already voided"),
            Self::AuthorizationDeclined => (409, "authorization_declined", "The authorisation was declined"),
            Self::AuthorizationRequiresAction => {
                (409, "authorization_requires_action", "The cardholder has not answered the challenge")
            }
            Self::AuthorizationNotCaptured => (409, "authorization_not_captured", "Nothing was captured to refund"),
            Self::ChallengeNotPending => (409, "challenge_not_pending", "No challenge is waiting for an answer"),
            Self::BodyTooLarge => (413, "body_too_large", "The body is larger than 64 KiB"),
            Self::UnsupportedMediaType => (415, "unsupported_media_type", "The body must be application/json"),
            Self::InvalidBody => (422, "invalid_body", "The body does not have the documented shape"),
            Self::InvalidAmount => (422, "invalid_amount", "The amount is not between 1 and 10^12"),
            Self::InvalidCurrency => (422, "invalid_currency", "The currency is not three capital letters"),
            Self::InvalidReference => (422, "invalid_reference", "The reference is not 1 to 255 visible characters"),
            Self::InvalidCard => (422, "invalid_card", "The card details are malformed"),
            Self::CardExpired => (422, "card_expired", "The card has expired"),
            Self::CardNotSupported => (422, "card_not_supported", "Only the listed test cards are accepted"),
            Self::TokenUnknown => (422, "token_unknown", "The network never issued this token"),
            Self::AmountExceedsAuthorization => {
                (422, "amount_exceeds_authorization", "The amount is more than was authorised")
            }
            Self::RefundExceedsCapture => {
                (422, "refund_exceeds_capture", "The amount is more than is left of the capture")
            }
            Self::IdempotencyKeyReused => {
                (422, "idempotency_key_reused", "The Idempotency-Key was used for another request")
            }
            Self::InvalidFaults => (422, "invalid_faults", "A rate is not between 0 and 100, or a delay over 60000 ms"),
            Self::InvalidWebhookUrl => (422, "invalid_webhook_url", "The address is not an absolute http URL"),
            Self::Internal => (500, "internal", "The network failed"),
            Self::Injected => (500, "processing_error", "The network failed"),
            Self::Unavailable => (503, "unavailable", "The network is not available"),
            Self::GatewayTimeout => (504, "timeout", "The network gave up on its own answer"),
        }
    }
}

/// One refusal on its way to a caller.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    detail: Option<String>,
}

impl Problem {
    pub(crate) fn with_detail(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: Some(detail.into()) }
    }

    pub(crate) fn status(&self) -> u16 {
        self.code.parts().0
    }

    pub(crate) fn body(&self) -> Value {
        let (status, code, title) = self.code.parts();
        json!({
            "type": format!("urn:card-network:problem:{code}"),
            "title": title,
            "status": status,
            "code": code,
            "detail": self.detail.as_deref().unwrap_or(title),
        })
    }
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Self { code, detail: None }
    }
}

impl From<rusqlite::Error> for Problem {
    fn from(error: rusqlite::Error) -> Self {
        tracing::error!(error = %error, "the database refused a statement");
        Code::Internal.into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = json_response(self.status(), self.body().to_string());
        if self.code == Code::Unauthorized {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Puts a body on the wire; from 400 on it is a problem document.
pub(crate) fn json_response(status: u16, body: String) -> Response {
    let kind = if status >= 400 { "application/problem+json" } else { "application/json" };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, [(header::CONTENT_TYPE, HeaderValue::from_static(kind))], body).into_response()
}
