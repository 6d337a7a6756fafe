//! One log line: the fields of an event, gathered under the rules of what may be logged, and their two forms.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use serde::Serialize;
use serde_json::{Map, Value};
use tracing::Metadata;
use tracing::field::{Field, Visit};

use crate::clock::{Clock, Timestamp};
use crate::telemetry::redact::{REDACTED, is_secret_name, mask_phone, scrub};
use crate::telemetry::{Trace, current_trace};

/// The fields of one event as they may be written.
pub(super) struct Fields<'a> {
    plain: &'a BTreeSet<String>,
    message: String,
    context: Map<String, Value>,
    withheld: Vec<Value>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(plain: &'a BTreeSet<String>) -> Self {
        Self { plain, message: String::new(), context: Map::new(), withheld: Vec::new() }
    }

    fn take(&mut self, field: &Field, value: Value) {
        let value = match value {
            Value::String(text) => Value::from(scrub(&text)),
            number @ Value::Number(_) => scrubbed_number(number),
            other => other,
        };
        if field.name() == "message" {
            self.message = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            return;
        }
        let name = camel(field.name());
        if is_secret_name(&name) {
            self.context.insert(name, Value::from(REDACTED));
        } else if !self.plain.contains(&name) {
            self.withheld.push(Value::from(name));
        } else if name.to_ascii_lowercase().ends_with("phone") {
            self.context.insert(name, Value::from(mask_phone(value.as_str().unwrap_or_default())));
        } else {
            self.context.insert(name, value);
        }
    }
}

/// A number can be a card number, too.
fn scrubbed_number(number: Value) -> Value {
    let text = number.to_string();
    let clean = scrub(&text);
    if clean == text { number } else { Value::from(clean) }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.take(field, Value::from(format!("{value:?}")));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, Value::from(value));
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, Value::from(value));
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, Value::from(value));
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, Value::from(value));
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.take(field, Value::from(value));
    }
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.take(field, Value::from(value.to_string()));
    }
}

/// Field names as they are written: `order_id` and `order.id` become `orderId`.
pub(super) fn camel(name: &str) -> String {
    let mut parts = name.split(['_', '.']);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut out, part| {
        let mut letters = part.chars();
        out.extend(letters.next().map(|c| c.to_ascii_uppercase()));
        out.push_str(letters.as_str());
        out
    })
}

/// A whole line.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record<'a> {
    timestamp: Timestamp,
    level: &'static str,
    service: &'a str,
    trace_id: String,
    span_id: String,
    message: String,
    context: Map<String, Value>,
}

impl<'a> Record<'a> {
    pub(super) fn new(metadata: &Metadata<'_>, service: &'a str, fields: Fields<'_>) -> Self {
        let trace = current_trace();
        let known = trace != Trace::default();
        let Fields { message, mut context, withheld, .. } = fields;
        if !withheld.is_empty() {
            // Named, so that whoever misses a field sees that it has to be declared.
            context.insert("withheld".to_owned(), Value::from(withheld));
        }
        Self {
            timestamp: Clock::system().now(),
            level: metadata.level().as_str(),
            service,
            trace_id: if known { trace.trace_hex() } else { String::new() },
            span_id: if known { trace.span_hex() } else { String::new() },
            message,
            context,
        }
    }

    pub(super) fn json(&self) -> String {
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }

    pub(super) fn for_people(&self) -> String {
        let time = self.timestamp.to_chrono().format("%H:%M:%S%.3f");
        let mut line = format!("{time} {:>5} {} {}", self.level, self.service, self.message);
        for (name, value) in &self.context {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            write!(line, " {name}={text}").expect("writing to a string cannot fail");
        }
        line.push('\n');
        line
    }
}
