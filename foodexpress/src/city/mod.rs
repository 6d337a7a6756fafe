//! A city: one data folder, one list of addresses, its services in this process or one process each.

mod launch;
mod map;
mod ports;
mod process;
mod rotation;
mod supervise;
mod targets;

pub(crate) use launch::{City, TITLE, serve};
pub(crate) use map::{CityMap, DataFolder, Given, Member};
pub(crate) use ports::{Ports, Seat, Seats};
pub(crate) use process::{cpu_micros, is_alive, memory_kib};
pub(crate) use rotation::until_listed;
pub(crate) use supervise::Supervised;
pub(crate) use targets::targets;

/// Names of the members that are not services of the list.
pub(crate) const GATEWAY: &str = "gateway";
/// The payment provider that stands in for a real one.
pub(crate) const CARD_NETWORK: &str = "card-network";

/// How a city is to run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Where it keeps everything.
    pub data: DataFolder,
    /// Which addresses it takes.
    pub ports: Ports,
    /// Instances of each service and of the gateway.
    pub instances: u16,
    /// Where its members listen, if somebody has chosen; then ports and instances say nothing.
    pub seats: Option<Seats>,
    /// What it is given below and above its settings file.
    pub given: Given,
    /// Seed of the card network's faults.
    pub seed: u64,
}
