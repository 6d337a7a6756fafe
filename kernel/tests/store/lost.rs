//! Connections that are cut at the worst moment, by a proxy between the store and the server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use kernel::store::{Engine, StoreError, Tx, WriteError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::world::{On, SERVERS, World, changed, note, notes, on_engines, outbox_count, spawn, write_note};

/// Forwards connections; once armed, it lets COMMIT through but cuts the client off instead of giving it the answer.
struct Proxy {
    address: SocketAddr,
    armed: Arc<AtomicBool>,
}

impl Proxy {
    async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, armed) = (listener.local_addr().unwrap(), Arc::new(AtomicBool::new(false)));
        let cuts = armed.clone();
        spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let upstream = TcpStream::connect(&server).await.unwrap();
                spawn(forward(client, upstream, cuts.clone()));
            }
        });
        Self { address, armed }
    }
}

async fn forward(mut client: TcpStream, mut server: TcpStream, armed: Arc<AtomicBool>) {
    let (mut up, mut down) = ([0; 16_384], [0; 16_384]);
    let mut cut = false;
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(length @ 1..) = read else { return };
                cut |= up[..length].windows(6).any(|w| w == b"COMMIT") && armed.swap(false, Ordering::SeqCst);
                server.write_all(&up[..length]).await.unwrap();
            }
            read = server.read(&mut down) => {
                let Ok(length @ 1..) = read else { return };
                // The server has answered, so the commit has happened; the client never hears of it.
                if cut {
                    return;
                }
                client.write_all(&down[..length]).await.unwrap();
            }
        }
    }
}

/// The world's engine with the proxy in front of it.
async fn behind_proxy(world: &World) -> (Proxy, Engine) {
    let Engine::Postgres { url, direct_url, schema, direct } = world.engine.clone() else { panic!("not a server") };
    let (start, rest) = url.rsplit_once('@').unwrap();
    let (server, path) = rest.split_once('/').unwrap();
    let proxy = Proxy::to(server.to_owned()).await;
    let url = format!("{start}@{}/{path}", proxy.address);
    (proxy, Engine::Postgres { url, direct_url, schema, direct })
}

#[test]
fn a_lost_answer_to_commit_is_told_as_unknown_and_the_unit_does_not_run_again() {
    on_engines(SERVERS, async |world| {
        let (proxy, engine) = behind_proxy(world).await;
        let mut options = world.options();
        options.engine = engine;
        let store = world.open_with(options).await;
        write_note(&store, 1).await.unwrap();
        proxy.armed.store(true, Ordering::SeqCst);
        let runs = Arc::new(AtomicU32::new(0));
        let counted = runs.clone();
        let end = store
            .write(move |tx: Tx| {
                counted.fetch_add(1, Ordering::SeqCst);
                async move {
                    tx.insert(&note(2)).await?;
                    tx.emit(changed(kernel::ids::fresh(), 1))
                }
            })
            .await;
        assert!(matches!(end, Err(WriteError::Unknown)), "{end:?}");
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        // The commit had reached the server, and the store goes on with another connection.
        write_note(&store, 3).await.unwrap();
        assert_eq!((notes(&store).await, outbox_count(&store).await), (vec![1, 2, 3], 1));
    });
}

#[test]
fn a_store_finds_its_way_back_when_every_idle_connection_has_been_cut() {
    on_engines(&[On::Postgres], async |world| {
        let mut options = world.options();
        if let Engine::Postgres { url, schema, .. } = &mut options.engine {
            url.push_str(&format!("?application_name={schema}"));
        }
        let store = world.open_with(options).await;
        let all = futures::future::join_all((1..=8).map(|id| write_note(&store, id))).await;
        all.into_iter().for_each(Result::unwrap);
        let cut = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE application_name = $1";
        let cut: i64 = world.admin().await.query_one(cut, &[&world.schema()]).await.unwrap().get(0);
        assert!(cut > 1, "{cut} connections were there to cut");
        write_note(&store, 9).await.unwrap();
        assert_eq!(notes(&store).await, (1..=9).collect::<Vec<_>>());
    });
}

#[test]
fn a_server_that_cannot_be_reached_is_an_error_in_bounded_time() {
    on_engines(SERVERS, async |world| {
        let (proxy, mut engine) = behind_proxy(world).await;
        let mut options = world.options();
        if let Engine::Postgres { url, .. } = &mut engine {
            // A port that was free a moment ago and that nobody listens on.
            let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
            *url = url.replace(&proxy.address.to_string(), &free.to_string());
        }
        options.engine = engine;
        let end = kernel::store::Store::open(options, crate::world::STEPS).await;
        assert!(matches!(end.err(), Some(StoreError::Lost(_))));
    });
}
