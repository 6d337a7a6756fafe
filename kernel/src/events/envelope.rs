//! An event on the wire: CloudEvents 1.0 attributes around the payload.

use std::ops::Deref;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Event;
use crate::clock::Timestamp;
use crate::telemetry::Trace;

/// A `CloudEvent` with our extension attributes (`orgid`, `version`, `traceparent`, `position`).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// Always `1.0`.
    pub specversion: String,
    /// Identity of the event; it says nothing about order.
    pub id: Uuid,
    /// The publishing service.
    pub source: String,
    /// The event type's name.
    #[serde(rename = "type")]
    pub kind: String,
    /// The aggregate's identity; also the partition key.
    pub subject: Uuid,
    /// When it happened.
    pub time: Timestamp,
    /// Name and version of the payload's schema, such as `order.created.v1`.
    pub dataschema: String,
    /// The organisation.
    pub orgid: Uuid,
    /// The aggregate's version after the change.
    pub version: i64,
    /// W3C trace context.
    #[serde(default)]
    pub traceparent: String,
    /// Place in the publisher's outbox.
    pub position: i64,
    /// The payload, byte for byte as it was published.
    pub data: Box<serde_json::value::RawValue>,
}

/// An event as a reaction gets it.
#[derive(Clone, Debug)]
pub struct Received<E> {
    /// Identity of the event.
    pub id: Uuid,
    /// The organisation.
    pub org: Uuid,
    /// The aggregate it is about.
    pub subject: Uuid,
    /// The aggregate's version.
    pub version: i64,
    /// When it happened.
    pub time: Timestamp,
    /// The trace it belongs to.
    pub trace: Trace,
    /// The event itself.
    pub event: E,
}

impl<E> Deref for Received<E> {
    type Target = E;
    fn deref(&self) -> &E {
        &self.event
    }
}

impl<E: Event> Received<E> {
    /// Reads the payload; unknown fields are ignored.
    ///
    /// # Errors
    /// A payload that is not of the type this consumer was built with.
    pub fn open(envelope: &Envelope) -> Result<Self, serde_json::Error> {
        let payload: E::Payload = serde_json::from_str(envelope.data.get())?;
        Ok(Self {
            id: envelope.id,
            org: envelope.orgid,
            subject: envelope.subject,
            version: envelope.version,
            time: envelope.time,
            trace: Trace::parse(&envelope.traceparent).unwrap_or_default(),
            event: E::from_payload(payload),
        })
    }
}
