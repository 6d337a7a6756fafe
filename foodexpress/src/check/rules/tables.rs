//! Whose tables an SQL text may name: a service's own, and those that the kernel gave it.

use std::collections::{BTreeMap, BTreeSet};

use super::rule;
use crate::check::inputs::{File, Inputs};
use crate::check::sql::{self, Word, is_sql};
use crate::check::{Finding, Rule, tables};

pub(super) const RULES: &[Rule] = &[
    rule("F2", "no service's SQL names a table of another service, or a foreign schema", foreign_tables, |i| {
        i.put(
            "services/elsewhere/migrations/001_x.sql",
            "CREATE TABLE planted_rows (org_id UUID NOT NULL, PRIMARY KEY (org_id));",
        );
        let text = "//! Planted.\nfn sum() {\n    sql!(\n        \"SELECT 1 AS value FROM planted_rows\"\n    );\n}\n";
        i.put_violation("services/planted/src/store.rs", text, 4)
    }),
    rule("F5", "foreign keys stay inside a service", foreign_keys, |i| {
        let text = "CREATE TABLE planted (\n    org_id UUID NOT NULL,\n    elsewhere_id UUID REFERENCES orders (id),\n    PRIMARY KEY (org_id)\n);\n";
        i.put_violation("services/planted/migrations/001_planted.sql", text, 3)
    }),
    rule(
        "F8",
        "events leave a service only through the outbox of a unit, which only the kernel writes",
        past_the_outbox,
        |i| {
            let text = "//! Planted.\nfn shout() {\n    sql!(\"INSERT INTO outbox (id) VALUES ($1)\");\n}\n";
            i.put_violation("services/planted/src/store.rs", text, 3)
        },
    ),
    rule("F11", "no stored procedures, functions or triggers", procedures, |i| {
        let text = "CREATE TABLE planted (org_id UUID NOT NULL, PRIMARY KEY (org_id));\nCREATE TRIGGER planted AFTER INSERT ON planted BEGIN SELECT 1; END;\n";
        i.put_violation("services/planted/migrations/001_planted.sql", text, 2)
    }),
    rule("D8", "copies of other services' things are written by the bus alone", foreign_copies, |i| {
        let text = "//! Planted.\nfn touch() {\n    sql!(\"UPDATE projection SET version = $1\");\n}\n";
        i.put_violation("services/planted/src/store.rs", text, 3)
    }),
];

/// An SQL text with the line on which it begins, from 1.
struct Sql<'a> {
    file: &'a File,
    line: usize,
    text: &'a str,
}

impl Sql<'_> {
    fn finding(&self, word: &Word, what: String) -> Finding {
        Finding::new(&*self.file.path, self.line + word.line - 1, what)
            .about(format!("{}: {}", self.file.path, word.text))
    }
}

/// Every SQL text of a file: a migration as a whole, or the literals of Rust that are SQL, tests aside.
fn texts(inputs: &Inputs, of: fn(&File) -> bool) -> impl Iterator<Item = Sql<'_>> {
    let migrations = inputs.files.iter().filter(move |f| f.is_migration() && of(f));
    let whole = migrations.map(|file| Sql { file, line: 1, text: &file.text });
    // The planted violations of these rules are literals of these rules.
    let speaks_sql = move |file: &File| of(file) && !file.path.starts_with("foodexpress/src/check/");
    let code = inputs.rust().filter(move |(file, test)| !test && speaks_sql(file)).map(|(file, _)| file);
    let literals = code.flat_map(|file| {
        let all = file.source().shipped_literals().filter(|l| is_sql(&l.text));
        all.map(move |l| Sql { file, line: l.line, text: &l.text })
    });
    whole.chain(literals)
}

/// The tables that each service's own migrations make.
fn owned(inputs: &Inputs) -> BTreeMap<&str, BTreeSet<String>> {
    let mut owned: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for file in inputs.files.iter().filter(|f| f.is_migration()) {
        if let Some(service) = file.service() {
            let made = tables::read(&file.text).tables;
            owned.entry(service).or_default().extend(made.into_iter().map(|w| w.text));
        }
    }
    owned
}

