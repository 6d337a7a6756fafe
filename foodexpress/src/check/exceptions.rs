//! The one list of exceptions. It may only shrink: an entry that nothing needs any more is itself a finding.

use serde::Deserialize;

use super::inputs::Inputs;
use super::{Finding, Place, rules};

/// Where the list lies.
pub(super) const LIST: &str = "foodexpress/src/check/exceptions.toml";

/// The fewest characters that can be a reason.
const SHORTEST_REASON: usize = 20;

/// Something that a rule would find and that is meant to be so.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Exception {
    rule: String,
    subject: String,
    reason: String,
    /// For rules about size: how large it may be.
    lines: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    exception: Vec<Exception>,
}

impl Exception {
    pub(super) fn covers(&self, rule: &str, found: &Finding) -> bool {
        let small_enough = match (found.size, self.lines) {
            (Some(size), Some(most)) => size <= most,
            (None, None) => true,
            _ => false,
        };
        self.rule == rule && self.subject == found.subject && small_enough
    }
}

/// Reads the list.
///
/// # Errors
/// A list that does not read.
pub(super) fn read(text: &str) -> Result<Vec<Exception>, toml::de::Error> {
    toml::from_str::<List>(text).map(|list| list.exception)
}

/// Entries without a reason, and entries that no rule needs.
pub(super) fn unneeded(inputs: &Inputs) -> Vec<Finding> {
    let raw: Vec<(&str, Vec<Finding>)> = rules::all().into_iter().map(|r| (r.name, (r.check)(inputs))).collect();
    let mut found = Vec::new();
    for exception in &inputs.exceptions {
        let place = inputs.locate(LIST, &format!("\"{}\"", exception.subject));
        if exception.reason.trim().len() < SHORTEST_REASON {
            found.push(Finding::at(
                place.clone(),
                format!("{} is excused from {} without a reason", exception.subject, exception.rule),
            ));
        }
        let needed = raw.iter().any(|(rule, all)| all.iter().any(|f| exception.covers(rule, f)));
        if !needed {
            let what = format!(
                "nothing needs the exception for {} from {}: take it off the list",
                exception.subject, exception.rule
            );
            found.push(Finding::at(place, what));
        }
    }
    found
}

pub(super) fn plant(inputs: &mut Inputs) -> Place {
    let reason = "an entry that nothing needs, to prove the rule".to_owned();
    inputs.exceptions.push(Exception { rule: "F4".into(), subject: "services/planted".into(), reason, lines: None });
    let text = inputs.text(LIST).unwrap_or_default().to_owned();
    let line = text.lines().count() + 1;
    inputs.put(
        LIST,
        &format!(
            "{text}{}subject = \"services/planted\"\n",
            if text.ends_with('\n') || text.is_empty() { "" } else { "\n" }
        ),
    );
    Place { file: LIST.into(), line }
}
