//! The bus's protocol: what is generated from it, and how rows and envelopes become messages.

use uuid::Uuid;

use super::Envelope;
use super::outbox::Headers;
use crate::clock::Timestamp;
use crate::row;
use crate::store::Json;

#[expect(
    unreachable_pub,
    unused_qualifications,
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
pub(crate) mod proto {
    tonic::include_proto!("bus.v1");
}

/// The most that a message may weigh: a full batch and one event beyond it.
pub(super) const LARGEST_MESSAGE: usize = 16 << 20;

row! {
    /// An outbox row as consumers get it.
    pub(crate) struct Stored {
        pub(crate) position: i64,
        pub(crate) id: Uuid,
        pub(crate) org_id: Uuid,
        pub(crate) aggregate_id: Uuid,
        pub(crate) aggregate_version: i64,
        pub(crate) event_type: String,
        pub(crate) schema_version: i64,
        pub(crate) payload: String,
        pub(crate) headers: Json<Headers>,
        pub(crate) created_at: Timestamp,
    }
}

impl From<Stored> for proto::Event {
    fn from(row: Stored) -> Self {
        Self {
            position: row.position,
            id: row.id.as_bytes().to_vec(),
            r#type: row.event_type,
            schema_version: u32::try_from(row.schema_version).unwrap_or(0),
            org: row.org_id.as_bytes().to_vec(),
            subject: row.aggregate_id.as_bytes().to_vec(),
            version: row.aggregate_version,
            time: row.created_at.micros(),
            traceparent: row.headers.0.traceparent,
            data: row.payload,
        }
    }
}

fn uuid(bytes: &[u8], what: &str) -> Result<Uuid, String> {
    Uuid::from_slice(bytes).map_err(|e| format!("{what} of an event: {e}"))
}

/// The envelope of an event that `publisher` sent.
pub(crate) fn envelope(publisher: &str, event: proto::Event) -> Result<Envelope, String> {
    // A payload that is not JSON travels on as a string: no reaction reads that, so it is parked and can be looked at.
    let data = serde_json::value::RawValue::from_string(event.data.clone())
        .or_else(|_| serde_json::value::to_raw_value(&event.data))
        .map_err(|e| format!("data of an event: {e}"))?;
    Ok(Envelope {
        specversion: "1.0".to_owned(),
        id: uuid(&event.id, "id")?,
        source: publisher.to_owned(),
        dataschema: format!("{}.v{}", event.r#type, event.schema_version),
        kind: event.r#type,
        subject: uuid(&event.subject, "subject")?,
        time: Timestamp::from_micros(event.time),
        orgid: uuid(&event.org, "org")?,
        version: event.version,
        traceparent: event.traceparent,
        position: event.position,
        data,
    })
}
