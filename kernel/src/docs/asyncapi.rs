//! One AsyncAPI 3.0 document: a channel per stream, who sends and who receives what.

use std::collections::BTreeSet;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::City;
use crate::events::{EventDef, literal_name};

pub(super) fn asyncapi(city: &City<'_>) -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    let mut generator = settings.into_generator();
    let (mut channels, mut operations, mut messages) = (Map::new(), Map::new(), Map::new());
    for event in city.manifests.iter().flat_map(|m| &m.publishes) {
        let schema = (event.schema)(&mut generator);
        messages.insert(event.name.into(), message(event, &schema));
        let channel = channels.entry(event.topic).or_insert_with(|| {
            // On Kafka the address is the topic; without a broker it names the publisher's stream.
            json!({"address": event.topic, "messages": {}, "bindings": {"kafka": {"topic": event.topic}}})
        });
        channel["messages"][event.name] = json!({"$ref": format!("#/components/messages/{}", event.name)});
    }
    for manifest in city.manifests {
        let sides = [("send", &manifest.publishes), ("receive", &manifest.hears)];
        for (action, events) in sides {
            let topics: BTreeSet<&str> = events.iter().map(|e| e.topic).collect();
            for topic in topics {
                let name = format!("{}.{action}.{topic}", manifest.name);
                operations.insert(name, operation(action, topic, events));
            }
        }
    }
    json!({
        "asyncapi": "3.0.0",
        "info": {"title": format!("{}: events", city.title), "version": "1.0.0"},
        "defaultContentType": "application/cloudevents+json",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": generator.take_definitions(true)},
    })
}

fn message(event: &EventDef, schema: &schemars::Schema) -> Value {
    json!({
        "name": event.name,
        "title": event.summary.trim(),
        "contentType": "application/json",
        "payload": schema,
        "x-aliases": event.aliases,
        "x-schema": format!("{}.v{}", event.name, event.version),
        "x-key": event.aggregate,
        "x-literal-topic": literal_name(event.name),
    })
}

fn operation(action: &str, topic: &str, events: &[EventDef]) -> Value {
    // JSON pointers write a slash in a name as ~1; topic names have dots only, which stay.
    let of_topic = events.iter().filter(|e| e.topic == topic);
    let refs: Vec<Value> =
        of_topic.map(|e| json!({"$ref": format!("#/channels/{topic}/messages/{}", e.name)})).collect();
    json!({"action": action, "channel": {"$ref": format!("#/channels/{topic}")}, "messages": refs})
}
