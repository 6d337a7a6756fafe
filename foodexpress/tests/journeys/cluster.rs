//! Two of everything on real engines: what one command starts, and what no customer notices.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::load::{Answers, Load, only_good};
use crate::program::{City, Data, run_within, signal, until};

/// Long enough for members one after another on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// A folder that engines may enter; none, with the reason printed, where the machine may have none.
fn place() -> Option<Data> {
    if std::env::var("FX_TEST_POSTGRES").is_err() {
        println!("skipped: FX_TEST_POSTGRES is not set, so there may be no PostgreSQL here");
        return None;
    }
    let data = Data::new();
    let above = data.path().parent().unwrap().to_owned();
    std::fs::set_permissions(above, std::fs::Permissions::from_mode(0o711)).unwrap();
    Some(data)
}

/// Customers at all doors who read and change something without end. What a door broke off, or did not open for, is asked
/// again at the next one under the same key, as a balancer before them would.
fn customers(city: &City<'_>) -> Load {
    let doors: Vec<String> = serde_json::from_value(city.opened["gateways"].clone()).unwrap();
    let token = city.run(&["token", "customer1@demo.example"]).rows().remove(0);
    let token = token["access_token"].as_str().unwrap().to_owned();
    Load::of(move |number, stop| {
        let mut doors = doors.clone();
        let first = number % doors.len();
        doors.rotate_left(first);
        be_served(&doors, &token, stop)
    })
}

fn be_served(doors: &[String], token: &str, stop: &AtomicBool) -> Answers {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut answers = Answers::new();
    runtime.block_on(async {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap();
        let wish = json!({"email": true, "sms": false, "push": true, "kinds": ["ORDER"]});
        let ask = |door: &str, number: u64, key: &str| match number % 4 {
            0 => {
                http.put(format!("{door}/api/v1/notifications/preferences")).header("idempotency-key", key).json(&wish)
            }
            1 => http.get(format!("{door}/api/v1/notifications")),
            _ => http.get(format!("{door}/api/v1/restaurants")),
        };
        let mut number = 0;
        while !stop.load(Ordering::SeqCst) {
            number += 1;
            let key = uuid::Uuid::now_v7().to_string();
            let mut said = String::new();
            for door in doors {
                match ask(door, number, &key).bearer_auth(token).send().await {
                    Ok(answer) => {
                        said = answer.status().as_u16().to_string();
                        if said != "200" {
                            said = format!("{said} {}", answer.text().await.unwrap_or_default());
                        }
                        break;
                    }
                    Err(error) => said = format!("{error:?}"),
                }
            }
            *answers.entry(said).or_default() += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    answers
}

/// A cluster whose limits are not what stops these customers.
fn up<'d>(data: &'d Data, more: &[&str]) -> City<'d> {
    let unlimited = ["--set", "gateway.per_caller=100000", "--set", "gateway.per_address=100000"];
    data.up(&[&["--profile", "cluster"], &unlimited[..], more].concat())
}

fn ready(city: &City<'_>, name: &str, but: &Value) {
    until("it is there again, as another process", || {
        let now = city.member(name);
        (now["pid"] != *but && now["state"] == "ready").then_some(())
    });
}

fn long(city: &City<'_>, data: &Data, args: &[&str]) -> Value {
    assert!(city.opened["gateway"].is_string());
    run_within(PATIENCE, &[args, &["--data", data.path().to_str().unwrap()]].concat()).result()
}

#[test]
fn a_rolling_restart_and_the_kill_of_any_instance_fail_no_request() {
    let Some(data) = place() else { return };
    let city = up(&data, &["--engines", "postgres,pgbouncer"]);
    assert_eq!(city.opened["gateways"].as_array().unwrap().len(), 2);
    let members = city.members();
    assert_eq!(members.len(), 17, "two of everything but the card network");
    city.order();
    let load = customers(&city);
    let restarted = long(&city, &data, &["restart"]);
    assert_eq!(restarted["restarted"], 16);
    for member in members.iter().filter(|m| m["service"] != "card-network") {
        let name = member["name"].as_str().unwrap();
        let pid = city.member(name)["pid"].clone();
        assert_ne!(pid, member["pid"], "the restart made another process of it");
        signal("-KILL", pid.as_u64().unwrap());
        ready(&city, name, &pid);
        // Two of a pair are never gone at once: that would be another promise.
        std::thread::sleep(Duration::from_millis(300));
    }
    only_good(&load.end());
    city.order();
    city.audit(2);
    city.stop();
}

#[test]
fn an_instance_that_somebody_adds_by_hand_is_found_and_leaves_in_good_order() {
    let Some(data) = place() else { return };
    let city = up(&data, &["--engines", "postgres", "--instances", "1"]);
    let listed = || {
        let lag = city.run(&["ls"]).rows();
        lag.len()
    };
    assert_eq!(listed(), 9);
    let folder = data.path();
    let args = ["serve", "restaurants", "--port", "0", "--data", folder.to_str().unwrap()];
    let mut third = std::process::Command::new(env!("CARGO_BIN_EXE_foodexpress"))
        .args(args)
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let load = customers(&city);
    // The planned one is away now and again; whoever asks meanwhile is served by the one that came by hand.
    std::thread::sleep(Duration::from_secs(3));
    let pid = city.member("restaurants")["pid"].clone();
    signal("-KILL", pid.as_u64().unwrap());
    ready(&city, "restaurants", &pid);
    signal("-TERM", u64::from(third.id()));
    assert!(third.wait().unwrap().success());
    std::thread::sleep(Duration::from_millis(500));
    only_good(&load.end());
    city.stop();
}

#[test]
fn two_instances_of_a_service_on_files_are_refused_with_what_to_do() {
    let data = Data::new();
    let refused = data.run(&["up", "--instances", "2", "--ports", "auto"]).refusal();
    assert!(refused.errors.contains("set postgres.url") && refused.errors.contains("--profile cluster"), "{refused:?}");
}
