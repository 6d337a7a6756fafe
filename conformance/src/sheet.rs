//! The table as a document: what each case saw on each engine, kept beside the other generated pages, and held to the list.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::engine::ENGINES;
use crate::families::{FAMILIES, Family, cases};
use crate::play::{Cell, Played};

/// The page that the figures are kept on, beside the other generated ones.
pub const PAGE: &str = "conformance.md";

/// What stands where nothing was seen, before the number of the reason.
const EMPTY: &str = "–";
/// What stands where a promise is broken, before the number of what was found.
const BROKEN: &str = "**broken**";
const REASONS: &str = "## Reasons";

/// Cells by case and engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sheet(BTreeMap<(String, String), Cell>);

impl Sheet {
    /// What a document says; whatever it says of a case or engine that there is not any more is left out.
    pub fn read(text: &str) -> Self {
        let reasons = reasons(text);
        let known = FAMILIES.iter().flat_map(|family| {
            let rows = rows(text, family);
            family.cases().into_iter().flat_map(move |case| {
                let row = rows.get(case.name).cloned().unwrap_or_default();
                family.engines().zip(row.into_iter().skip(1)).map(move |(engine, cell)| (case.name, engine.name, cell))
            })
        });
        let meant = |text: &str| -> Option<Cell> {
            let reason = |rest: &str| {
                let number = rest.trim().strip_prefix('(')?.strip_suffix(')')?;
                reasons.get(number).cloned()
            };
            match (text.strip_prefix(EMPTY), text.strip_prefix(BROKEN)) {
                (Some(rest), _) => reason(rest).map(Cell::Empty),
                (_, Some(rest)) => reason(rest).map(Cell::Broken),
                _ if text.is_empty() => None,
                _ => Some(Cell::Seen(text.to_owned())),
            }
        };
        let cells =
            known.filter_map(|(case, engine, cell)| Some(((case.to_owned(), engine.to_owned()), meant(&cell)?)));
        Self(cells.collect())
    }

    /// Takes over what was played now.
    pub fn note(&mut self, all: &[Played]) {
        for played in all {
            self.0.insert((played.case.to_owned(), played.engine.to_owned()), told_plainly(&played.cell));
        }
    }

    /// The document. A cell that nobody has played says so.
    pub fn text(&self) -> String {
        let mut reasons: Vec<String> = Vec::new();
        let mut text = opening();
        for family in FAMILIES {
            let columns: Vec<_> = family.engines().map(|engine| engine.name).collect();
            let line = |cells: &[&str]| format!("| {} |\n", cells.join(" | "));
            write!(text, "## {}\n\n{}.\n\n", family.name, capitalised(family.about))
                .expect("a string takes everything");
            text += &line(&[&["case", "what it shows"][..], &columns].concat());
            text += &line(&vec!["---"; columns.len() + 2]);
            for case in family.cases() {
                let cells = columns.iter().map(|engine| self.cell(case.name, engine, &mut reasons));
                let cells: Vec<String> =
                    [case.name.to_owned(), case.shows.to_owned()].into_iter().chain(cells).collect();
                text += &line(&cells.iter().map(String::as_str).collect::<Vec<_>>());
            }
            text.push('\n');
        }
        text += REASONS;
        text.push_str("\n\n");
        for (at, reason) in reasons.iter().enumerate() {
            writeln!(text, "{}. {reason}", at + 1).expect("a string takes everything");
        }
        text
    }

    fn cell(&self, case: &str, engine: &str, reasons: &mut Vec<String>) -> String {
        let mut numbered = |reason: &str| {
            let at = reasons.iter().position(|known| known == reason).unwrap_or_else(|| {
                reasons.push(reason.to_owned());
                reasons.len() - 1
            });
            at + 1
        };
        match self.0.get(&(case.to_owned(), engine.to_owned())) {
            Some(Cell::Seen(figure)) => figure.clone(),
            Some(Cell::Empty(why)) => format!("{EMPTY} ({})", numbered(why)),
            Some(Cell::Broken(why)) => format!("{BROKEN} ({})", numbered(why)),
            None => format!("{EMPTY} ({})", numbered("it has not been played yet: `foodexpress conform --write` does")),
        }
    }
}

