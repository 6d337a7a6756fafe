//! The cases of the bus, which the kernel has, on every bus and store.

use std::sync::Arc;

use kernel::testing::cases::{CASES, Case as Promise, Stage};

use crate::case::Case;
use crate::place::Place;

const ONE_BUS: &[(&str, &str)] = &[
    ("sqlite", "without Kafka there is no second bus to move to"),
    ("postgres", "without Kafka there is no second bus to move to"),
];

pub(crate) fn cases() -> Vec<Case> {
    CASES.iter().map(of).collect()
}

fn of(promise: &'static Promise) -> Case {
    Case {
        name: promise.name,
        shows: promise.shows,
        fault: promise.fault,
        not_on: if promise.name == "bus.move" { ONE_BUS } else { &[] },
        run: Arc::new(move |place| Box::pin(run(promise, place))),
    }
}

async fn run(promise: &'static Promise, place: Place) -> String {
    let postgres = place.postgres().map(str::to_owned);
    let stage = match place.engine.name {
        "sqlite" | "postgres" => Stage::on_stream(postgres, place.seeded),
        _ => Stage::on_kafka(postgres, place.address("FX_TEST_KAFKA"), place.seeded).await,
    };
    let stage = stage.unwrap_or_else(|why| panic!("no stage: {why}"));
    promise.run(&stage).await.unwrap_or_else(|why| panic!("{why}"))
}
