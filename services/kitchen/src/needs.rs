//! What an order needs of each item, and how the cooks read it.

use std::collections::BTreeMap;

use contracts::orders::OrderLine;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One line of a ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct TicketLine {
    /// The dish.
    pub(crate) name: String,
    /// How many.
    pub(crate) quantity: i64,
    /// What was chosen with it.
    pub(crate) choices: Vec<String>,
}

/// An order's lines without their prices.
pub(crate) fn ticket_lines(lines: &[OrderLine]) -> Vec<TicketLine> {
    let line = |line: &OrderLine| TicketLine {
        name: line.name.clone(),
        quantity: line.quantity,
        choices: line.choices.iter().map(|choice| choice.name.clone()).collect(),
    };
    lines.iter().map(line).collect()
}

/// How many of one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) name: String,
    pub(crate) quantity: i64,
}

/// Sums an order's lines by item, in the order in which stock is taken.
pub(crate) fn needed(lines: &[OrderLine]) -> BTreeMap<Uuid, Need> {
    let mut needs: BTreeMap<Uuid, Need> = BTreeMap::new();
    for line in lines {
        let need = needs.entry(line.item_id).or_insert_with(|| Need { name: line.name.clone(), quantity: 0 });
        need.quantity = need.quantity.saturating_add(line.quantity);
    }
    needs
}
