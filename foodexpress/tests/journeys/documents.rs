//! The generated documents: those of the repository are fresh, and a stale one is noticed.

use serde_json::json;

use crate::program::{root, run};

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
    // What the cases saw is no document that a declaration gives.
    std::fs::copy(root().join("docs/generated/conformance.md"), folder.path().join("conformance.md")).unwrap();
    let check = ["docs", "--check", "--folder", path, "--dashboards", boards];
    assert_eq!(run(&check).result(), json!({"stale": []}));
    std::fs::write(folder.path().join(names[0]), "somebody's own words").unwrap();
    std::fs::remove_file(folder.path().join(names[1])).unwrap();
    let stale = run(&check).refusal();
    assert_eq!(stale.lines, [json!({"stale": names[..2]})]);
}

#[test]
fn a_page_of_figures_that_lacks_a_case_or_a_reason_is_stale() {
    let [folder, boards] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let (path, boards) = (folder.path().to_str().unwrap(), boards.path().to_str().unwrap());
    run(&["docs", "--folder", path, "--dashboards", boards]).result();
    let check = ["docs", "--check", "--folder", path, "--dashboards", boards];
    assert_eq!(run(&check).refusal().lines, [json!({"stale": ["conformance.md"]})], "there is none");
    let whole = std::fs::read_to_string(root().join("docs/generated/conformance.md")).unwrap();
    let page = folder.path().join("conformance.md");
    std::fs::write(&page, &whole).unwrap();
    run(&check).result();
    for missing in ["| store.commit |", "1. "] {
        let without: Vec<&str> = whole.lines().filter(|line| !line.starts_with(missing)).collect();
        std::fs::write(&page, without.join("\n") + "\n").unwrap();
        assert_eq!(run(&check).refusal().lines, [json!({"stale": ["conformance.md"]})], "without {missing}");
    }
}
