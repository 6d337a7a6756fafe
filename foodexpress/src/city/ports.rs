//! Which ports a city takes.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::str::FromStr;

use anyhow::{Context as _, Result};
use rand::RngExt as _;

use super::{CARD_NETWORK, GATEWAY};
use crate::services;

/// `auto`, or the port of the gateway from which the others follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ports {
    /// Free ones.
    Auto,
    /// The gateway's; each service keeps its distance from it.
    Base(u16),
}

/// Where a member is to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    /// What it is an instance of.
    pub service: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where others find it: the same, unless something stands between.
    pub announced: SocketAddr,
}

/// The seats of a city by the member's name.
pub(crate) type Seats = BTreeMap<String, Seat>;

/// The gateway's usual port; each service declares its own beside it.
const USUAL: u16 = 8080;
/// From the ports of the first instances to those of the second; there is one card network.
const APART: u16 = 20;

impl FromStr for Ports {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            number => {
                number.parse().map(Self::Base).map_err(|_| format!("{number} is neither `auto` nor a port number"))
            }
        }
    }
}

/// The name of the `number`th instance of a service, from 1.
fn instance(service: &str, number: u16) -> String {
    if number == 1 { service.to_owned() } else { format!("{service}-{number}") }
}

impl Ports {
    /// A seat for each member of a city with so many instances of each service and of the gateway.
    pub(crate) fn seats(self, instances: u16) -> Result<Seats> {
        let services = services::manifests().into_iter().map(|m| (m.name.to_owned(), m.port));
        let doubled: Vec<_> = services.chain([(GATEWAY.to_owned(), USUAL)]).collect();
        let mut wanted = vec![(CARD_NETWORK.to_owned(), 1, USUAL + 19)];
        for number in 1..=instances.max(1) {
            let place = |port: &u16| port.saturating_add(APART.saturating_mul(number - 1));
            wanted.extend(doubled.iter().map(|(name, port)| (name.clone(), number, place(port))));
        }
        let mut seats = Seats::new();
        for (service, number, usual) in wanted {
            let port = match self {
                Self::Base(base) => base.checked_add(usual - USUAL).context("the ports would go beyond 65535")?,
                Self::Auto => free_port(&seats)?,
            };
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            seats.insert(instance(&service, number), Seat { service, address, announced: address });
        }
        Ok(seats)
    }
}

/// A port below the range from which the system takes ports of outgoing connections, so that a member that was killed
/// finds its own port free again.
fn free_port(taken: &Seats) -> Result<u16> {
    for _ in 0..1000 {
        let port = rand::rng().random_range(10_000..30_000_u16);
        let ours = taken.values().any(|seat| seat.address.port() == port);
        if !ours && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no free port between 10000 and 30000")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instance_has_a_port_of_its_own_and_the_first_has_the_usual_one() {
        let seats = Ports::Base(8080).seats(3).unwrap();
        let mut ports: Vec<u16> = seats.values().map(|seat| seat.address.port()).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), seats.len());
        assert_eq!(seats[GATEWAY].address.port(), 8080);
        assert_eq!((seats["orders-3"].service.as_str(), seats.contains_key("card-network-2")), ("orders", false));
        assert_eq!(Ports::Base(8080).seats(1).unwrap().len() + 16, seats.len());
    }
}
