//! Connections that are cut at the worst moment, by a proxy between the store and the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use kernel::store::{Engine, Server, StoreError, Tx, WriteError};
use kernel::testing::proxy::Proxy;
use tokio::net::TcpListener;

use crate::world::{On, SERVERS, World, changed, note, notes, on_engines, outbox_count, write_note};

/// The world's engine with the proxy in front of it.
async fn behind_proxy(world: &World) -> (Proxy, Engine) {
    let server = world.server().clone();
    let (start, rest) = server.url.rsplit_once('@').unwrap();
    let (place, path) = rest.split_once('/').unwrap();
    let proxy = Proxy::to(place.to_owned()).await;
    let url = format!("{start}@{}/{path}", proxy.address);
    (proxy, Engine::Postgres(Server { url, ..server }))
}

#[test]
fn a_lost_answer_to_commit_is_told_as_unknown_and_the_unit_does_not_run_again() {
    on_engines(SERVERS, async |world| {
        let (proxy, engine) = behind_proxy(world).await;
        let mut options = world.options();
        options.engine = engine;
        let store = world.open_with(options).await;
        write_note(&store, 1).await.unwrap();
        proxy.cut_after_commit();
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
        if let Engine::Postgres(server) = &mut options.engine {
            server.url.push_str(&format!("?application_name={}", server.schema));
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
        if let Engine::Postgres(server) = &mut engine {
            // A port that was free a moment ago and that nobody listens on.
            let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
            server.url = server.url.replace(&proxy.address.to_string(), &free.to_string());
        }
        options.engine = engine;
        let end = kernel::store::Store::open(options, crate::world::STEPS).await;
        assert!(matches!(end.err(), Some(StoreError::Lost(_))));
    });
}
