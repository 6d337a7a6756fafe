//! The rules by what they are about.

mod arrows;
mod calls;
mod data;
mod keys;
mod messages;
mod routes;
mod tables;
mod tidy;

use super::inputs::Inputs;
use super::{Finding, Place, Rule};

/// Every rule but the one about the list of exceptions.
pub(super) fn all() -> Vec<Rule> {
    let lists = [
        arrows::RULES,
        tables::RULES,
        calls::RULES,
        data::RULES,
        keys::RULES,
        messages::RULES,
        routes::RULES,
        tidy::RULES,
    ];
    lists.concat()
}

const fn rule(
    name: &'static str,
    says: &'static str,
    check: fn(&Inputs) -> Vec<Finding>,
    plant: fn(&mut Inputs) -> Place,
) -> Rule {
    Rule { name, says, check, plant }
}

/// Whether a line of code has this word, not as a part of a longer one.
fn has_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].chars().next_back().is_some_and(part) && !line[at + word.len()..].chars().next().is_some_and(part)
    })
}

/// A service made of one manifest, for planted violations.
fn planted() -> kernel::manifest::Manifest {
    kernel::manifest::Manifest { name: "planted", purpose: "Planted to prove a rule", ..Default::default() }
}
