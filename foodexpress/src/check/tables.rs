//! Schema steps as the rules read them: tables with their columns and keys.

use super::sql::{Word, words};

/// A column and its type in capitals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) line: usize,
    pub(super) table: String,
    pub(super) name: String,
    pub(super) kind: String,
}

/// A primary or unique key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) line: usize,
    pub(super) table: String,
    pub(super) primary: bool,
    pub(super) columns: Vec<String>,
}

/// What a schema text makes.
#[derive(Clone, Debug, Default)]
pub(super) struct Schema {
    /// Each table with the line on which it is made.
    pub(super) tables: Vec<Word>,
    pub(super) columns: Vec<Column>,
    pub(super) keys: Vec<Key>,
}

/// Reads a schema text.
pub(super) fn read(text: &str) -> Schema {
    let words = words(text);
    let mut schema = Schema::default();
    for statement in words.split(|w| w.text == ";") {
        match statement {
            [create, table, name, ..] if create.is("CREATE") && table.is("TABLE") => {
                schema.tables.push(name.clone());
                body(statement).into_iter().for_each(|item| schema.item(&name.text, item));
            }
            [create, unique, index, _, on, table, ..]
                if create.is("CREATE") && unique.is("UNIQUE") && index.is("INDEX") && on.is("ON") =>
            {
                let key = Key {
                    line: create.line,
                    table: table.text.clone(),
                    primary: false,
                    columns: listed(&statement[5..]),
                };
                schema.keys.push(key);
            }
            [alter, table, name, add, rest @ ..] if alter.is("ALTER") && table.is("TABLE") && add.is("ADD") => {
                let rest = if rest.first().is_some_and(|w| w.is("COLUMN")) { &rest[1..] } else { rest };
                schema.item(&name.text, rest);
            }
            _ => {}
        }
    }
    schema
}

impl Schema {
    fn item(&mut self, table: &str, item: &[Word]) {
        let item = match item {
            [constraint, _, rest @ ..] if constraint.is("CONSTRAINT") => rest,
            whole => whole,
        };
        let Some(first) = item.first() else { return };
        let key = |primary, columns| Key { line: first.line, table: table.to_owned(), primary, columns };
        if first.is("PRIMARY") || first.is("UNIQUE") {
            self.keys.push(key(first.is("PRIMARY"), listed(item)));
        } else if !first.is("FOREIGN") && !first.is("CHECK") {
            let kind = item.get(1).map(|w| w.text.to_ascii_uppercase()).unwrap_or_default();
            self.columns.push(Column { line: first.line, table: table.to_owned(), name: first.text.clone(), kind });
            let has = |word: &str| item.iter().any(|w| w.is(word));
            if has("PRIMARY") || has("UNIQUE") {
                self.keys.push(key(has("PRIMARY"), vec![first.text.clone()]));
            }
        }
    }

    /// The type of a column.
    pub(super) fn kind(&self, table: &str, column: &str) -> Option<&str> {
        self.columns.iter().find(|c| c.table == table && c.name == column).map(|c| c.kind.as_str())
    }
}

/// The items between a table's outer parentheses.
fn body(statement: &[Word]) -> Vec<&[Word]> {
    let (mut depth, mut start, mut items) = (0_usize, None, Vec::new());
    for (at, word) in statement.iter().enumerate() {
        match word.text.as_str() {
            "(" => {
                depth += 1;
                if depth == 1 {
                    start = Some(at + 1);
                }
            }
            ")" => {
                depth = depth.saturating_sub(1);
                if let Some(from) = start.take_if(|_| depth == 0) {
                    items.push(&statement[from..at]);
                }
            }
            "," if depth == 1 => {
                if let Some(from) = start.replace(at + 1) {
                    items.push(&statement[from..at]);
                }
            }
            _ => {}
        }
    }
    items
}

/// The names in the first parentheses.
fn listed(words: &[Word]) -> Vec<String> {
    let inside = words.iter().skip_while(|w| w.text != "(").skip(1).take_while(|w| w.text != ")");
    inside.filter(|w| w.text != ",").map(|w| w.text.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_and_keys_are_read_with_their_lines() {
        let text = "CREATE TABLE a (\n  org_id UUID NOT NULL,\n  n BIGINT CHECK (n IN (1, 2)),\n  PRIMARY KEY (org_id, n)\n);\nCREATE UNIQUE INDEX i ON a (n);";
        let schema = read(text);
        assert_eq!(schema.tables[0].text, "a");
        assert_eq!(
            schema.columns.iter().map(|c| (c.line, c.name.as_str())).collect::<Vec<_>>(),
            [(2, "org_id"), (3, "n")]
        );
        let keys: Vec<_> = schema.keys.iter().map(|k| (k.line, k.primary, k.columns.join("+"))).collect();
        assert_eq!(keys, [(4, true, "org_id+n".to_owned()), (6, false, "n".to_owned())]);
        assert_eq!(schema.kind("a", "n"), Some("BIGINT"));
    }
}
