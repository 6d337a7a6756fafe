//! Connections that are cut at the worst moment, by a proxy between the store and the server.

use kernel::store::{Away, Engine, StoreError};
use tokio::net::TcpListener;

use crate::world::{On, SERVERS, notes, on_engines, write_note};

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
        let (proxy, mut engine) = world.behind_proxy().await;
        let mut options = world.options();
        if let Engine::Postgres(server) = &mut engine {
            // A port that was free a moment ago and that nobody listens on.
            let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
            server.url = server.url.replace(&proxy.address.to_string(), &free.to_string());
        }
        options.engine = engine;
        let end = kernel::store::Store::open(options, crate::world::STEPS).await;
        let refused = end.err().unwrap();
        assert!(
            matches!(&refused, StoreError::Lost(Away::Gone(why)) if why.starts_with("postgres.url: ")),
            "{refused}"
        );
    });
}
