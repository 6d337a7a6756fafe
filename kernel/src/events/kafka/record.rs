//! An event as a Kafka record: CloudEvents in binary mode, attributes in `ce_` headers, the payload byte for byte.

use aws_lc_rs::digest;
use rdkafka::message::{Header, Headers as _, Message, OwnedHeaders, OwnedMessage};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::events::Envelope;
use crate::events::wire::Stored;

/// What a relay adds to each of its events.
pub(super) struct Stamp<'a> {
    /// The publishing service.
    pub(super) publisher: &'a str,
    /// Which outbox it is.
    pub(super) outbox: Uuid,
    /// The term of the relay: a later relay's is higher.
    pub(super) term: i64,
}

pub(super) fn headers(event: &Stored, stamp: &Stamp<'_>) -> OwnedHeaders {
    let all: [(&str, String); 14] = [
        ("content-type", "application/json".to_owned()),
        ("ce_specversion", "1.0".to_owned()),
        ("ce_id", event.id.to_string()),
        ("ce_source", stamp.publisher.to_owned()),
        ("ce_type", event.event_type.clone()),
        ("ce_subject", event.aggregate_id.to_string()),
        ("ce_time", text_of(event.created_at)),
        ("ce_dataschema", format!("{}.v{}", event.event_type, event.schema_version)),
        ("ce_orgid", event.org_id.to_string()),
        ("ce_version", event.aggregate_version.to_string()),
        ("ce_position", event.position.to_string()),
        ("ce_traceparent", event.headers.0.traceparent.clone()),
        ("ce_outbox", stamp.outbox.to_string()),
        ("ce_relayterm", stamp.term.to_string()),
    ];
    let start = OwnedHeaders::new_with_capacity(all.len());
    all.iter().fold(start, |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
}

/// Microseconds, as the publisher stored them.
fn text_of(time: Timestamp) -> String {
    time.to_chrono().to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

/// A record as it was read.
pub(super) enum Reading {
    /// An event, and the outbox it comes from.
    Event(Box<Envelope>, Uuid),
    /// Not written by the publisher that this topic belongs to: nothing of ours, and nothing is done about it.
    Foreign(String),
    /// The publisher's, but not an event that anybody could handle; it is parked under the name it has.
    Broken(Box<Envelope>, String),
}

pub(super) fn read(message: &OwnedMessage, publisher: &str, most: i32) -> Reading {
    let get = |name: &str| {
        let headers = message.headers()?;
        let found = headers.iter().find(|header| header.key == name)?;
        std::str::from_utf8(found.value?).ok()
    };
    match get("ce_source") {
        Some(source) if source == publisher => {}
        other => return Reading::Foreign(format!("it says that {} wrote it", other.unwrap_or("nobody"))),
    }
    match parse(message, publisher, most, &get) {
        Ok((envelope, outbox)) => Reading::Event(Box::new(envelope), outbox),
        Err(why) => Reading::Broken(Box::new(nameless(message, publisher, &get)), why),
    }
}

fn parse<'a>(
    message: &'a OwnedMessage,
    publisher: &str,
    most: i32,
    get: &impl Fn(&str) -> Option<&'a str>,
) -> Result<(Envelope, Uuid), String> {
    let need = |name: &str| get(name).ok_or_else(|| format!("it has no header {name}"));
    let bad = |name: &str| format!("its header {name} does not read");
    let uuid = |name: &str| need(name)?.parse::<Uuid>().map_err(|_| bad(name));
    let number = |name: &str| need(name)?.parse::<i64>().map_err(|_| bad(name));
    let payload = message.payload().unwrap_or_default();
    if payload.len() > usize::try_from(most).unwrap_or(0) {
        return Err(format!("it has {} bytes; kafka.max_message_bytes allows {most}", payload.len()));
    }
    let data = std::str::from_utf8(payload).map_err(|_| "its payload is not text".to_owned())?;
    let data =
        serde_json::value::RawValue::from_string(data.to_owned()).map_err(|_| "its payload is not JSON".to_owned())?;
    let envelope = Envelope {
        specversion: "1.0".to_owned(),
        id: uuid("ce_id")?,
        source: publisher.to_owned(),
        kind: need("ce_type")?.to_owned(),
        subject: uuid("ce_subject")?,
        time: need("ce_time")?.parse().map_err(|_| bad("ce_time"))?,
        dataschema: get("ce_dataschema").unwrap_or_default().to_owned(),
        orgid: uuid("ce_orgid")?,
        version: number("ce_version")?,
        traceparent: get("ce_traceparent").unwrap_or_default().to_owned(),
        position: number("ce_position")?,
        data,
    };
    if message.key() != Some(envelope.subject.to_string().as_bytes()) {
        return Err("its key is not its subject".to_owned());
    }
    Ok((envelope, uuid("ce_outbox")?))
}

/// What a record that does not read is parked as: an identity made of its place, so that it is parked once.
fn nameless<'a>(message: &'a OwnedMessage, publisher: &str, get: &impl Fn(&str) -> Option<&'a str>) -> Envelope {
    let place = format!("{}/{}/{}", message.topic(), message.partition(), message.offset());
    let made = digest::digest(&digest::SHA256, place.as_bytes());
    let id = Uuid::from_slice(&made.as_ref()[..16]).expect("a digest has more than sixteen bytes");
    let key = message.key().and_then(|key| std::str::from_utf8(key).ok()).and_then(|key| key.parse().ok());
    let data = serde_json::json!({"unreadable": place});
    Envelope {
        specversion: "1.0".to_owned(),
        id,
        source: publisher.to_owned(),
        kind: get("ce_type").unwrap_or("unreadable").to_owned(),
        subject: key.unwrap_or(Uuid::nil()),
        time: Timestamp::from_micros(message.timestamp().to_millis().unwrap_or(0).saturating_mul(1000)),
        dataschema: String::new(),
        orgid: Uuid::nil(),
        version: 0,
        traceparent: String::new(),
        position: 0,
        data: serde_json::value::to_raw_value(&data).expect("plain data becomes JSON"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::outbox::Headers;
    use crate::store::Json;
    use rdkafka::Timestamp as KafkaTime;

    fn stored() -> Stored {
        Stored {
            position: 7,
            id: crate::ids::fresh(),
            org_id: Uuid::from_u128(7),
            aggregate_id: crate::ids::fresh(),
            aggregate_version: 3,
            event_type: "order.created".into(),
            schema_version: 1,
            payload: "{\"b\": 1.50, \"a\":2}".into(),
            headers: Json(Headers { traceparent: "00-1-2-01".into() }),
            created_at: "2026-01-01T12:00:00.123456Z".parse().unwrap(),
        }
    }

    fn message(event: &Stored, key: &str, headers: OwnedHeaders) -> OwnedMessage {
        let payload = Some(event.payload.clone().into_bytes());
        let key = Some(key.as_bytes().to_vec());
        OwnedMessage::new(payload, key, "orders.events".into(), KafkaTime::CreateTime(5), 0, 9, Some(headers))
    }

    #[test]
    fn an_event_comes_back_as_it_went_in() {
        let (event, outbox) = (stored(), crate::ids::fresh());
        let stamp = Stamp { publisher: "orders", outbox, term: 4 };
        let sent = message(&event, &event.aggregate_id.to_string(), headers(&event, &stamp));
        let Reading::Event(got, from) = read(&sent, "orders", 1 << 20) else { panic!("it does not read") };
        assert_eq!(from, outbox);
        assert_eq!((got.id, got.subject, got.orgid), (event.id, event.aggregate_id, event.org_id));
        assert_eq!((got.position, got.version, got.time), (7, 3, event.created_at));
        assert_eq!(got.data.get(), event.payload, "byte for byte");
        assert_eq!(got.dataschema, "order.created.v1");
    }

    #[test]
    fn what_is_not_the_publishers_is_foreign_and_what_does_not_read_is_broken() {
        let event = stored();
        let stamp = Stamp { publisher: "orders", outbox: Uuid::nil(), term: 4 };
        let key = event.aggregate_id.to_string();
        let sent = message(&event, &key, headers(&event, &stamp));
        assert!(matches!(read(&sent, "payments", 1 << 20), Reading::Foreign(_)));
        assert!(matches!(read(&message(&event, &key, OwnedHeaders::new()), "orders", 1 << 20), Reading::Foreign(_)));
        let Reading::Broken(parked, why) = read(&sent, "orders", 3) else { panic!("too large, and taken") };
        assert!(why.contains("max_message_bytes") && parked.subject == event.aggregate_id, "{why}");
        let Reading::Broken(again, _) = read(&sent, "orders", 3) else { panic!("too large, and taken") };
        assert_eq!(parked.id, again.id, "the same record is parked once");
        let other = message(&event, "somebody", headers(&event, &stamp));
        assert!(matches!(read(&other, "orders", 1 << 20), Reading::Broken(_, why) if why.contains("key")));
    }
}
