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

/// The gateway's usual port; each service declares its own beside it.
const USUAL: u16 = 8080;

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

impl Ports {
    /// An address for each member of the city.
    pub(crate) fn addresses(self) -> Result<BTreeMap<String, SocketAddr>> {
        let usual: Vec<(String, u16)> = services::manifests()
            .iter()
            .map(|m| (m.name.to_owned(), m.port))
            .chain([(GATEWAY.to_owned(), USUAL), (CARD_NETWORK.to_owned(), USUAL + 19)])
            .collect();
        let mut taken = BTreeMap::new();
        for (name, usual) in usual {
            let port = match self {
                Self::Base(base) => base.checked_add(usual - USUAL).context("the ports would go beyond 65535")?,
                Self::Auto => free_port(&taken)?,
            };
            taken.insert(name, SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        }
        Ok(taken)
    }
}

/// A port below the range from which the system takes ports of outgoing connections, so that a member that was killed
/// finds its own port free again.
fn free_port(taken: &BTreeMap<String, SocketAddr>) -> Result<u16> {
    for _ in 0..1000 {
        let port = rand::rng().random_range(10_000..30_000_u16);
        let ours = taken.values().any(|a| a.port() == port);
        if !ours && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no free port between 10000 and 30000")
}
