//! A city of processes: what dies is started again, and nothing is left when the city ends.

use std::path::Path;

use crate::changes::fetch;
use crate::program::{City, Data, signal, until};

fn pids(city: &City<'_>) -> Vec<u64> {
    city.members().iter().map(|member| member["pid"].as_u64().unwrap()).collect()
}

/// Whether the process is there; a dead one that nobody has buried yet is not.
fn lives(pid: u64) -> bool {
    let Ok(stat) = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")) else { return false };
    !stat.rsplit(')').next().unwrap().trim_start().starts_with(['Z', 'X'])
}

fn comes_back(city: &City<'_>, name: &str) {
    let before = city.member(name)["pid"].as_u64().unwrap();
    signal("-KILL", before);
    until("it is there again, as another process", || {
        let now = city.member(name);
        (now["pid"] != before && now["state"] == "ready").then_some(())
    });
}

#[test]
fn members_that_are_killed_come_back_and_orders_go_on() {
    let data = Data::new();
    let city = data.up(&["--processes"]);
    let mut each = pids(&city);
    each.sort_unstable();
    each.dedup();
    assert_eq!(each.len(), 9, "a process for each member");
    city.order();
    for name in ["orders", "gateway", "card-network"] {
        comes_back(&city, name);
    }
    city.order();
    city.audit(2);
    let last = pids(&city);
    city.stop();
    assert_eq!(last.into_iter().filter(|pid| lives(*pid)).collect::<Vec<_>>(), [0; 0], "processes were left");
}

#[test]
fn members_whose_supervisor_is_killed_end_and_the_city_can_start_again() {
    let data = Data::new();
    let city = data.up(&["--processes"]);
    city.order();
    let members = pids(&city);
    city.kill();
    until("the members have noticed", || (!members.iter().any(|pid| lives(*pid))).then_some(()));
    let city = data.up(&[]);
    city.order();
    city.audit(2);
    city.stop();
}

fn registry_of(city: &City<'_>, service: &str) -> String {
    let address = city.member(service)["address"].as_str().unwrap().to_owned();
    let report: serde_json::Value = serde_json::from_str(&fetch(&format!("http://{address}/readyz")).1).unwrap();
    report["checks"]["registry"]["detail"].as_str().unwrap().to_owned()
}

#[test]
fn members_find_each_other_by_the_citys_own_registrar() {
    let data = Data::new();
    let city = data.up(&["--processes"]);
    assert_eq!(registry_of(&city, "kitchen"), "own answers");
    city.order();
    city.stop();
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test finds its engines by the environment")]
fn members_find_each_other_by_consul_if_the_settings_say_so() {
    let Some(consul) = std::env::var("FX_TEST_CONSUL").ok().filter(|url| !url.is_empty()) else {
        assert!(
            std::env::var("FX_TEST_REQUIRE_ENGINES").is_err(),
            "FX_TEST_CONSUL is not set; start Consul for the tests"
        );
        println!("skipped: FX_TEST_CONSUL is not set, so there is no Consul");
        return;
    };
    let data = Data::new();
    let (url, prefix) = (format!("registry.url={consul}"), format!("t{}", std::process::id()));
    let prefixed = format!("registry.prefix={prefix}");
    let more = [
        "--processes",
        "--set",
        "registry.kind=consul",
        "--set",
        &url,
        "--set",
        &prefixed,
        "--set",
        "registry.ttl_ms=3000",
    ];
    let city = data.up(&more);
    assert_eq!(registry_of(&city, "kitchen"), "consul answers");
    city.order();
    let (listed, orders) = (format!("{consul}/v1/health/service/{prefix}-orders?passing=true"), city.member("orders"));
    let port = orders["address"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    assert!(
        fetch(&listed).1.contains(&format!("\"Port\": {port}"))
            || fetch(&listed).1.contains(&format!("\"Port\":{port}"))
    );
    comes_back(&city, "orders");
    city.order();
    city.stop();
    until("those who stopped have left", || (fetch(&listed).1.trim() == "[]").then_some(()));
}
