//! The process killed with -9 in the middle of load: what it acknowledged is there, and nothing is there twice.
use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::harness::{Merchant, VISA};

const CLIENTS: usize = 8;
const KILLS: usize = 5;
/// Captures acknowledged in each round before the kill.
const ROUND: usize = 40;

/// A network as a process of its own; killed when dropped.
struct Process {
    child: Child,
    merchant: Merchant,
}

impl Process {
    fn start(dir: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_card-network"))
            .args(["--data", dir.to_str().unwrap()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let listening: Value = serde_json::from_str(&line).unwrap();
        let addr = listening["listening"].as_str().unwrap().parse().unwrap();
        let api_key = std::fs::read_to_string(dir.join("api-key")).unwrap();
        Self { child, merchant: Merchant::new(addr, &api_key) }
    }

    fn kill_9(self) {
        drop(self);
    }
}

impl Drop for Process {
    /// Also when a check fails: a process left behind would hold whatever it inherited.
    fn drop(&mut self) {
        self.child.kill().expect("a child can be killed by its parent");
        self.child.wait().expect("a killed child ends");
    }
}

/// What a client wants to happen to one order, and what it was told so far.
struct Order {
    reference: String,
    token: String,
    capture: Option<Value>,
}

/// Both calls of an order with their fixed keys; an error means the answer was lost.
async fn charge(merchant: &Merchant, order: &Order) -> reqwest::Result<Value> {
    let body = json!({ "reference": order.reference, "token": order.token, "amount_minor": 1500, "currency": "EUR" });
    let held = merchant.try_post("/v1/authorizations", &format!("{}:authorise", order.reference), body).await?;
    assert_eq!(held.status, 200, "{held:?}");
    let path = format!("/v1/authorizations/{}/capture", held.text("id"));
    let key = format!("{}:capture", order.reference);
    let taken = merchant.try_post(&path, &key, json!({ "amount_minor": 1500 })).await?;
    assert_eq!(taken.status, 200, "{taken:?}");
    Ok(taken.body)
}

/// Charges order after order until the network is gone; the last one may be left without an answer.
async fn client(merchant: Merchant, name: String, token: String, done: mpsc::UnboundedSender<Order>) -> Order {
    for number in 0_u32.. {
        let mut order = Order { reference: format!("{name}-{number}"), token: token.clone(), capture: None };
        match charge(&merchant, &order).await {
            Ok(capture) => {
                order.capture = Some(capture);
                done.send(order).unwrap();
            }
            Err(_) => return order,
        }
    }
    unreachable!("a client charges until the network is killed")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_in_the_middle_of_load_loses_and_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut orders: Vec<Order> = Vec::new();
    for round in 0..KILLS {
        let network = Process::start(dir.path());
        let token = network.merchant.token(VISA).await;
        let (done, mut acknowledged) = mpsc::unbounded_channel();
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let name = format!("round-{round}-client-{number}");
            clients.spawn(client(network.merchant.clone(), name, token.clone(), done.clone()));
        }
        drop(done);
        for _ in 0..ROUND {
            orders.push(acknowledged.recv().await.unwrap());
        }
        network.kill_9();
        orders.extend(clients.join_all().await);
        while let Some(order) = acknowledged.recv().await {
            orders.push(order);
        }
    }
    let network = Process::start(dir.path());
    for order in &orders {
        let told = charge(&network.merchant, order).await.unwrap();
        assert!(order.capture.as_ref().is_none_or(|before| *before == told), "{}", order.reference);
    }
    let mut captures: HashMap<String, u32> = HashMap::new();
    for row in network.merchant.books().await {
        if row["kind"] == "capture" {
            *captures.entry(row["reference"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    assert_eq!(captures.len(), orders.len());
    assert!(orders.iter().all(|order| captures[&order.reference] == 1));
    assert!(orders.len() >= KILLS * (ROUND + CLIENTS));
    let summary = network.merchant.get("/v1/books/summary").await.body;
    assert_eq!((&summary["captures_per_reference_max"], &summary["balanced"]), (&json!(1), &json!(true)));
    assert_eq!(summary["open_authorizations"], 0);
    network.kill_9();
}

#[tokio::test]
async fn a_second_process_on_the_same_books_refuses_to_start() {
    let dir = tempfile::tempdir().unwrap();
    let network = Process::start(dir.path());
    assert!(!network.merchant.token(VISA).await.is_empty());
    let second = Command::new(env!("CARGO_BIN_EXE_card-network"))
        .args(["--data", dir.path().to_str().unwrap()])
        .output()
        .unwrap();
    assert!(!second.status.success() && second.stdout.is_empty());
    network.kill_9();
}
