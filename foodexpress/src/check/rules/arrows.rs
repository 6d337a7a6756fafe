//! Which crate may know which: the layers, the databases, tokens of people, infrastructure without business in it.

use super::{has_word, rule};
use crate::check::inputs::{Inputs, Package};
use crate::check::{Finding, Place, Rule};

pub(super) const RULES: &[Rule] = &[
    rule(
        "A3",
        "crates depend only along the arrows kernel ← contracts ← services ← foodexpress, kernel ← gateway ← foodexpress, kernel ← conformance ← foodexpress and engines ← foodexpress",
        layers,
        |i| i.put_package("services/planted", &["kernel", "orders"]),
    ),
    rule("F1", "a service has one database, its own, and only the kernel opens it", one_database, |i| {
        i.put_violation(
            "services/planted/src/store.rs",
            "//! Planted.\nfn open() {\n    Store::open(options(), STEPS);\n}\n",
            3,
        )
    }),
    rule("F3", "only auth and the gateway parse tokens of people", tokens, |i| {
        i.put_package("services/planted", &["kernel", "jsonwebtoken"])
    }),
    rule("F6", "gateway, kernel and reactions hold no business", no_business, |i| {
        i.put_violation(
            "kernel/src/planted.rs",
            "//! Planted.\n\nstruct Held;\nimpl Held { fn pizza_oven(&self) {} }\n",
            4,
        )
    }),
];

/// Which workspace crates one of this folder may use; none means any.
fn allowed(folder: &str) -> Option<&'static [&'static str]> {
    match folder.split('/').next().unwrap_or(folder) {
        "kernel" | "simulators" | "engines" => Some(&[]),
        "contracts" | "gateway" | "conformance" => Some(&["kernel"]),
        "services" => Some(&["kernel", "contracts"]),
        _ => None,
    }
}

fn dependency(inputs: &Inputs, package: &Package, name: &str) -> Place {
    inputs.locate(&format!("{}/Cargo.toml", package.folder), &format!("{name}."))
}

fn layers(inputs: &Inputs) -> Vec<Finding> {
    let mut found = Vec::new();
    for package in &inputs.packages {
        let Some(allowed) = allowed(&package.folder) else { continue };
        for dependency_on in &package.dependencies {
            let Some(target) = inputs.packages.iter().find(|p| p.name == dependency_on.name) else { continue };
            // Tests may run against a stand-in for the outside world.
            let stand_in = dependency_on.only_for_tests() && target.folder.starts_with("simulators/");
            if !allowed.contains(&target.name.as_str()) && !stand_in {
                let what = format!("{} must not depend on {}", package.folder, target.folder);
                found.push(
                    Finding::at(dependency(inputs, package, &target.name), what)
                        .about(format!("{} -> {}", package.folder, target.folder)),
                );
            }
        }
    }
    found
}

/// Every dependency of these names that a crate of this kind has.
pub(super) fn dependencies(inputs: &Inputs, names: &[&str], of: impl Fn(&Package) -> bool, why: &str) -> Vec<Finding> {
    let packages = inputs.packages.iter().filter(|p| of(p));
    let pairs = packages.flat_map(|p| p.dependencies.iter().map(move |d| (p, d)));
    pairs
        .filter(|(_, d)| names.contains(&d.name.as_str()) && !d.only_for_tests())
        .map(|(p, d)| {
            let what = format!("{} depends on {}: {why}", p.folder, d.name);
            Finding::at(dependency(inputs, p, &d.name), what).about(format!("{} -> {}", p.folder, d.name))
        })
        .collect()
}

const DRIVERS: &[&str] =
    &["rusqlite", "tokio-postgres", "postgres", "sqlx", "diesel", "sea-orm", "mysql_async", "mongodb", "redis"];
const OPENERS: &[&str] = &["Store::open", "Engine::Sqlite", "Engine::Postgres", "Connection::open"];

