//! How rows are named: every key begins with the organisation, and identities are UUIDs.

use super::rule;
use crate::check::inputs::Inputs;
use crate::check::{Finding, Rule, tables};

pub(super) const RULES: &[Rule] =
    &[rule("D3", "every key of a service's table begins with org_id and identities in it are UUIDs", keys, |i| {
        let text =
            "CREATE TABLE planted (\n    org_id UUID NOT NULL,\n    id UUID NOT NULL,\n    PRIMARY KEY (id)\n);\n";
        i.put_violation("services/planted/migrations/001_planted.sql", text, 4)
    })];

fn keys(inputs: &Inputs) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in inputs.files.iter().filter(|f| f.is_migration() && f.service().is_some()) {
        let schema = tables::read(&file.text);
        let mut say = |line: usize, table: &str, what: String| {
            found.push(
                Finding::new(&*file.path, line, format!("{table}: {what}")).about(format!("{}: {table}", file.path)),
            );
        };
        for table in &schema.tables {
            if !schema.keys.iter().any(|k| k.primary && k.table == table.text) {
                say(table.line, &table.text, "no primary key".into());
            }
        }
        for key in &schema.keys {
            if key.columns.first().is_none_or(|first| first != "org_id") {
                say(key.line, &key.table, format!("the key ({}) does not begin with org_id", key.columns.join(", ")));
            }
            for column in key.columns.iter().filter(|c| *c == "id" || c.ends_with("_id")) {
                if schema.kind(&key.table, column).is_some_and(|kind| kind != "UUID") {
                    say(key.line, &key.table, format!("{column} names something and is no UUID"));
                }
            }
        }
    }
    found
}
