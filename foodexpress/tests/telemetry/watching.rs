//! What watches a city: Prometheus finds it and likes its pages, alerts ring when they should, and neither they nor the
//! dashboards name a metric that no city has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::city::City;

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

#[expect(clippy::disallowed_methods, reason = "where the engines are is told by the environment of the test run")]
pub(crate) fn told(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Says why something is not tested; where engines are required that is a failure.
pub(crate) fn skip(why: &str) {
    assert_ne!(told("FX_TEST_REQUIRE_ENGINES").as_deref(), Some("1"), "{why}");
    println!("skipped: {why}");
}

/// Runs one of Prometheus' tools and gives what it says if it is content; none where it is not installed.
///
/// `FX_TEST_PROMTOOL` names promtool; amtool lies beside it or in the path.
async fn tool(name: &str, arguments: &[&str], folder: &Path, input: &str) -> Option<Result<String, String>> {
    let named = told("FX_TEST_PROMTOOL").map(PathBuf::from);
    let beside = named.map(|promtool| promtool.with_file_name(name)).filter(|path| path.exists());
    let mut command = Command::new(beside.unwrap_or_else(|| name.into()));
    command.args(arguments).current_dir(folder).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut running) = command.spawn() else {
        skip(&format!(
            "{name} is not installed; set FX_TEST_PROMTOOL, or install prometheus and prometheus-alertmanager"
        ));
        return None;
    };
    let mut stdin = running.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    let ended = running.wait_with_output().await.unwrap();
    let (said, complained) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    Some(if ended.status.success() { Ok(said.into_owned()) } else { Err(format!("{said}{complained}")) })
}

fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(deploy(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = all.filter(|path| path.extension().is_some_and(|e| e == ending)).collect();
    files.sort();
    assert!(!files.is_empty(), "{folder} is empty");
    files
}

fn names(files: &[PathBuf]) -> Vec<&str> {
    files.iter().map(|path| path.to_str().unwrap()).collect()
}

#[tokio::test]
async fn alerts_ring_when_they_should_and_their_way_is_known() {
    let rules = files("prometheus/rules-tests", "yml");
    let arguments: Vec<&str> = ["test", "rules"].into_iter().chain(names(&rules)).collect();
    let Some(said) = tool("promtool", &arguments, Path::new("."), "").await else { return };
    said.unwrap();
    let config = deploy("prometheus/prometheus.yml");
    tool("promtool", &["check", "config", config.to_str().unwrap()], Path::new("."), "").await.unwrap().unwrap();
    let routes = deploy("prometheus/alertmanager.yml");
    let Some(said) = tool("amtool", &["check-config", routes.to_str().unwrap()], Path::new("."), "").await else {
        return;
    };
    said.unwrap();
    let way = ["config", "routes", "test", "--config.file", routes.to_str().unwrap()];
    for (severity, receiver) in [("severity=page", "page"), ("severity=ticket", "ticket"), ("team=none", "list")] {
        let arguments: Vec<&str> = way.into_iter().chain([severity]).collect();
        assert_eq!(tool("amtool", &arguments, Path::new("."), "").await.unwrap().unwrap().trim(), receiver);
    }
}

/// Every alert has a test in which it rings: one that never did may be one that never can.
#[test]
fn no_alert_is_without_a_test_in_which_it_rings() {
    let text = |files: Vec<PathBuf>| files.iter().map(|path| fs::read_to_string(path).unwrap()).collect::<String>();
    let (rules, tests) = (text(files("prometheus/rules", "yml")), text(files("prometheus/rules-tests", "yml")));
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10);
    for alert in alerts {
        assert!(tests.contains(&format!("alertname: {alert}\n        exp_alerts:\n          - exp_labels")), "{alert}");
    }
}

