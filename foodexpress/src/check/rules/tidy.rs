//! How files are kept: named, sized, introduced and linked as the style page says.

use super::{has_word, rule};
use crate::check::inputs::Inputs;
use crate::check::{Finding, Rule};
use std::path::Path;

pub(super) const RULES: &[Rule] = &[
    rule("headers", "every source file begins with a line that says what it is for", headers, |i| {
        i.put_violation("services/planted/src/lib.rs", "mod api;\n", 1)
    }),
    rule("sizes", "files stay below 400 lines, functions below 70, unless on the shrinking list", sizes, |i| {
        i.put_violation(
            "services/planted/src/lib.rs",
            &format!("//! Planted.\n\nfn long() {{\n{}}}\n", "    step();\n".repeat(70)),
            3,
        )
    }),
    rule("leftovers", "nothing unfinished is left lying, and what cannot fail says why", leftovers, |i| {
        i.put_violation(
            "services/planted/src/lib.rs",
            "//! Planted.\nfn first() -> u8 {\n    LIST.first().unwrap()\n}\n",
            3,
        )
    }),
    rule("links", "links between the documents lead somewhere", links, |i| {
        i.put_violation("docs/planted.md", "# Planted\n\nSee [the other page](nowhere.md).\n", 3)
    }),
    rule("paths", "nothing names a path of somebody's machine", machine_paths, |i| {
        i.put_violation("docs/planted.md", concat!("# Planted\n\nLook into /ho", "me/somebody/city first.\n"), 3)
    }),
    rule("names", "no file or folder is called utils, helpers, common, manager, misc or base", vague_names, |i| {
        i.put_violation("services/planted/src/utils.rs", "//! Planted.\n", 1)
    }),
];

const LONGEST_FILE: usize = 400;
const LONGEST_FUNCTION: usize = 70;
const LARGEST_BLOB: u64 = 512 * 1024;

fn headers(inputs: &Inputs) -> Vec<Finding> {
    let bare = inputs
        .rust()
        .filter(|(f, _)| f.text.lines().next().is_none_or(|first| !first.starts_with("//! ") || first.len() < 12));
    bare.map(|(f, _)| Finding::new(&*f.path, 1, "the first line does not say what the file is for")).collect()
}

fn sizes(inputs: &Inputs) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in inputs.files.iter().filter(|f| f.bytes > LARGEST_BLOB) {
        found.push(Finding::new(
            &*file.path,
            1,
            format!("{} KB is more than a repository should carry", file.bytes / 1024),
        ));
    }
    for (file, _) in inputs.rust() {
        let lines = file.text.lines().count();
        if lines > LONGEST_FILE {
            found.push(Finding::new(&*file.path, 1, format!("{lines} lines")).sized(lines));
        }
        for function in file.source().functions() {
            let lines = function.last - function.first + 1;
            if lines > LONGEST_FUNCTION {
                let what = format!("fn {} has {lines} lines", function.name);
                found.push(
                    Finding::new(&*file.path, function.first, what)
                        .about(format!("{}: {}", file.path, function.name))
                        .sized(lines),
                );
            }
        }
    }
    found
}

/// Taken apart, so that this file does not find itself.
const UNFINISHED: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];
const UNFINISHED_CODE: &[&str] = &["todo!(", "unimplemented!(", "dbg!("];
const SOURCES: &[&str] =
    &[".rs", ".sql", ".toml", ".sh", ".py", ".proto", ".ts", ".js", ".css", ".html", ".yaml", ".yml"];

fn leftovers(inputs: &Inputs) -> Vec<Finding> {
    let mut found = Vec::new();
    let written_by_hand = |path: &str| SOURCES.iter().any(|end| path.ends_with(end)) || path.starts_with("scripts/");
    for file in inputs.files.iter().filter(|f| written_by_hand(&f.path)) {
        for (at, line) in file.text.lines().enumerate() {
            if let Some(word) = UNFINISHED.iter().find(|w| has_word(line, w)) {
                found.push(Finding::new(&*file.path, at + 1, format!("{word} is left")));
            }
        }
    }
    for (file, test) in inputs.rust() {
        for (line, code) in file.source().shipped() {
            if code.contains(".unwrap()") && !test {
                found.push(Finding::new(
                    &*file.path,
                    line,
                    "unwrap outside of tests; expect says why it cannot happen",
                ));
            }
            if let Some(left) = UNFINISHED_CODE.iter().find(|left| code.contains(*left)) {
                found.push(Finding::new(&*file.path, line, format!("{left}) is left")));
            }
        }
    }
    found
}

fn links(inputs: &Inputs) -> Vec<Finding> {
    let exists = |path: &str| inputs.files.iter().any(|f| f.path == path || f.path.starts_with(&format!("{path}/")));
    let mut found = Vec::new();
    for file in inputs.files.iter().filter(|f| Path::new(&f.path).extension().is_some_and(|e| e == "md")) {
        let mut fenced = false;
        for (at, line) in file.text.lines().enumerate() {
            fenced ^= line.trim_start().starts_with("```");
            for target in targets(line).filter(|_| !fenced) {
                if !exists(&resolved(&file.path, target)) {
                    found.push(Finding::new(&*file.path, at + 1, format!("{target} leads nowhere")));
                }
            }
        }
    }
    found
}

/// The link targets in a line of Markdown that are files of this tree.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    // What stands between backticks is code, not a link.
    let prose = line.split('`').step_by(2);
    let inline = prose.flat_map(|text| text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next()));
    let named = line.starts_with('[').then(|| line.split_once("]: ")).flatten().map(|(_, target)| target.trim());
    let outside = |t: &&str| t.is_empty() || t.starts_with('#') || t.contains("://") || t.starts_with("mailto:");
    inline.chain(named).filter(move |t| !outside(t))
}

/// A link's target as a path below the root.
fn resolved(from: &str, target: &str) -> String {
    let target = target.split('#').next().unwrap_or(target).trim_end_matches('/');
    let mut steps: Vec<&str> = if target.starts_with('/') { Vec::new() } else { from.split('/').collect() };
    steps.pop();
    for step in target.split('/') {
        match step {
            "" | "." => {}
            ".." => drop(steps.pop()),
            name => steps.push(name),
        }
    }
    steps.join("/")
}

/// Where people and machines keep what is theirs; taken apart, so that this file does not find itself.
const ELSEWHERE: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/Us", "ers/"), concat!("/ro", "ot/")];

fn machine_paths(inputs: &Inputs) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in &inputs.files {
        for (at, line) in file.text.lines().enumerate() {
            let named = |path: &&&str| {
                line.match_indices(**path).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    // Part of a longer path or address, such as …/api/work/…, is nobody's machine.
                    !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '}' | '/' | '~'))
                })
            };
            if let Some(path) = ELSEWHERE.iter().find(named) {
                found.push(Finding::new(&*file.path, at + 1, format!("a path below {path}")));
            }
        }
    }
    found
}

fn vague_names(inputs: &Inputs) -> Vec<Finding> {
    const VAGUE: &[&str] = &["utils", "util", "helpers", "helper", "common", "manager", "misc", "base"];
    let vague = |path: &str| path.split('/').any(|part| VAGUE.contains(&part.trim_end_matches(".rs")));
    inputs
        .files
        .iter()
        .filter(|f| vague(&f.path))
        .map(|f| Finding::new(&*f.path, 1, "a name that says nothing"))
        .collect()
}
