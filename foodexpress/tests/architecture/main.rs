//! The rules of the repository, entered by the front door: the tree keeps them, and each of them can be broken.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// What one run of `check` said last, and whether it was content.
struct Checked {
    content: bool,
    said: Value,
    complaint: String,
}

fn check(root: &Path, arguments: &[&str]) -> Checked {
    let mut command = Command::new(env!("CARGO_BIN_EXE_foodexpress"));
    let output = command.arg("check").arg("--root").arg(root).args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let said = text.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
    Checked { content: output.status.success(), said, complaint: String::from_utf8(output.stderr).unwrap() }
}

fn tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn rules(checked: &Checked) -> &Vec<Value> {
    checked.said["rules"].as_array().unwrap_or_else(|| panic!("no rules: {}", checked.complaint))
}

fn findings<'a>(checked: &'a Checked, rule: &str) -> &'a Vec<Value> {
    let found = rules(checked).iter().find(|r| r["rule"] == rule);
    found.unwrap_or_else(|| panic!("no rule {rule}"))["findings"].as_array().unwrap()
}

#[test]
fn the_tree_keeps_its_rules() {
    let checked = check(&tree(), &["--json"]);
    let broken: Vec<&Value> = rules(&checked).iter().filter(|r| r["ok"] != true).collect();
    assert!(broken.is_empty(), "{}", serde_json::to_string_pretty(&broken).unwrap());
    assert!(checked.content);
}

#[test]
fn every_rule_fails_at_the_violation_that_was_planted_for_it() {
    let all = check(&tree(), &["--json"]);
    let names: Vec<&str> = rules(&all).iter().map(|r| r["rule"].as_str().unwrap()).collect();
    assert!(names.len() >= 24, "{names:?}");
    let missed: Vec<String> = std::thread::scope(|threads| {
        let shares = names.chunks(names.len().div_ceil(4));
        let running: Vec<_> = shares
            .map(|share| threads.spawn(|| share.iter().filter_map(|name| miss(name)).collect::<Vec<_>>()))
            .collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(missed.is_empty(), "{missed:#?}");
}

/// What a rule's demonstration lacks, if anything.
fn miss(rule: &str) -> Option<String> {
    let checked = check(&tree(), &["--json", "--demo-violation", rule]);
    let planted = &checked.said["planted"];
    let there =
        |found: &Value| found["file"] == planted["file"] && found["line"] == planted["line"] && found["what"] != "";
    let named = planted["line"].as_u64().is_some() && findings(&checked, rule).iter().any(there);
    (checked.content || !named).then(|| format!("{rule}: {} {}", checked.said, checked.complaint))
}

#[test]
fn a_rule_that_does_not_exist_is_refused_with_those_that_do() {
    let checked = check(&tree(), &["--demo-violation", "F99"]);
    assert!(!checked.content && checked.complaint.contains("F12"), "{}", checked.complaint);
}

/// A workspace of one crate, outside of git.
fn small_tree() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &str| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    put("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"services/*\"]\n");
    put("services/small/Cargo.toml", "[package]\nname = \"small\"\nversion = \"0.1.0\"\nedition = \"2024\"\n");
    put("services/small/src/lib.rs", "//! A small service.\n\npub struct Price(pub f32);\n");
    put("services/small/migrations/001_small.sql", "CREATE TABLE small (\n    code TEXT PRIMARY KEY\n);\n");
    put("target/debug/left.rs", "no header here\n");
    folder
}

#[test]
fn a_tree_outside_of_git_is_checked_file_by_file() {
    let folder = small_tree();
    let checked = check(folder.path(), &["--json"]);
    assert!(!checked.content);
    let place = |rule: &str| {
        let all = findings(&checked, rule);
        assert_eq!(all.len(), 1, "{rule}: {all:?}");
        format!("{}:{}", all[0]["file"].as_str().unwrap(), all[0]["line"])
    };
    assert_eq!(place("F4"), "services/small/src/lib.rs:3");
    assert_eq!(place("D3"), "services/small/migrations/001_small.sql:2");
    assert!(findings(&checked, "headers").is_empty(), "build output is not part of the tree");
}

#[test]
fn blessing_writes_what_is_missing_and_never_what_is_there() {
    let folder = small_tree();
    let schema = folder.path().join("contracts/schemas/order.created.v1.json");
    check(folder.path(), &["--json", "--bless"]);
    let blessed = std::fs::read_to_string(&schema).unwrap();
    assert!(findings(&check(folder.path(), &["--json"]), "F9").is_empty());
    let other = blessed.replacen("\"total_minor\"", "\"total_cents\"", 1);
    assert_ne!(other, blessed);
    std::fs::write(&schema, &other).unwrap();
    let checked = check(folder.path(), &["--json", "--bless"]);
    assert_eq!(std::fs::read_to_string(&schema).unwrap(), other);
    let found = findings(&checked, "F9");
    assert!(
        found.iter().any(|f| f["what"].as_str().unwrap().contains("total_cents: field removed or renamed")),
        "{found:?}"
    );
}
