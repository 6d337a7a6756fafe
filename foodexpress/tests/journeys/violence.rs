//! `chaos`: a small run of the kill harness ends with books that agree, and those books are still looked at closely.

use std::time::Duration;

use crate::program::{Data, run_within, slow};

/// Orders end by their deadlines, the longest of which is a minute, and the harness waits for all of them.
const PATIENCE: Duration = Duration::from_secs(400);

#[test]
fn a_city_under_kill_9_loses_and_doubles_nothing() {
    if !slow() {
        return;
    }
    let data = Data::new();
    let path = data.path();
    let args = ["chaos", "--orders", "60", "--kills", "12", "--seed", "3", "--data", path.to_str().unwrap()];
    let outcome = run_within(PATIENCE, &args).result();
    println!("{outcome}");
    assert_eq!((&outcome["seed"], &outcome["refused"]), (&3.into(), &0.into()), "{outcome}");
    assert!(outcome["kills"].as_u64().unwrap() >= 12, "{outcome}");
    assert_eq!(outcome["orders_acknowledged"], 60, "{outcome}");

    let again = data.run(&["chaos"]).refusal().errors;
    assert!(again.contains("already holds a city"), "{again}");
    let city = data.up(&[]);
    city.audit(60);
    city.stop();
    let lost = "DELETE FROM orders WHERE id = (SELECT id FROM orders WHERE status = 'DELIVERED' LIMIT 1)";
    assert_eq!(data.tamper("orders", lost), 1);
    let city = data.up(&[]);
    assert_eq!(city.fails_audit()["lost"], 1);
    city.stop();
}
