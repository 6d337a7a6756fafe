//! Statement texts: counting parameters, building inserts and filtered lists, translating the schema's type words.

use std::borrow::Cow;
use std::sync::OnceLock;

use super::db::Glance;
use super::error::StoreError;
use super::row::{Row, Table};
use super::value::{ToParam, Value};

/// The parameter numbers in `text`, outside of string literals, as the highest of them; a gap is an error.
pub(crate) fn parameters(text: &str) -> Result<usize, StoreError> {
    let bytes = text.as_bytes();
    let (mut at, mut quoted, mut seen) = (0, false, [false; 256]);
    let mut highest = 0_usize;
    while at < bytes.len() {
        match bytes[at] {
            b'\'' => quoted = !quoted,
            b'$' if !quoted => {
                let digits = bytes[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
                let number: usize = text[at + 1..at + 1 + digits].parse().unwrap_or(0);
                if number == 0 || number > 255 {
                    return Err(StoreError::Refused(format!("parameter numbers go from $1 to $255: {text}")));
                }
                seen[number] = true;
                highest = highest.max(number);
                at += digits;
            }
            _ => {}
        }
        at += 1;
    }
    if seen[1..=highest].iter().any(|s| !s) {
        return Err(StoreError::Refused(format!("parameter numbers have a gap below ${highest}: {text}")));
    }
    Ok(highest)
}

/// Refuses a text that no unit may say, or whose `$1 … $n` are not exactly the given parameters.
pub(crate) fn check(text: &str, given: usize) -> Result<(), StoreError> {
    refuse_control(text)?;
    fits(text, parameters(text)?, given)
}

/// Refuses a text whose parameters, once counted, are not as many as are given.
pub(crate) fn fits(text: &str, wanted: usize, given: usize) -> Result<(), StoreError> {
    if wanted == given {
        return Ok(());
    }
    Err(StoreError::Refused(format!("{given} parameters for a statement with {wanted}: {text}")))
}

/// Refuses a text that would begin, end or reconfigure a transaction: only the engines do that, alike on both.
pub(crate) fn refuse_control(text: &str) -> Result<(), StoreError> {
    const CONTROL: &[&str] = &[
        "ABORT",
        "ATTACH",
        "BEGIN",
        "COMMIT",
        "DEALLOCATE",
        "DETACH",
        "DISCARD",
        "END",
        "LISTEN",
        "PRAGMA",
        "PREPARE",
        "RELEASE",
        "RESET",
        "ROLLBACK",
        "SAVEPOINT",
        "SET",
        "START",
        "UNLISTEN",
        "VACUUM",
    ];
    let start = text.trim_start_matches(|c: char| c == ';' || c.is_whitespace());
    if start.starts_with("--") || start.starts_with("/*") {
        return Err(StoreError::Refused("a statement starts with its verb, not with a comment".into()));
    }
    let first = start.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or("");
    if CONTROL.iter().any(|word| first.eq_ignore_ascii_case(word)) {
        return Err(StoreError::Refused(format!("{first} is the engine's to say, not a unit's")));
    }
    Ok(())
}

/// The two inserts of a table's row type, put together when they are first wanted.
#[derive(Debug)]
pub struct Inserts {
    plain: OnceLock<String>,
    skipping: OnceLock<String>,
}

impl Inserts {
    /// Only [`row!`](crate::row) calls this.
    pub const fn unwritten() -> Self {
        Self { plain: OnceLock::new(), skipping: OnceLock::new() }
    }
}

/// The insert for a table's row type.
pub(crate) fn insert<T: Table>(skip_existing: bool) -> &'static str {
    let (kept, tail) = match (T::inserts(), skip_existing) {
        (inserts, false) => (&inserts.plain, ""),
        (inserts, true) => (&inserts.skipping, " ON CONFLICT DO NOTHING"),
    };
    kept.get_or_init(|| {
        let names: Vec<&str> = T::shape().iter().map(|c| c.name).collect();
        let marks: Vec<String> = (1..=names.len()).map(|n| format!("${n}")).collect();
        format!("INSERT INTO {} ({}) VALUES ({}){tail}", T::TABLE, names.join(", "), marks.join(", "))
    })
}

/// A filtered, ordered, limited list: the one place where a text is put together at run time.
#[derive(Debug)]
pub struct List {
    text: String,
    params: Vec<Value>,
    filtered: bool,
}

impl List {
    /// Starts from `SELECT … FROM …` without WHERE.
    pub fn new(select: &'static str) -> Self {
        Self { text: select.to_owned(), params: Vec::new(), filtered: false }
    }

