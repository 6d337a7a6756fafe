//! The ways between members and to their engines, each over a relay of ours that can be cut for one caller or for all.
//!
//! A cut holds back what is sent, in both directions, and lets it through when it heals, as a network does that loses
//! packets for a while: neither side is told.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use kernel::task::Tasks;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::city::{GATEWAY, Given, Seats};

/// The settings that lead to engines, by the name that the link has. Brokers of Kafka tell their own addresses.
const ENGINES: [(&str, &str); 4] =
    [("postgres", "postgres.url"), ("redis", "redis.url"), ("consul", "registry.url"), ("jaeger", "traces.endpoint")];
/// Longer than a request waits, shorter than a lease lives.
const CUT: Duration = Duration::from_secs(4);

/// For whom a link is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// For nobody.
    Whole,
    /// For what this process sends and is sent.
    For(u32),
}

/// Every link of a city that can be cut, by what it leads to.
#[derive(Default)]
pub(crate) struct Links {
    by_end: BTreeMap<String, watch::Sender<Cut>>,
    tasks: Tasks,
}

impl Links {
    /// Puts a relay before every engine that the settings lead to, and before every member that others call.
    pub(crate) async fn before(given: &mut Given, seats: &mut Seats) -> Result<Self> {
        let mut links = Self::default();
        for (end, setting) in ENGINES {
            let Some((_, url)) = given.city.iter_mut().find(|(name, _)| name == setting) else { continue };
            let (before, address, after) = parted(url).with_context(|| format!("{setting} names no address"))?;
            let relay = links.relay(end, address.parse()?).await?;
            *url = format!("{before}{relay}{after}");
        }
        for (name, seat) in seats.iter_mut().filter(|(_, seat)| seat.service != GATEWAY) {
            seat.announced = links.relay(name, seat.address).await?;
        }
        Ok(links)
    }

    async fn relay(&mut self, end: &str, to: SocketAddr) -> Result<SocketAddr> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no port is free for a relay")?;
        let address = listener.local_addr()?;
        let (cut, cuts) = watch::channel(Cut::Whole);
        self.by_end.insert(end.to_owned(), cut);
        let stop = self.tasks.stopping();
        self.tasks.spawn("relay", accept(listener, to, cuts, stop));
        Ok(address)
    }

    /// Holds the link from this process to this end back for a while; false if there is no such link.
    pub(super) async fn cut(&self, caller: u32, end: &str) -> bool {
        let Some(link) = self.by_end.get(end) else { return false };
        link.send_replace(Cut::For(caller));
        tokio::time::sleep(CUT).await;
        link.send_replace(Cut::Whole);
        true
    }
}

/// What stands before, in and after the address of a URL.
fn parted(url: &str) -> Option<(&str, &str, &str)> {
    let start = url.find("://")? + 3;
    let end = url[start..].find('/').map_or(url.len(), |at| start + at);
    Some((&url[..start], &url[start..end], &url[end..]))
}

async fn accept(listener: TcpListener, to: SocketAddr, cuts: watch::Receiver<Cut>, stop: CancellationToken) {
    let carried = tokio_util::task::TaskTracker::new();
    while let Some(Ok((inner, peer))) = stop.run_until_cancelled(listener.accept()).await {
        let (cuts, stop) = (cuts.clone(), stop.clone());
        drop(carried.spawn(async move { stop.run_until_cancelled(carry(inner, peer, to, cuts)).await }));
    }
}

async fn carry(inner: TcpStream, peer: SocketAddr, to: SocketAddr, cuts: watch::Receiver<Cut>) {
    // Nobody there: the caller finds its connection closed, as if nobody had listened.
    let Ok(outer) = TcpStream::connect(to).await else { return };
    if inner.set_nodelay(true).and(outer.set_nodelay(true)).is_err() {
        return;
    }
    let caller = Arc::new(tokio::sync::OnceCell::new());
    let ((from_caller, to_caller), (from_end, to_end)) = (inner.into_split(), outer.into_split());
    let there = pump(from_caller, to_end, peer, caller.clone(), cuts.clone());
    let back = pump(from_end, to_caller, peer, caller, cuts);
    tokio::join!(there, back);
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    peer: SocketAddr,
    caller: Arc<tokio::sync::OnceCell<Option<u32>>>,
    mut cuts: watch::Receiver<Cut>,
) {
    let mut buffer = vec![0; 32 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        loop {
            let cut = *cuts.borrow_and_update();
            let Cut::For(pid) = cut else { break };
            // Looked up only when it matters: it takes a walk through everybody's files.
            if *caller.get_or_init(async || owner(peer)).await != Some(pid) || cuts.changed().await.is_err() {
                break;
            }
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    // The other direction may go on; an end that is gone already needs no goodbye.
    drop(to.shutdown().await);
}

/// The process whose end of a connection this is; source: proc(5), `net/tcp` and `fd`.
fn owner(address: SocketAddr) -> Option<u32> {
    let port = format!(":{:04X}", address.port());
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let fields = |line: &str| line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let row = table.lines().map(fields).find(|row| row.get(1).is_some_and(|local| local.ends_with(&port)))?;
    let wanted = format!("socket:[{}]", row.get(9)?);
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let files = fs::read_dir(entry.path().join("fd")).ok()?;
        let is_its = |file: fs::DirEntry| fs::read_link(file.path()).is_ok_and(|to| to.to_string_lossy() == wanted);
        files.flatten().any(is_its).then_some(pid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A relay to somebody who says everything back, and a connection over it.
    async fn echo() -> (Links, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (mut links, to) = (Links::default(), listener.local_addr().unwrap());
        let relay = links.relay("echo", to).await.unwrap();
        links.tasks.spawn("echo", async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut from, mut back) = stream.split();
            tokio::io::copy(&mut from, &mut back).await.unwrap();
        });
        (links, TcpStream::connect(relay).await.unwrap())
    }

    async fn heard(stream: &mut TcpStream) -> Option<u8> {
        stream.write_all(&[7]).await.unwrap();
        tokio::time::timeout(Duration::from_millis(300), stream.read_u8()).await.ok().map(Result::unwrap)
    }

    #[tokio::test]
    async fn a_cut_holds_back_one_caller_and_lets_all_through_when_it_heals() {
        let (links, mut stream) = echo().await;
        assert_eq!(heard(&mut stream).await, Some(7));
        let link = &links.by_end["echo"];
        link.send_replace(Cut::For(std::process::id()));
        assert_eq!(heard(&mut stream).await, None, "this process is cut off");
        link.send_replace(Cut::Whole);
        assert_eq!(stream.read_u8().await.unwrap(), 7, "what was held back arrives");
        link.send_replace(Cut::For(1));
        assert_eq!(heard(&mut stream).await, Some(7), "another's cut is not ours");
        assert!(!links.cut(1, "nowhere").await);
    }

    #[test]
    fn an_address_is_found_inside_its_url() {
        assert_eq!(parted("postgres://127.0.0.1:5/db?a=b"), Some(("postgres://", "127.0.0.1:5", "/db?a=b")));
        assert_eq!(parted("redis://127.0.0.1:6"), Some(("redis://", "127.0.0.1:6", "")));
        assert_eq!(parted("nowhere"), None);
    }
}
