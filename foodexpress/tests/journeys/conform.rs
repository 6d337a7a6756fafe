//! The cases by the command: figures, reasons, planted faults, and the page they are kept on.

use std::time::Duration;

use serde_json::Value;

use crate::program::{Told, run, run_within};

/// Quick cases on what needs no engine, one of which kills a process.
const QUICK: [&str; 12] = [
    "conform",
    "--only",
    "store.*",
    "--only",
    "config.re*",
    "--only",
    "secrets.hidden",
    "--engine",
    "sqlite",
    "--engine",
    "file",
    "--data",
];

fn conform(more: &[&str]) -> Told {
    let data = tempfile::tempdir().unwrap();
    let data = data.path().to_str().unwrap();
    run_within(Duration::from_secs(120), &[&QUICK[..], &[data], more].concat())
}

fn count<'a>(rows: &'a [Value], ok: &'a Value) -> impl Iterator<Item = &'a Value> {
    rows.iter().filter(move |row| row["ok"] == *ok && row.get("case").is_some())
}

#[test]
fn each_cell_has_a_figure_or_a_reason() {
    let mut rows = conform(&[]).rows();
    let sum = rows.pop().unwrap();
    assert_eq!((sum["broken"].as_array().map(Vec::len), &sum["faults"]), (Some(0), &Value::from(false)), "{sum}");
    let (kept, empty) = (count(&rows, &true.into()).count(), count(&rows, &Value::Null).count());
    assert_eq!((sum["kept"].as_u64(), sum["empty"].as_u64()), (Some(kept as u64), Some(empty as u64)));
    assert!(kept >= 20 && empty >= 5, "{kept} kept, {empty} empty");
    assert!(count(&rows, &true.into()).all(|row| !row["figure"].as_str().unwrap().is_empty()));
    assert!(count(&rows, &Value::Null).all(|row| !row["reason"].as_str().unwrap().is_empty()));
    let kill = rows.iter().find(|row| row["case"] == "store.kill").unwrap();
    assert!(kill["figure"].as_str().unwrap().starts_with("3 kills, "), "{kill}");
}

#[test]
fn each_planted_fault_is_found() {
    let sum = conform(&["--faults"]).result();
    assert_eq!((sum["broken"].as_array().map(Vec::len), &sum["faults"]), (Some(0), &Value::from(true)), "{sum}");
    assert!(sum["kept"].as_u64().unwrap() >= 20, "{sum}");
}

#[test]
fn figures_are_kept_beside_those_that_were_there() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("conformance.md");
    let write = |case: &str| {
        run(&["conform", "--only", case, "--engine", "sqlite", "--write", "--folder", folder.path().to_str().unwrap()])
            .result();
        std::fs::read_to_string(&page).unwrap()
    };
    let first = write("store.commit");
    let line =
        |text: &str, case: &str| text.lines().find(|line| line.starts_with(&format!("| {case} |"))).unwrap().to_owned();
    assert!(line(&first, "store.commit").contains("| 50 of 50 units seen at once by another |"), "{first}");
    assert!(line(&first, "store.outbox").contains("| – ("), "{first}");
    let second = write("store.outbox");
    assert_eq!(line(&first, "store.commit"), line(&second, "store.commit"));
    assert!(line(&second, "store.outbox").contains("| 20 units, 14 committed, 14 events |"), "{second}");
}

#[test]
fn an_unknown_case_or_engine_is_refused_with_those_there_are() {
    let told = run(&["conform", "--only", "stare.*"]).refusal();
    assert!(told.errors.contains("no case is called stare.*") && told.errors.contains("store.*"), "{}", told.errors);
    let told = run(&["conform", "--engine", "oracle"]).refusal();
    assert!(told.errors.contains("no engine is called oracle") && told.errors.contains("pgbouncer"), "{}", told.errors);
}
