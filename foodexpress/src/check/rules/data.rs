//! How figures and moments are kept: money in whole minor units, time in UTC.

use super::{has_word, rule};
use crate::check::inputs::Inputs;
use crate::check::sql::words;
use crate::check::{Finding, Rule, tables};

pub(super) const RULES: &[Rule] = &[
    rule("F4", "no floating-point or decimal numbers in services, contracts and migrations", floats, |i| {
        i.put_violation("services/planted/src/price.rs", "//! Planted.\n\n/// In euros.\nstruct Price(f64);\n", 4)
    }),
    rule("D4", "money is BIGINT in minor units, and its name says so", money, |i| {
        let text = "CREATE TABLE planted (\n    org_id UUID NOT NULL,\n    price BIGINT NOT NULL,\n    PRIMARY KEY (org_id)\n);\n";
        i.put_violation("services/planted/migrations/001_planted.sql", text, 3)
    }),
    rule("D5", "moments are TIMESTAMPTZ", moments, |i| {
        let text = "CREATE TABLE planted (\n    org_id UUID NOT NULL,\n    placed_at TIMESTAMP NOT NULL,\n    PRIMARY KEY (org_id)\n);\n";
        i.put_violation("services/planted/migrations/001_planted.sql", text, 3)
    }),
];

const INEXACT: &[&str] = &["REAL", "DOUBLE", "FLOAT", "FLOAT4", "FLOAT8", "NUMERIC", "DECIMAL", "MONEY"];

fn floats(inputs: &Inputs) -> Vec<Finding> {
    let mut found = Vec::new();
    for (file, _) in inputs.rust().filter(|(f, _)| f.service().is_some() || f.path.starts_with("contracts/")) {
        for (at, code) in file.source().code.iter().enumerate() {
            if let Some(word) = ["f32", "f64"].iter().find(|w| has_word(code, w)) {
                found.push(Finding::new(
                    &*file.path,
                    at + 1,
                    format!("{word} cannot hold money; use kernel::money or whole numbers"),
                ));
            }
        }
        // In literals only casts and declarations of SQL matter, and those write their types in capitals.
        for literal in file.source().literals.iter().filter(|l| crate::check::sql::is_sql(&l.text)) {
            for word in words(&literal.text).iter().filter(|w| INEXACT.contains(&w.text.as_str())) {
                found.push(Finding::new(
                    &*file.path,
                    literal.line + word.line - 1,
                    format!("{} is not exact", word.text),
                ));
            }
        }
    }
    for file in inputs.files.iter().filter(|f| f.is_migration()) {
        for word in words(&file.text).iter().filter(|w| INEXACT.iter().any(|i| w.is(i))) {
            found.push(Finding::new(&*file.path, word.line, format!("{} is not exact", word.text)));
        }
    }
    found
}

/// Words that say a column is an amount of money.
const AMOUNTS: &[&str] =
    &["amount", "price", "fee", "total", "subtotal", "cost", "tip", "balance", "cents", "discount"];

fn columns(inputs: &Inputs) -> impl Iterator<Item = (&str, tables::Column)> {
    let migrations = inputs.files.iter().filter(|f| f.is_migration());
    migrations.flat_map(|f| tables::read(&f.text).columns.into_iter().map(move |c| (f.path.as_str(), c)))
}

fn money(inputs: &Inputs) -> Vec<Finding> {
    let wrong = |column: &tables::Column| {
        let minor = column.name.ends_with("_minor");
        let amount = column.name.rsplit('_').next().is_some_and(|last| AMOUNTS.contains(&last));
        (minor && column.kind != "BIGINT") || (amount && column.kind != "TEXT" && column.kind != "UUID")
    };
    let found = columns(inputs).filter(|(_, c)| wrong(c));
    found.map(|(path, c)| column_finding(path, &c, "money is a BIGINT whose name ends in _minor")).collect()
}

fn moments(inputs: &Inputs) -> Vec<Finding> {
    const OTHER: &[&str] = &["TIMESTAMP", "DATE", "TIME", "TIMETZ", "DATETIME", "INTERVAL"];
    let wrong = |column: &tables::Column| {
        let moment =
            column.name == "at" || ["_at", "_until", "_time", "_from"].iter().any(|end| column.name.ends_with(end));
        OTHER.contains(&column.kind.as_str()) || (moment && column.kind != "TIMESTAMPTZ")
    };
    let found = columns(inputs).filter(|(_, c)| wrong(c));
    found.map(|(path, c)| column_finding(path, &c, "a moment is a TIMESTAMPTZ")).collect()
}

fn column_finding(path: &str, column: &tables::Column, what: &str) -> Finding {
    let (table, name, kind) = (&column.table, &column.name, &column.kind);
    Finding::new(path, column.line, format!("{table}.{name} is {kind}: {what}"))
        .about(format!("{path}: {table}.{name}"))
}
