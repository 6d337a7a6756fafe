//! A city of processes: what dies is started again, and nothing is left when the city ends.

use std::path::Path;

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
