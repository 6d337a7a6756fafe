//! The generated documents: those of the repository are fresh, and a stale one is noticed.

use serde_json::json;

use crate::program::run;

#[test]
fn the_generated_documents_are_those_of_this_program() {
    let told = run(&["docs", "--check"]);
    assert_eq!(told.result(), json!({"stale": []}), "run `foodexpress docs` and commit docs/generated");
}

#[test]
fn a_changed_or_missing_document_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let boards = folder.path().join("boards");
    let (path, boards) = (folder.path().to_str().unwrap(), boards.to_str().unwrap());
    let written = run(&["docs", "--folder", path, "--dashboards", boards]).result();
    let names: Vec<&str> = written["written"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(names.len() > 5, "{names:?}");
    assert!(names.contains(&"settings.md") && names.contains(&"city.json"), "{names:?}");
    let check = ["docs", "--check", "--folder", path, "--dashboards", boards];
    assert_eq!(run(&check).result(), json!({"stale": []}));
    std::fs::write(folder.path().join(names[0]), "somebody's own words").unwrap();
    std::fs::remove_file(folder.path().join(names[1])).unwrap();
    let stale = run(&check).refusal();
    assert_eq!(stale.lines, [json!({"stale": names[..2]})]);
}
