//! Every scenario of `bench` runs, tiny: that it gives its rows is tested here, what they say is not.

use std::process::Command;

use serde_json::Value;

/// Runs one scenario and gives its rows, after checking that each is whole.
fn rows(scenario: &str) -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    // Engines run as another user.
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_foodexpress"));
    command.args(["bench", "--tiny", "--json", "--only", scenario, "--data"]).arg(folder.path());
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap_or_default();
    let rows = last["rows"].as_array().cloned().unwrap_or_default();
    assert!(output.status.success() && !rows.is_empty(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for row in &rows {
        for field in ["name", "value", "unit", "against", "must", "goal", "ok", "min", "max", "rounds", "note"] {
            assert!(row.get(field).is_some(), "no {field} in {row}");
        }
        let skipped = row["note"].as_str().unwrap().starts_with("skipped: ");
        assert_eq!(row["value"].is_f64(), !skipped, "{row}");
        assert_eq!(row["ok"].is_boolean(), !skipped && row["must"].is_number(), "{row}");
    }
    let left = std::fs::read_dir(folder.path())
        .unwrap()
        .filter(|f| f.as_ref().unwrap().file_name().to_string_lossy().starts_with("bench-"));
    assert_eq!(left.count(), 0, "the cities are removed");
    rows
}

fn names(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["name"].as_str().unwrap()).collect()
}

#[test]
fn orders_at_a_fixed_rate_give_times_and_cpu_per_order() {
    assert_eq!(names(&rows("orders")), ["order_intake_p50", "order_intake_p95", "cpu_per_order"]);
}

#[test]
fn one_order_at_a_time_is_told_in_flushes() {
    let rows = rows("saga");
    assert_eq!(names(&rows), ["saga_p50", "saga_p99"]);
    assert!(rows[0]["against"].as_str().unwrap().contains("flushes"));
}

#[test]
fn events_are_timed_from_commit_to_commit() {
    assert_eq!(names(&rows("bus")), ["bus_p50", "bus_p99"]);
}

#[test]
fn the_gateway_is_measured_beside_other_proxies() {
    assert_eq!(
        names(&rows("gateway")),
        ["gateway_cpu_vs_nginx", "gateway_cpu_new_tokens_vs_haproxy", "gateway_p99_added"]
    );
}

#[test]
fn starting_and_idling_are_measured_in_one_process_and_in_many() {
    let wanted = ["cold_start_new", "cold_start", "memory_one_process", "memory_one_each", "idle_cpu"];
    assert_eq!(names(&rows("start")), wanted);
}

#[test]
fn the_guard_and_the_store_are_measured_without_a_city() {
    assert_eq!(names(&rows("permissions")), ["permission_check"]);
    assert_eq!(names(&rows("store")), ["store_units_32_clients", "store_units_one_by_one"]);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test finds its engines by the environment")]
fn the_cluster_is_measured_beside_files() {
    if std::env::var("FX_TEST_KAFKA3").is_err() || std::env::var("FX_TEST_SLOW").is_err() {
        println!("skipped: FX_TEST_KAFKA3 and FX_TEST_SLOW are not set");
        return;
    }
    let rows = rows("cluster");
    let cpu = ["cluster_cpu_ours", "cluster_cpu_postgres", "cluster_cpu_kafka", "cluster_cpu_others"];
    let times = ["cluster_intake_p95", "cluster_saga_p50", "cluster_saga_p99"];
    assert_eq!(names(&rows), [&times[..], &cpu].concat());
    assert!(rows.iter().all(|row| row["value"].as_f64().unwrap() > 0.0), "each process of it works: {rows:#?}");
}
