//! Messages of the provider: believed only with its signature over the very bytes, and then only as a hint to look.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kernel::clock::Timestamp;
use kernel::secrets::Pair;
use serde::Deserialize;
use uuid::Uuid;

use crate::attempt::AttemptState;
use crate::refund::MessageRefusal;

/// How far a message's time may be from ours, in seconds.
const TOLERANCE_S: i64 = 300;

/// A message as it came, taken apart but not believed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) id: &'a str,
    pub(crate) timestamp: &'a str,
    pub(crate) signature: &'a str,
    pub(crate) body: &'a [u8],
}

/// What a message hints at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hint {
    pub(crate) event_id: String,
    pub(crate) kind: String,
    /// The order it is about; none if it is about something that is not ours.
    pub(crate) order: Option<Uuid>,
}

#[derive(Deserialize)]
struct Body {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    reference: Option<String>,
    authorization_reference: Option<String>,
}

impl Message<'_> {
    /// The hint of a message that is signed by the provider, and recent.
    pub(crate) fn believe(&self, secrets: &Pair, now: Timestamp) -> Result<Hint, MessageRefusal> {
        let at: i64 = self.timestamp.parse().map_err(|_| MessageRefusal::BadSignature)?;
        if !secrets.accepted().any(|secret| self.is_signed_with(secret.reveal())) {
            return Err(MessageRefusal::BadSignature);
        }
        if (now.seconds().saturating_sub(at)).saturating_abs() > TOLERANCE_S {
            return Err(MessageRefusal::Stale);
        }
        let body: Body = serde_json::from_slice(self.body).map_err(|_| MessageRefusal::Unreadable)?;
        if body.id != self.id {
            return Err(MessageRefusal::Unreadable);
        }
        let reference = body.data.authorization_reference.or(body.data.reference);
        let order = reference.and_then(|text| text.parse().ok());
        Ok(Hint { event_id: body.id, kind: body.kind, order })
    }

    /// Any of the signatures, so that the provider may send two while it changes its secret.
    fn is_signed_with(&self, secret: &[u8]) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let signed = [self.id.as_bytes(), b".", self.timestamp.as_bytes(), b".", self.body].concat();
        let tags = self.signature.split_ascii_whitespace().filter_map(|one| one.strip_prefix("v1,"));
        tags.filter_map(|tag| STANDARD.decode(tag).ok()).any(|tag| hmac::verify(&key, &signed, &tag).is_ok())
    }
}

impl Hint {
    /// The states in which an attempt may learn something from this; a call under way will tell by itself.
    pub(crate) fn concerns(&self) -> &'static [AttemptState] {
        const WAITING: &[AttemptState] = &[
            AttemptState::RequiresAction,
            AttemptState::UnknownAuthorize,
            AttemptState::UnknownCapture,
            AttemptState::UnknownVoid,
        ];
        const WAITING_OR_HELD: &[AttemptState] = &[
            AttemptState::RequiresAction,
            AttemptState::UnknownAuthorize,
            AttemptState::UnknownCapture,
            AttemptState::UnknownVoid,
            AttemptState::Authorized,
        ];
        match self.kind.as_str() {
            "authorization.expired" | "authorization.voided" => WAITING_OR_HELD,
            _ => WAITING,
        }
    }
}

#[cfg(test)]
mod tests {
    use kernel::secrets::Secrets;

    use super::*;

    const NOW: i64 = 1_700_000_000;

    fn secrets() -> (tempfile::TempDir, Pair) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("webhook"), "secret\n").unwrap();
        let pair = Secrets::open(folder.path()).unwrap().pair("webhook").unwrap();
        (folder, pair)
    }

    fn body(order: Uuid) -> String {
        format!(
            r#"{{"id":"evt_1","type":"capture.succeeded","created":"x","data":{{"authorization_reference":"{order}","reference":"r"}}}}"#
        )
    }

    fn check(body: &str, signature: &str, timestamp: i64, now: i64) -> Result<Hint, MessageRefusal> {
        let (_folder, pair) = secrets();
        let timestamp = timestamp.to_string();
        let message = Message { id: "evt_1", timestamp: &timestamp, signature, body: body.as_bytes() };
        message.believe(&pair, Timestamp::from_micros(now * 1_000_000))
    }

    #[test]
    fn what_the_provider_signed_is_believed_and_names_its_order() {
        let order = kernel::ids::fresh();
        let signature = card_network::signature("secret", "evt_1", NOW, &body(order));
        let hint = check(&body(order), &signature, NOW, NOW + 300).unwrap();
        assert_eq!((hint.order, hint.kind.as_str()), (Some(order), "capture.succeeded"));
        let rotated = format!("v1,AAAA {signature}");
        assert!(check(&body(order), &rotated, NOW, NOW).is_ok());
    }

    #[test]
    fn forged_changed_and_stale_messages_are_refused() {
        let order = kernel::ids::fresh();
        let good = body(order);
        let signature = card_network::signature("secret", "evt_1", NOW, &good);
        let forged = card_network::signature("guess", "evt_1", NOW, &good);
        assert_eq!(check(&good, &forged, NOW, NOW), Err(MessageRefusal::BadSignature));
        assert_eq!(check(&good, "", NOW, NOW), Err(MessageRefusal::BadSignature));
        assert_eq!(check(&good, &signature, NOW + 1, NOW), Err(MessageRefusal::BadSignature));
        assert_eq!(check(&format!("{good} "), &signature, NOW, NOW), Err(MessageRefusal::BadSignature));
        assert_eq!(check(&good, &signature, NOW, NOW + 301), Err(MessageRefusal::Stale));
        assert_eq!(check(&good, &signature, NOW, NOW - 301), Err(MessageRefusal::Stale));
        let unread = card_network::signature("secret", "evt_1", NOW, "{}");
        assert_eq!(check("{}", &unread, NOW, NOW), Err(MessageRefusal::Unreadable));
    }
}
