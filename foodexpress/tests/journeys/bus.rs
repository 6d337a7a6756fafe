//! The bus by hand: what cannot be handled is parked, seen, driven again or dropped, and a second reading does nothing twice.

use serde_json::{Value, json};

use crate::program::{City, Data, until};

const PLANTED: &str =
    "CREATE TRIGGER planted BEFORE INSERT ON messages BEGIN SELECT RAISE(ABORT, 'the ink is dry'); END";

fn parked(city: &City<'_>) -> Vec<Value> {
    let told = city.run(&["events", "parked"]).result();
    let services = told["services"].as_array().unwrap();
    let ours = services.iter().find(|service| service["service"] == "notifications").unwrap();
    ours["parked"].as_array().unwrap().clone()
}

fn tap(city: &City<'_>) {
    let told = city.run(&["demo", "double-tap", "-n", "2"]).result();
    assert_eq!(told["orders"], 1, "{told}");
}

#[test]
fn events_that_cannot_be_handled_are_parked_and_driven_again_by_hand() {
    let data = Data::new();
    let city = data.up(&[]);
    data.tamper("notifications", PLANTED);
    tap(&city);
    let waiting = until("an event is parked", || Some(parked(&city)).filter(|events| !events.is_empty()));
    assert!(waiting[0]["reason"].as_str().unwrap().contains("the ink is dry"), "{waiting:?}");

    let still = city.run(&["events", "redrive", "notifications"]).result();
    assert_eq!(still["handled"], 0, "{still}");
    assert!(!still["stopped"].as_array().unwrap().is_empty() && !parked(&city).is_empty(), "{still}");
    assert_eq!(data.count("notifications", "SELECT COUNT(*) FROM messages"), 0);

    data.tamper("notifications", "DROP TRIGGER planted");
    let driven = until("what was parked is handled", || {
        let driven = city.run(&["events", "redrive", "notifications"]).result();
        parked(&city).is_empty().then_some(driven)
    });
    assert_eq!(driven["stopped"], json!([]), "{driven}");
    let messages = || data.count("notifications", "SELECT COUNT(*) FROM messages");
    until("the messages are written", || (messages() > 0).then_some(()));
    city.order();

    let before = messages();
    let heard = data.count("notifications", "SELECT COUNT(*) FROM inbox");
    let position = "SELECT position FROM bus_position WHERE publisher = 'orders'";
    let end = data.count("notifications", position);
    city.run(&["events", "replay", "notifications", "--of", "orders"]).result();
    until("it has read the orders again", || (data.count("notifications", position) == end).then_some(()));
    city.order();
    assert_eq!(
        data.count("notifications", "SELECT COUNT(*) FROM (SELECT DISTINCT event_id, via FROM messages)"),
        messages()
    );
    assert!(messages() > before && data.count("notifications", "SELECT COUNT(*) FROM inbox") > heard);
    city.stop();
}

#[test]
fn an_event_may_be_given_up_with_a_reason() {
    let data = Data::new();
    let city = data.up(&[]);
    data.tamper("notifications", PLANTED);
    tap(&city);
    let waiting = until("an event is parked", || Some(parked(&city)).filter(|events| !events.is_empty()));
    let event = waiting[0]["event_id"].as_str().unwrap();
    let dropped = city.run(&["events", "drop", "notifications", event, "--reason", "nobody misses it"]).result();
    assert_eq!(dropped["dropped"], true, "{dropped}");
    assert!(parked(&city).iter().all(|left| left["event_id"] != event));
    let stranger = city.run(&["events", "redrive", "nosuch"]).refusal().errors;
    assert!(stranger.contains("no nosuch"), "{stranger}");
    city.stop();
}
