//! SQL as the rules read it: the words of a statement, and the tables it names.

/// A word or a mark, with the line it stands on, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) line: usize,
    pub(super) text: String,
}

impl Word {
    pub(super) fn is(&self, keyword: &str) -> bool {
        self.text.eq_ignore_ascii_case(keyword)
    }
}

/// The words and marks of an SQL text, without comments and the inside of literals. A dotted name is one word.
pub(super) fn words(text: &str) -> Vec<Word> {
    let (mut words, mut current) = (Vec::<Word>::new(), String::new());
    for (at, line) in text.lines().enumerate() {
        let mut quoted = false;
        for character in line.split("--").next().unwrap_or(line).chars() {
            quoted ^= character == '\'';
            if !quoted && (character.is_alphanumeric() || matches!(character, '_' | '.' | '$')) {
                current.push(character);
                continue;
            }
            if !current.is_empty() {
                words.push(Word { line: at + 1, text: std::mem::take(&mut current) });
            }
            if !quoted && !character.is_whitespace() && character != '"' {
                words.push(Word { line: at + 1, text: character.to_string() });
            }
        }
        if !current.is_empty() {
            words.push(Word { line: at + 1, text: std::mem::take(&mut current) });
        }
    }
    words
}

const VERBS: &[&str] =
    &["SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "CREATE", "ALTER", "DROP", "ATTACH", "TRUNCATE"];
const BEFORE_TABLE: &[&str] = &["FROM", "JOIN", "INTO", "UPDATE", "TABLE", "REFERENCES", "TRUNCATE", "ATTACH"];
const BETWEEN: &[&str] = &["IF", "NOT", "EXISTS", "ONLY", "LATERAL"];

/// Whether a literal is SQL: it starts with a verb and goes on, or it has SQL's words in capitals.
pub(super) fn is_sql(text: &str) -> bool {
    let first = text.trim_start().split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or("");
    let goes_on = text.trim_start().len() > first.len();
    let verb = goes_on
        && VERBS.contains(&first.to_ascii_uppercase().as_str())
        && (first == first.to_ascii_uppercase() || first == first.to_ascii_lowercase());
    verb || text.split(|c: char| !c.is_ascii_alphabetic()).any(|w| ["FROM", "JOIN", "INTO"].contains(&w))
}

/// The tables that an SQL text names, in the places where a table's name stands.
pub(super) fn tables(text: &str) -> Vec<Word> {
    let words = words(text);
    let mut named = Vec::new();
    for (at, word) in words.iter().enumerate() {
        if !BEFORE_TABLE.iter().any(|keyword| word.is(keyword)) {
            continue;
        }
        let mut next = at + 1;
        while words.get(next).is_some_and(|w| BETWEEN.iter().any(|b| w.is(b))) {
            next += 1;
        }
        named.extend(words.get(next).filter(|w| is_name(w)).cloned());
        // A list of tables: the next one stands after a comma, with or without an alias before it.
        while word.is("FROM") {
            let comma = (next + 1..next + 3).find(|n| words.get(*n).is_some_and(|w| w.text == ","));
            let Some(table) = comma.and_then(|c| words.get(c + 1)).filter(|w| is_name(w)) else { break };
            named.push(table.clone());
            next = comma.unwrap_or(next) + 1;
        }
    }
    named
}

fn is_name(word: &Word) -> bool {
    const NEVER: &[&str] = &["SELECT", "SET", "VALUES", "WHERE"];
    word.text.starts_with(|c: char| c.is_alphabetic() || c == '_') && !NEVER.iter().any(|n| word.is(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Vec<String> {
        tables(text).into_iter().map(|w| w.text).collect()
    }

    #[test]
    fn tables_are_found_where_tables_stand() {
        assert_eq!(
            named("SELECT a FROM orders o, other.carts JOIN items i ON i.id = o.id"),
            ["orders", "other.carts", "items"]
        );
        assert_eq!(named("INSERT INTO a (b) VALUES ($1) ON CONFLICT (b) DO UPDATE SET c = excluded.c"), ["a"]);
        assert_eq!(named("UPDATE a SET b = 'FROM c' -- FROM d\n WHERE e IN (SELECT 1 FROM f)"), ["a", "f"]);
        assert_eq!(named("CREATE TABLE IF NOT EXISTS g (h UUID REFERENCES i (j))"), ["g", "i"]);
    }

    #[test]
    fn prose_is_no_sql() {
        assert!(is_sql("SELECT 1") && is_sql("select 1") && is_sql("EXISTS (SELECT 1 FROM a)"));
        assert!(!is_sql("Update your card") && !is_sql("the order came from a kiosk") && !is_sql("select"));
    }
}