fn one_database(inputs: &Inputs) -> Vec<Finding> {
    let why = "the kernel keeps the one database of a service";
    let mut found =
        dependencies(inputs, DRIVERS, |p| p.is_service() || ["contracts", "gateway"].contains(&p.folder.as_str()), why);
    for (service, file) in inputs.service_code() {
        for (line, code) in file.source().shipped() {
            if let Some(opener) = OPENERS.iter().find(|o| code.contains(*o)) {
                found.push(Finding::new(
                    &*file.path,
                    line,
                    format!("{service} opens a database by {opener}; its own comes with the kit"),
                ));
            }
        }
    }
    found
}

const TOKEN_CRATES: &[&str] =
    &["jsonwebtoken", "jwt", "jwt-simple", "jwt-compact", "josekit", "biscuit", "openidconnect"];

fn tokens(inputs: &Inputs) -> Vec<Finding> {
    let other = |p: &Package| p.folder != "services/auth" && p.folder != "gateway";
    let mut found =
        dependencies(inputs, TOKEN_CRATES, other, "callers arrive with identity headers that the gateway vouches for");
    for (service, file) in inputs.service_code().filter(|(service, _)| *service != "auth") {
        for (line, code) in file.source().shipped() {
            if has_word(code, "jsonwebtoken") || code.contains("header::AUTHORIZATION)") && code.contains(".get(") {
                found.push(Finding::new(&*file.path, line, format!("{service} reads a caller's token")));
            }
        }
    }
    found
}

/// Words of the trade, in the singular. Whoever knows one of them knows what the city sells.
const TRADE: &[&str] = &[
    "burger",
    "chef",
    "courier",
    "cuisine",
    "diner",
    "dish",
    "eater",
    "food",
    "foodexpress",
    "kitchen",
    "meal",
    "menu",
    "pizza",
    "restaurant",
    "topping",
];

fn no_business(inputs: &Inputs) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in inputs.files.iter().filter(|f| f.path.starts_with("kernel/") || f.path.starts_with("gateway/src/")) {
        for (at, line) in file.text.lines().enumerate() {
            if let Some(word) = trade_word(line) {
                found.push(Finding::new(&*file.path, at + 1, format!("infrastructure knows the word {word}")));
            }
        }
    }
    let domain: Vec<&str> =
        inputs.packages.iter().filter(|p| p.is_service()).map(|p| p.name.as_str()).chain(["contracts"]).collect();
    found.extend(dependencies(inputs, &domain, |p| p.folder == "gateway", "the gateway knows routes, not services"));
    for (service, file) in
        inputs.service_code().filter(|(_, f)| f.path.ends_with("/reactions.rs") || f.path.contains("/reactions/"))
    {
        for (line, code) in file.source().shipped() {
            if code.contains("sql!(") || code.contains("List::new(") {
                found.push(Finding::new(
                    &*file.path,
                    line,
                    format!("a reaction of {service} holds SQL: call what the store offers"),
                ));
            }
        }
    }
    found
}

/// The first word of the trade in a line: identifiers are taken apart, plurals count.
fn trade_word(line: &str) -> Option<String> {
    let mut apart = String::with_capacity(line.len() + 8);
    let mut before_lower = false;
    for character in line.chars() {
        if character.is_uppercase() && before_lower {
            apart.push(' ');
        }
        before_lower = character.is_lowercase();
        apart.push(if character.is_alphabetic() { character.to_ascii_lowercase() } else { ' ' });
    }
    let known = |word: &&str| {
        let forms = [*word, word.strip_suffix('s').unwrap_or(word), word.strip_suffix("es").unwrap_or(word)];
        forms.iter().any(|form| TRADE.contains(form))
    };
    apart.split_whitespace().find(known).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::trade_word;

    #[test]
    fn words_of_the_trade_are_found_inside_identifiers_and_in_the_plural() {
        for line in ["fn dishes()", "struct FoodOrder", "let a_menu_b = 1", "// Restaurants"] {
            assert!(trade_word(line).is_some(), "{line}");
        }
        for line in ["in order to", "delivery of an event", "order.placed", "reader", "theatre"] {
            assert_eq!(trade_word(line), None, "{line}");
        }
    }
}