#[tokio::test]
async fn prometheus_finds_every_member_and_rules_and_dashboards_name_only_what_is_there() {
    // Nobody listens there: the metrics of the exporter exist all the same.
    let city = City::up(&["traces.endpoint=http://127.0.0.1:9".to_owned()]).await;
    let order = city.run(&["demo", "order"]).await.pop().unwrap();
    assert_eq!(order["status"], "DELIVERED");
    let targets = city.run(&["metrics", "targets"]).await.pop().unwrap();
    let kept: Value = serde_json::from_slice(&fs::read(city.folder.path().join("data/targets.json")).unwrap()).unwrap();
    assert_eq!(targets, kept);
    let mut pages = BTreeMap::new();
    for target in targets.as_array().unwrap() {
        let (service, address) = (target["labels"]["service"].as_str().unwrap(), &target["targets"][0]);
        assert_eq!(address.as_str(), Some(city.members[service].as_str()));
        pages.insert(service, city.get(service, "metrics").await.2);
    }
    let members: BTreeSet<&str> =
        city.members.keys().map(String::as_str).filter(|name| *name != "card-network").collect();
    assert_eq!(pages.keys().copied().collect::<BTreeSet<_>>(), members);
    let exposed: BTreeSet<&str> = pages
        .values()
        .flat_map(|page| page.lines())
        .filter(|line| !line.starts_with('#'))
        .filter_map(name_of)
        .collect();
    let mut used = 0;
    for (place, expression) in expressions() {
        for metric in metrics_in(&expression) {
            used += 1;
            let known = exposed.contains(metric.as_str()) || metric == "up" || metric.starts_with("city:");
            assert!(known, "{place} asks for {metric}, which no member shows: {expression}");
        }
    }
    assert!(used > 50, "only {used} names were found");
    for (service, page) in &pages {
        let Some(said) = tool("promtool", &["check", "metrics"], Path::new("."), page).await else { return };
        assert_eq!(said.as_deref(), Ok(""), "{service}");
    }
    every_expression_reads().await;
    city.stop().await;
}

fn name_of(sample: &str) -> Option<&str> {
    sample.split(['{', ' ']).next().filter(|name| !name.is_empty())
}

/// Every expression of the rules and dashboards, with the place it stands in.
fn expressions() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for path in files("grafana", "json") {
        let dashboard: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for panel in dashboard["panels"].as_array().unwrap() {
            for line in panel["targets"].as_array().unwrap() {
                let place = format!("{}, {}", path.display(), panel["title"]);
                all.push((place, line["expr"].as_str().unwrap().replace("$service", "orders")));
            }
        }
    }
    for path in files("prometheus/rules", "yml") {
        let text = fs::read_to_string(&path).unwrap();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let Some(mut expression) = line.trim().strip_prefix("expr: ").map(str::to_owned) else { continue };
            if expression == ">-" {
                expression.clear();
                let indent = |line: &str| line.len() - line.trim_start().len();
                while let Some(more) = lines.next_if(|next| indent(next) > indent(line)) {
                    expression.push_str(more.trim());
                    expression.push(' ');
                }
            }
            all.push((path.display().to_string(), expression));
        }
    }
    all
}

/// The metrics that an expression asks for.
fn metrics_in(expression: &str) -> BTreeSet<String> {
    const WORDS: &[&str] = &["and", "or", "unless", "bool", "offset", "inf", "nan"];
    const GROUPINGS: &[&str] = &["by", "without", "on", "ignoring", "group_left", "group_right"];
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let (mut found, mut rest) = (BTreeSet::new(), expression);
    while let Some(first) = rest.chars().next() {
        let skipped = match first {
            '{' => rest.find('}').unwrap() + 1,
            '[' => rest.find(']').unwrap() + 1,
            '"' => rest[1..].find('"').unwrap() + 2,
            c if is_word(c) => {
                let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                let (word, after) = (&rest[..end], rest[end..].trim_start());
                if GROUPINGS.contains(&word) {
                    end + rest[end..].find(')').unwrap() + 1
                } else {
                    // A number, a function or an operator is none.
                    let grouped = GROUPINGS.iter().any(|grouping| after.starts_with(grouping));
                    if !c.is_ascii_digit() && !after.starts_with('(') && !grouped && !WORDS.contains(&word) {
                        found.insert(word.to_owned());
                    }
                    end
                }
            }
            c => c.len_utf8(),
        };
        rest = &rest[skipped..];
    }
    found
}

#[test]
fn the_metrics_of_an_expression_are_told_from_its_words() {
    let expression = r#"sum by (le, a) (rate(x_bucket{b="c_d", e!=""}[5m])) / on (a) group_left (z) y_total > 14.4 * 0.001 and city:r:5m"#;
    assert_eq!(metrics_in(expression).into_iter().collect::<Vec<_>>(), ["city:r:5m", "x_bucket", "y_total"]);
}

/// promtool reads expressions of rules only, so those of the dashboards are made ones.
async fn every_expression_reads() {
    let folder = tempfile::tempdir().unwrap();
    let rule = |(number, (_, expression)): (usize, (String, String))| {
        format!("      - record: expression:{number}\n        expr: {}\n", Value::from(expression))
    };
    let rules: String = expressions().into_iter().enumerate().map(rule).collect();
    fs::write(folder.path().join("all.yml"), format!("groups:\n  - name: all\n    rules:\n{rules}")).unwrap();
    tool("promtool", &["check", "rules", "all.yml"], folder.path(), "").await.unwrap().unwrap();
}