    /// Adds a condition; `{}` in it stands for the value.
    #[must_use]
    pub fn and(mut self, condition: &'static str, value: impl ToParam) -> Self {
        self.params.push(value.to_param());
        let mark = format!("${}", self.params.len());
        self.text.push_str(if self.filtered { " AND " } else { " WHERE " });
        self.text.push_str(&condition.replace("{}", &mark));
        self.filtered = true;
        self
    }

    /// Adds a condition when there is a value for it.
    #[must_use]
    pub fn and_if(self, condition: &'static str, value: Option<impl ToParam>) -> Self {
        match value {
            Some(value) => self.and(condition, value),
            None => self,
        }
    }

    /// Adds a condition over two values at once, for keyset paging: `(a, b) < ({}, {})`.
    #[must_use]
    pub fn and_pair(mut self, condition: &'static str, pair: Option<(impl ToParam, impl ToParam)>) -> Self {
        let Some((first, second)) = pair else { return self };
        self.params.push(first.to_param());
        self.params.push(second.to_param());
        let count = self.params.len();
        let text = condition.replacen("{}", &format!("${}", count - 1), 1).replacen("{}", &format!("${count}"), 1);
        self.text.push_str(if self.filtered { " AND " } else { " WHERE " });
        self.text.push_str(&text);
        self.filtered = true;
        self
    }

    /// Runs it, ordered and cut off after `limit` rows. Say NULLS LAST for a column that may be NULL.
    pub async fn fetch<R: Row>(mut self, db: &Glance, order: &'static str, limit: i64) -> Result<Vec<R>, StoreError> {
        self.params.push(Value::Int(limit));
        self.text.push_str(&format!(" ORDER BY {order} LIMIT ${}", self.params.len()));
        db.rows(&self.text, self.params).await
    }
}

/// A schema text written with PostgreSQL's type words, as SQLite takes it: every table STRICT.
pub(crate) fn schema_for_sqlite(text: &str) -> String {
    const WORDS: &[(&str, &str)] = &[
        ("BIGINT GENERATED BY DEFAULT AS IDENTITY (CACHE 1) PRIMARY KEY", "INTEGER PRIMARY KEY AUTOINCREMENT"),
        ("DOUBLE PRECISION", "REAL"),
        ("TIMESTAMPTZ", "INTEGER"),
        ("BIGINT", "INTEGER"),
        ("BOOLEAN", "INTEGER"),
        ("BYTEA", "BLOB"),
        ("UUID", "BLOB"),
    ];
    let mut out = String::with_capacity(text.len() + 64);
    for statement in statements(text) {
        let mut translated: Cow<'_, str> = Cow::Owned(statement);
        for (from, to) in WORDS {
            if translated.contains(from) {
                translated = Cow::Owned(translated.replace(from, to));
            }
        }
        out.push_str(&translated);
        if translated.starts_with("CREATE TABLE") {
            out.push_str(" STRICT");
        }
        out.push_str(";\n");
    }
    out
}

/// The statements of a schema text, without its `--` comments. A semicolon inside a string literal does not split.
pub(crate) fn statements(text: &str) -> Vec<String> {
    let bare: Vec<&str> = text.lines().map(|line| line.split("--").next().unwrap_or(line)).collect();
    let (mut parts, mut current, mut quoted) = (Vec::new(), String::new(), false);
    for character in bare.join("\n").chars() {
        match character {
            ';' if !quoted => parts.push(std::mem::take(&mut current)),
            _ => {
                quoted ^= character == '\'';
                current.push(character);
            }
        }
    }
    parts.push(current);
    parts.into_iter().map(|p| p.trim().to_owned()).filter(|p| !p.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_counted_once_and_gaps_are_refused() {
        assert_eq!(parameters("SELECT $2, $1, '$9'").unwrap(), 2);
        assert!(parameters("SELECT $1, $3").is_err());
        assert!(parameters("SELECT $0").is_err());
        assert!(check("SELECT $1", 2).is_err());
    }

    #[test]
    fn a_unit_cannot_say_commit_in_any_spelling() {
        for text in ["commit", " ;COMMIT", "SET search_path = x", "End;", "-- x\nCOMMIT", "/* x */ COMMIT", "ROLLBACK;"]
        {
            assert!(refuse_control(text).is_err(), "{text}");
        }
        refuse_control("SELECT 1").unwrap();
        refuse_control("SETTLE").unwrap();
    }

    #[test]
    fn a_schema_reads_the_same_on_sqlite_but_for_its_type_words() {
        let text = "CREATE TABLE a (id UUID NOT NULL, at TIMESTAMPTZ, CHECK (id <> ';'));\nCREATE INDEX i ON a (at);";
        let got = schema_for_sqlite(text);
        assert_eq!(
            got,
            "CREATE TABLE a (id BLOB NOT NULL, at INTEGER, CHECK (id <> ';')) STRICT;\nCREATE INDEX i ON a (at);\n"
        );
    }
}
