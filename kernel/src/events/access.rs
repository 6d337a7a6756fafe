//! Rights on a Kafka cluster that has users: each service writes its own topics, reads what it hears, uses its own group.

use super::{EventDef, KafkaSettings};
use crate::manifest::Manifest;

/// The lines that give these services their rights, for Kafka's own `kafka-acls`: our client has no safe call for it.
///
/// Adding a right twice changes nothing. Rights that are no longer wanted are not taken away.
pub fn access_lines(settings: &KafkaSettings, manifests: &[Manifest]) -> Vec<String> {
    let tool = format!(
        "kafka-acls --bootstrap-server {} ${{KAFKA_ADMIN_CONFIG:+--command-config \"$KAFKA_ADMIN_CONFIG\"}} --add",
        if settings.is_on() { settings.brokers.as_str() } else { "BROKERS" }
    );
    let mut lines = Vec::new();
    for manifest in manifests {
        let user = format!("--allow-principal 'User:{}'", manifest.name);
        let mut allow = |what: String, prefixed: bool, operations: &[&str]| {
            let pattern = if prefixed { "prefixed" } else { "literal" };
            let operations: Vec<String> = operations.iter().map(|name| format!("--operation {name}")).collect();
            let operations = operations.join(" ");
            lines.push(format!("{tool} {user} {what} --resource-pattern-type {pattern} {operations}"));
        };
        for topic in settings.topics(&manifest.publishes) {
            allow(format!("--topic '{topic}'"), false, &["Write", "Describe"]);
        }
        let heard: Vec<&EventDef> = manifest.hears.iter().collect();
        for topic in heard.iter().map(|event| settings.topic(event)).collect::<std::collections::BTreeSet<_>>() {
            allow(format!("--topic '{topic}'"), false, &["Read", "Describe"]);
        }
        if !manifest.hears.is_empty() {
            allow(format!("--group '{}'", settings.group(manifest.name)), false, &["Read"]);
        }
        if !settings.transactional_id_prefix.is_empty() {
            let id = format!("{}{}-", settings.transactional_id_prefix, manifest.name);
            allow(format!("--transactional-id '{id}'"), true, &["Write", "Describe"]);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_writes_its_own_topics_and_reads_only_what_it_hears() {
        let event = |publisher, topic| EventDef {
            name: "thing.changed",
            version: 1,
            publisher,
            topic,
            aggregate: "thing",
            summary: "",
            aliases: &[],
            schema: |generator| generator.subschema_for::<String>(),
        };
        let manifest = Manifest {
            name: "orders",
            publishes: vec![event("orders", "orders.events")],
            hears: vec![event("payments", "payments.events")],
            ..Manifest::default()
        };
        let settings = KafkaSettings { brokers: "b:9092".into(), prefix: "t.".into(), ..KafkaSettings::default() };
        let lines = access_lines(&settings, &[manifest]);
        assert_eq!(lines.len(), 3);
        let has = |words: &str| lines.iter().any(|line| line.contains("'User:orders'") && line.ends_with(words));
        assert!(has(
            "--topic 't.orders.events' --resource-pattern-type literal --operation Write --operation Describe"
        ));
        assert!(has(
            "--topic 't.payments.events' --resource-pattern-type literal --operation Read --operation Describe"
        ));
        assert!(has("--group 't.orders' --resource-pattern-type literal --operation Read"));
    }
}