fn opening() -> String {
    let mut text =
        "# Conformance\n\nWhat is promised of every engine, and what each case saw when it was last played: \
                    [how to play them](../guides/conformance.md). Written by `foodexpress conform --write`; \
                    `foodexpress docs --check` holds cases, engines and reasons to the program, not the figures.\n\n"
            .to_owned();
    text += "| engine | what it is | played there |\n| --- | --- | --- |\n";
    for engine in ENGINES {
        let families = FAMILIES.iter().filter(|family| family.engines().any(|column| column.name == engine.name));
        let families: Vec<_> = families.map(|family| format!("`{}.*`", family.name)).collect();
        writeln!(text, "| {} | {} | {} |", engine.name, engine.about, families.join(", "))
            .expect("a string takes everything");
    }
    text.push('\n');
    text
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// On one line, and without what a table would take for its own.
fn told_plainly(cell: &Cell) -> Cell {
    let plain = |text: &str| {
        let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "/").replace('`', "'");
        if line.chars().count() > 240 { line.chars().take(240).chain(['…']).collect() } else { line }
    };
    match cell {
        Cell::Seen(figure) => Cell::Seen(plain(figure)),
        Cell::Broken(why) => Cell::Broken(plain(why)),
        Cell::Empty(why) => Cell::Empty(plain(why)),
    }
}

/// The rows of a family's table by their first cell, each without it.
fn rows(text: &str, family: &Family) -> BTreeMap<String, Vec<String>> {
    let section = text.split("\n## ").find(|section| section.lines().next() == Some(family.name)).unwrap_or_default();
    let lines = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    lines
        .map(|line| {
            let mut cells = line.split(" | ").map(|cell| cell.trim().to_owned());
            (cells.next().unwrap_or_default(), cells.collect())
        })
        .collect()
}

fn reasons(text: &str) -> BTreeMap<String, String> {
    let listed = text.split_once(REASONS).map_or("", |(_, rest)| rest).lines();
    listed.filter_map(|line| line.split_once(". ")).map(|(n, why)| (n.to_owned(), why.to_owned())).collect()
}

/// Where a document does not fit the list of cases and engines; nothing is good. Figures are not compared.
pub fn misfits(text: &str) -> Vec<String> {
    let sheet = Sheet::read(text);
    let mut found = Vec::new();
    for case in cases() {
        let columns = FAMILIES.iter().filter(|family| family.name == case.family()).flat_map(Family::engines);
        for engine in columns {
            let at = format!("{} on {}", case.name, engine.name);
            match (sheet.0.get(&(case.name.to_owned(), engine.name.to_owned())), case.unclaimed(engine.name)) {
                (None, _) => found.push(format!("{at} has neither figure nor reason")),
                (Some(Cell::Empty(said)), Some(why)) if said == why => {}
                (Some(_), Some(why)) => found.push(format!("{at} is not claimed: {why}")),
                (Some(_), None) => {}
            }
        }
    }
    // Everything else that a document of these figures would say: headings, sentences, numbers of reasons.
    if found.is_empty() && sheet.text() != text {
        found.push("it is not what the program would write of these figures".to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A document in which every cell that is claimed has a figure.
    fn whole() -> Sheet {
        let mut sheet = Sheet::default();
        for case in cases() {
            for engine in FAMILIES.iter().filter(|f| f.name == case.family()).flat_map(Family::engines) {
                let cell = match case.unclaimed(engine.name) {
                    Some(why) => Cell::Empty(why.to_owned()),
                    None => Cell::Seen("7 | of\n7".to_owned()),
                };
                sheet.note(&[Played { case: case.name, engine: engine.name, cell }]);
            }
        }
        sheet
    }

    #[test]
    fn what_is_written_is_read_again_and_fits() {
        let mut sheet = whole();
        let broken = Cell::Broken("one was lost".to_owned());
        sheet.note(&[Played { case: "bus.order", engine: "kafka", cell: broken }]);
        let text = sheet.text();
        assert_eq!(Sheet::read(&text), sheet);
        assert_eq!(misfits(&text), Vec::<String>::new());
    }

    #[test]
    fn figures_are_not_compared() {
        let text = whole().text().replace("7 / of 7", "8 of 8");
        assert_eq!(misfits(&text), Vec::<String>::new());
    }

    #[test]
    fn a_case_an_engine_or_a_reason_that_is_missing_is_found() {
        let text = whole().text();
        let without = |spoil: &dyn Fn(&str) -> bool| {
            let kept: Vec<&str> = text.lines().filter(|line| !spoil(line)).collect();
            misfits(&(kept.join("\n") + "\n"))
        };
        assert!(without(&|line| line.starts_with("| bus.order"))[0].contains("bus.order on sqlite"));
        assert!(!without(&|line| line.starts_with("1. ")).is_empty());
        let emptied = text.replacen("7 / of 7", "", 1);
        assert!(misfits(&emptied)[0].contains("neither figure nor reason"));
        let unexplained = text.replacen("7 / of 7", "–", 1);
        assert!(misfits(&unexplained)[0].contains("neither figure nor reason"));
        let claimed = text.replacen("– (1)", "7", 1);
        assert!(misfits(&claimed)[0].contains("is not claimed"), "{:?}", misfits(&claimed));
        let renamed = text.replacen("| sqlite | postgres |", "| sqlite | oracle |", 1);
        assert!(!misfits(&renamed).is_empty());
    }
}
