//! One order and everything that can be asked about it; then the same city again after a stop.

use serde_json::{Value, json};

use crate::program::{City, Data, until};

const MEMBERS: [&str; 9] =
    ["auth", "card-network", "delivery", "gateway", "kitchen", "notifications", "orders", "payments", "restaurants"];

/// Milestones of an order that is delivered, in the order in which one causes the next.
const SAGA: [&str; 8] = [
    "order.created",
    "payment.authorized",
    "kitchen.accepted",
    "payment.success",
    "order.confirmed",
    "order.shipped",
    "delivery.completed",
    "order.delivered",
];

#[test]
fn an_order_is_delivered_and_its_whole_story_can_be_told() {
    let data = Data::new();
    let city = data.up(&[]);
    assert_eq!(city.opened["processes"], false);
    let members = city.members();
    assert!(members.iter().all(|member| member["state"] == "ready"), "{members:?}");
    let names: Vec<&str> = members.iter().map(|member| member["name"].as_str().unwrap()).collect();
    assert_eq!(names, MEMBERS);

    let order = city.order();
    tells_the_story(&city, &order);
    nobody_is_behind(&city);
    let parked = city.run(&["events", "parked"]).result();
    let none_parked = |service: &Value| service["parked"].as_array().unwrap().is_empty();
    assert!(parked["services"].as_array().unwrap().iter().all(none_parked), "{parked}");
    let audit = city.audit(1);
    assert!(audit["captured"].as_i64().unwrap() > 0 && audit["refunded"] == 0, "{audit}");
    assert_eq!(audit["by_status"], json!({"DELIVERED": 1}));
    city.stop();
}

/// `why` has the trace of the order's own request, and the saga's events in the order of their causes.
fn tells_the_story(city: &City<'_>, order: &Value) {
    let mut told = city.run(&["why", order["order_id"].as_str().unwrap()]).rows();
    let result = told.pop().unwrap();
    assert_eq!(result["trace_id"], order["trace_id"]);
    assert_eq!(result["trace_id"].as_str().unwrap().len(), 32);
    assert_eq!((&result["status"], &result["waits_for"]), (&json!("DELIVERED"), &json!([])));
    assert_eq!(result["events"], told.len());
    let milestones: Vec<&str> =
        told.iter().filter_map(|e| e["type"].as_str()).filter(|kind| SAGA.contains(kind)).collect();
    assert_eq!(milestones, SAGA);
    let versions = |by: &str| -> Vec<i64> {
        told.iter().filter(|e| e["by"] == by).filter_map(|e| e["version"].as_i64()).collect()
    };
    assert_eq!(versions("orders"), (1..=7).collect::<Vec<_>>(), "an event for each version of the order");
    let mail = told.iter().filter(|e| e["type"] == "notification.sent").count();
    assert!(mail >= 4, "the customer was told {mail} times");
    let placed = told.iter().filter(|e| e["trace_id"] == order["trace_id"]).count();
    assert!(placed >= 6, "what follows from placing the order is one trace: {placed}");
}

fn nobody_is_behind(city: &City<'_>) {
    until("every consumer is at its publisher's head", || {
        let lag = city.run(&["events", "lag"]).result();
        let services = lag["services"].as_array().unwrap().clone();
        let pairs: Vec<Value> =
            services.iter().flat_map(|s| s["publishers"].as_object().unwrap().values().cloned()).collect();
        assert!(pairs.len() >= 12, "{lag}");
        pairs.iter().all(|pair| pair["lag"] == 0 && pair["flow"] == "Connected").then_some(())
    });
}

#[test]
fn a_city_keeps_its_orders_over_a_stop_and_lets_no_second_one_in() {
    let data = Data::new();
    let city = data.up(&[]);
    let order = city.order();
    let path = data.path().canonicalize().unwrap().display().to_string();

    let second = city.run(&["up", "--ports", "auto"]).refusal().errors;
    assert!(second.contains(&format!("another city runs in {path}")) && second.contains("--data"), "{second}");
    let stranger = city.run(&["serve", "nosuch"]).refusal().errors;
    assert!(stranger.contains("no place for nosuch"), "{stranger}");
    let unknown = city.run(&["why", "00000000-0000-7000-8000-000000000000"]).refusal().errors;
    assert!(unknown.contains("is it an order of this city?"), "{unknown}");
    city.audit(1);
    city.stop();

    let nobody = data.run(&["ls"]).refusal().errors;
    assert!(nobody.contains("no city runs in") && nobody.contains("foodexpress up --data"), "{nobody}");
    let city = data.up(&[]);
    tells_the_story(&city, &order);
    city.order();
    city.audit(2);
    city.stop();
}

#[test]
fn a_command_that_needs_a_city_brings_its_own() {
    let data = Data::new();
    let order = data.run(&["demo", "order", "--ports", "auto"]).result();
    assert_eq!(order["status"], "DELIVERED");
    data.run(&["ls"]).refusal();
    let steps = data.run(&["migrate"]).result();
    assert_eq!(steps["migrated"].as_array().unwrap().len(), MEMBERS.len() - 2);
}
