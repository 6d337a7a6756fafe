//! A small authoritative name server, for what a platform's DNS does with a headless service.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::registry::{Instance, Kind, RegistrySettings};
use crate::task::Tasks;

/// The largest answer by UDP; source: RFC 1035, 4.2.1.
const LARGEST: usize = 512;

#[derive(Debug, Default)]
struct Zone {
    /// Ports by service; all instances are on this machine.
    services: BTreeMap<String, BTreeSet<u16>>,
    silent: bool,
    broken: bool,
}

/// A name server for `_http._tcp.SERVICE.city.test.` and the targets of its records.
#[derive(Debug)]
pub struct NameServer {
    /// Where it listens, by UDP and TCP.
    pub address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    _tasks: Tasks,
}

impl NameServer {
    /// A server of an empty zone.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start() -> Self {
        let (udp, tcp) = same_port().await;
        let address = tcp.local_addr().expect("a bound port has an address");
        let (zone, tasks) = (Arc::new(Mutex::new(Zone::default())), Tasks::new());
        let (state, owner) = (zone.clone(), tasks.clone());
        tasks.spawn("dns by udp", by_udp(udp, zone.clone()));
        tasks.spawn("dns by tcp", async move {
            loop {
                let Ok((stream, _)) = tcp.accept().await else { continue };
                drop(owner.short("dns connection", by_tcp(stream, state.clone())));
            }
        });
        Self { address, zone, _tasks: tasks }
    }

    /// Settings of a registry that reads it.
    pub fn settings(&self) -> RegistrySettings {
        RegistrySettings {
            kind: Kind::Dns,
            dns_name: "_http._tcp.{service}.city.test.".to_owned(),
            dns_server: Some(self.address),
            dns_every_ms: 100,
            ..RegistrySettings::default()
        }
    }

    /// Enters an instance.
    pub fn enter(&self, who: &Instance) {
        self.zone.lock().services.entry(who.service.clone()).or_default().insert(who.address.port());
    }

    /// Takes it out.
    pub fn remove(&self, who: &Instance) {
        if let Some(ports) = self.zone.lock().services.get_mut(&who.service) {
            ports.remove(&who.address.port());
        }
    }

    /// Answers nothing any more, or answers again.
    pub fn silence(&self, silent: bool) {
        self.zone.lock().silent = silent;
    }

    /// Says that it cannot answer, or answers again.
    pub fn break_down(&self, broken: bool) {
        self.zone.lock().broken = broken;
    }
}

async fn same_port() -> (UdpSocket, TcpListener) {
    for _ in 0..100 {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = udp.local_addr().expect("a bound port has an address");
        if let Ok(tcp) = TcpListener::bind(port).await {
            return (udp, tcp);
        }
    }
    panic!("no port is free for both UDP and TCP");
}

async fn by_udp(socket: UdpSocket, zone: Arc<Mutex<Zone>>) {
    let mut packet = [0; 2048];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut packet).await else { continue };
        let Some(answer) = zone.lock().answer(&packet[..length]) else { continue };
        let whole = answer.to_vec().expect("our own records can be written");
        let sent = if whole.len() > LARGEST { cut_short(&answer) } else { whole };
        // Whoever asked may be gone.
        drop(socket.send_to(&sent, from).await);
    }
}

fn cut_short(answer: &Message) -> Vec<u8> {
    let mut short = answer.clone();
    short.answers.clear();
    short.metadata.truncation = true;
    short.to_vec().expect("our own records can be written")
}

async fn by_tcp(mut stream: TcpStream, zone: Arc<Mutex<Zone>>) {
    while let Ok(length) = stream.read_u16().await {
        let mut packet = vec![0; usize::from(length)];
        if stream.read_exact(&mut packet).await.is_err() {
            return;
        }
        let Some(answer) = zone.lock().answer(&packet) else { return };
        let whole = answer.to_vec().expect("our own records can be written");
        let length = u16::try_from(whole.len()).expect("a zone of a test is small");
        if stream.write_u16(length).await.is_err() || stream.write_all(&whole).await.is_err() {
            return;
        }
    }
}

impl Zone {
    fn answer(&self, packet: &[u8]) -> Option<Message> {
        let question = Message::from_vec(packet).ok().filter(|_| !self.silent)?;
        let query = question.queries.first()?.clone();
        let mut answer = Message::response(question.metadata.id, OpCode::Query);
        answer.metadata.authoritative = true;
        answer.metadata.recursion_desired = question.metadata.recursion_desired;
        let name = query.name().to_string().to_lowercase();
        if self.broken {
            answer.metadata.response_code = ResponseCode::ServFail;
        } else {
            match self.records(&name, query.query_type()) {
                Some(records) => {
                    let owner = query.name().clone();
                    answer.add_answers(records.into_iter().map(|data| Record::from_rdata(owner.clone(), 1, data)));
                }
                None => answer.metadata.response_code = ResponseCode::NXDomain,
            }
        }
        answer.add_query(query);
        Some(answer)
    }

    /// The records of a name and type; none if there is no such name.
    fn records(&self, name: &str, kind: RecordType) -> Option<Vec<RData>> {
        if let Some(service) = name.strip_prefix("_http._tcp.").and_then(|rest| rest.strip_suffix(".city.test.")) {
            let ports = self.services.get(service).filter(|ports| !ports.is_empty())?;
            let place = |port: &u16| {
                let target =
                    format!("pod-{port}.{service}.city.test.").parse::<Name>().expect("made from plain letters");
                RData::SRV(SRV::new(0, 10, *port, target))
            };
            return Some(if kind == RecordType::SRV { ports.iter().map(place).collect() } else { Vec::new() });
        }
        let pod = name.starts_with("pod-") || name.starts_with("bare.");
        let here = || vec![RData::A(A(Ipv4Addr::LOCALHOST))];
        pod.then(|| if kind == RecordType::A { here() } else { Vec::new() })
    }
}