fn foreign_tables(inputs: &Inputs) -> Vec<Finding> {
    let owned = owned(inputs);
    let owner = |service: &str, table: &str| {
        let own = owned.get(service).is_some_and(|own| own.contains(table));
        owned.iter().find(|(_, all)| !own && all.contains(table)).map(|(other, _)| *other)
    };
    let mut found = Vec::new();
    for sql in texts(inputs, |f| f.service().is_some()) {
        let Some(service) = sql.file.service() else { continue };
        for word in sql::tables(sql.text) {
            if word.text.contains('.') {
                found.push(sql.finding(&word, format!("{service} names the schema of {}", word.text)));
            } else if let Some(other) = owner(service, &word.text) {
                found.push(sql.finding(&word, format!("{service} names {}, a table of {other}", word.text)));
            }
        }
    }
    // `row! { struct X in "table" }` names a table too.
    for (service, file) in inputs.service_code() {
        for literal in file.source().shipped_literals() {
            let row = file
                .source()
                .code
                .get(literal.line - 1)
                .is_some_and(|code| code.contains("struct ") && code.contains(" in \""));
            if let Some(other) = owner(service, &literal.text).filter(|_| row) {
                found.push(Finding::new(
                    &*file.path,
                    literal.line,
                    format!("{service} keeps rows of {}, a table of {other}", literal.text),
                ));
            }
        }
    }
    found
}

fn foreign_keys(inputs: &Inputs) -> Vec<Finding> {
    let owned = owned(inputs);
    let mut found = Vec::new();
    for file in inputs.files.iter().filter(|f| f.is_migration()) {
        let Some(service) = file.service() else { continue };
        let words = sql::words(&file.text);
        for pair in words.windows(2).filter(|pair| pair[0].is("REFERENCES")) {
            let table = &pair[1];
            if !owned.get(service).is_some_and(|own| own.contains(&table.text)) {
                found.push(Finding::new(
                    &*file.path,
                    table.line,
                    format!("{service} refers to {}, which is not its own", table.text),
                ));
            }
        }
    }
    found
}

const BROKER_CLIENTS: &[&str] = &["rdkafka", "rskafka", "kafka", "lapin", "async-nats", "nats", "pulsar", "rumqttc"];

/// Statements that change one of these tables, in files outside of the kernel.
fn writes_to(inputs: &Inputs, kept: &[&str], what: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    for sql in texts(inputs, |f| !f.path.starts_with("kernel/") && !f.path.starts_with("simulators/")) {
        let words = sql::words(sql.text);
        for (at, word) in words.iter().enumerate() {
            let (Some(next), Some(after)) = (words.get(at + 1), words.get(at + 2)) else { continue };
            let table = match () {
                () if word.is("UPDATE") && after.is("SET") => next,
                () if word.is("INSERT") && next.is("INTO") || word.is("DELETE") && next.is("FROM") => after,
                () => continue,
            };
            if kept.contains(&table.text.as_str()) {
                found.push(sql.finding(table, format!("{} {}: {what}", word.text, table.text)));
            }
        }
    }
    found
}

fn past_the_outbox(inputs: &Inputs) -> Vec<Finding> {
    let mut found = writes_to(inputs, &["outbox", "outbox_epoch"], "only tx.emit writes the outbox");
    let why = "only the kernel's bus speaks to a broker";
    found.extend(super::arrows::dependencies(inputs, BROKER_CLIENTS, |p| p.folder != "kernel", why));
    for (file, test) in inputs.rust() {
        if test || file.path.starts_with("kernel/") {
            continue;
        }
        for (line, code) in file.source().shipped().filter(|(_, code)| code.contains(".produce(")) {
            found.push(Finding::new(&*file.path, line, format!("an event past the outbox: {}", code.trim())));
        }
    }
    found
}

fn foreign_copies(inputs: &Inputs) -> Vec<Finding> {
    let kept = ["projection", "projection_shadow", "inbox", "parked", "bus_position"];
    writes_to(inputs, &kept, "only the kernel's bus writes it")
}

fn procedures(inputs: &Inputs) -> Vec<Finding> {
    const KINDS: &[&str] = &["FUNCTION", "PROCEDURE", "TRIGGER", "RULE", "EVENT", "AGGREGATE"];
    let mut found = Vec::new();
    for sql in texts(inputs, |f| !f.path.starts_with("simulators/")) {
        let words = sql::words(sql.text);
        for (at, word) in words.iter().enumerate().filter(|(_, w)| w.is("CREATE")) {
            let next =
                words[at + 1..].iter().find(|w| !["OR", "REPLACE", "CONSTRAINT", "TEMP"].iter().any(|skip| w.is(skip)));
            if let Some(kind) = next.filter(|w| KINDS.iter().any(|kind| w.is(kind))) {
                found.push(
                    sql.finding(word, format!("CREATE {}: business lives in code", kind.text.to_ascii_uppercase())),
                );
            }
        }
    }
    found
}
