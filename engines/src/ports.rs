//! Ports for engines: random, free, and below the range that the system hands out itself.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};

use anyhow::{Result, bail};
use rand::RngExt as _;

/// Below 32768, where Linux begins to hand out ports for outgoing connections; an engine that was killed finds its own
/// port free again.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// `count` ports that nobody listens on now, by TCP or UDP. Somebody may before the engine does: then others are tried.
pub(crate) fn free(count: usize) -> Result<Vec<u16>> {
    let mut found = Vec::with_capacity(count);
    for _ in 0..1000 {
        if found.len() == count {
            return Ok(found);
        }
        let port = rand::rng().random_range(RANGE);
        let address = (Ipv4Addr::LOCALHOST, port);
        if !found.contains(&port) && TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            found.push(port);
        }
    }
    bail!("no {count} free ports between {} and {}", RANGE.start, RANGE.end)
}
