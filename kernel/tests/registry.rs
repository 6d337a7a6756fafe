//! What the documents of registries warn of, each where it can be forced; what all of them promise stands in `conformance`.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::Query;
use axum::response::IntoResponse as _;
use axum::routing::get;
use kernel::clock::Clock;
use kernel::config::Settings as _;
use kernel::http::Signer;
use kernel::http::server::{Limits, serve};
use kernel::registry::{
    Backend as _, Consul, Directory, Dns, Etcd, Instance, Kind, Mark, Own, Registrar, RegistrySettings, Rotation,
};
use kernel::task::Tasks;
use kernel::testing::registry::NameServer;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout};

async fn served(router: axum::Router) -> (String, Tasks) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (url, tasks) = (format!("http://{}", listener.local_addr().unwrap()), Tasks::new());
    let limits = Limits { handler: None, ..Limits::default() };
    tasks.spawn("fake", serve(listener, router, limits, tasks.stopping()));
    (url, tasks)
}

#[derive(Deserialize)]
struct Wait {
    index: u64,
}

/// Consul restored from an older copy: its place goes backwards, and a wait for the old place would last for ever.
#[tokio::test]
async fn a_consul_whose_index_goes_backwards_is_read_anew_and_its_list_held_for_a_time_to_live() {
    let state = Arc::new(Mutex::new((900_u64, vec![7001_u16, 7002])));
    let (shown, asked) = (state.clone(), Arc::new(Mutex::new(Vec::new())));
    let log = asked.clone();
    let page = move |Query(wait): Query<Wait>| async move {
        log.lock().push(wait.index);
        // Waits like Consul does: until the place is beyond the one that was asked for.
        let began = Instant::now();
        while shown.lock().0 == wait.index && began.elapsed() < Duration::from_secs(2) {
            sleep(Duration::from_millis(10)).await;
        }
        let (index, ports) = shown.lock().clone();
        let entry = |port: &u16| json!({"Node": {"Address": "127.0.0.1"}, "Service": {"Address": "", "Port": port}});
        let entries: Vec<_> = ports.iter().map(entry).collect();
        ([("x-consul-index", index.to_string())], Json(entries)).into_response()
    };
    let (url, _fake) = served(axum::Router::new().route("/v1/health/service/{name}", get(page))).await;
    let (directory, tasks) = (Directory::default(), Tasks::new());
    let backend = Arc::new(Consul::new(&url, "fx", None));
    let rotation = Rotation::new(backend, directory.clone(), Duration::from_secs(2));
    rotation.follow(&tasks, ["orders"]);
    let ports = || directory.instances("orders").iter().map(std::net::SocketAddr::port).collect::<Vec<_>>();
    until(|| ports() == [7001, 7002]).await;
    *state.lock() = (5, vec![7001]);
    until(|| asked.lock().contains(&5)).await;
    assert_eq!(ports(), [7001, 7002], "an instance that could not enter itself again yet keeps its place");
    until(|| ports() == [7001]).await;
}

async fn until(so: impl Fn() -> bool) {
    timeout(Duration::from_secs(20), async {
        while !so() {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("it happens");
}

#[tokio::test]
async fn a_consul_that_wants_a_token_or_is_none_says_so_in_words() {
    let denied = get(|| async { (http::StatusCode::FORBIDDEN, "Permission denied: token lacks service:read") });
    let (url, _fake) = served(axum::Router::new().route("/v1/health/service/{name}", denied)).await;
    let said = Consul::new(&url, "fx", None).watch("orders", Mark::default()).await.unwrap_err().to_string();
    assert!(said.contains("403") && said.contains("token lacks") && said.contains(&url), "{said}");
    let (url, _fake) = served(axum::Router::new()).await;
    let said = Consul::new(&url, "fx", None).watch("orders", Mark::default()).await.unwrap_err().to_string();
    assert!(said.contains("is this Consul?"), "{said}");
    let said = Etcd::new(&url, "fx").watch("orders", Mark::default()).await.unwrap_err().to_string();
    assert!(said.contains("404") && said.contains("registry.url"), "{said}");
}

#[tokio::test]
async fn the_registrar_answers_only_holders_of_the_citys_secret() {
    let (signer, clock) = (Signer::new(b"the city's"), Clock::system());
    let (url, _served) = served(Registrar::new().router(signer.clone(), clock.clone())).await;
    let at = url.trim_start_matches("http://").parse().unwrap();
    let who = Instance::new("orders", ([127, 0, 0, 1], 7001).into());
    let stranger = Own::new(at, Signer::new(b"a guess"), clock.clone());
    let said = stranger.announce(&who, Duration::from_secs(5)).await.unwrap_err().to_string();
    assert!(said.contains("401"), "{said}");
    assert!(
        reqwest::get(format!("{url}/registry/v1/orders?origin=0&index=0&wait_ms=0")).await.unwrap().status() == 401
    );
    let member = Own::new(at, signer, clock);
    member.announce(&who, Duration::from_secs(5)).await.unwrap();
    assert_eq!(member.watch("orders", Mark::default()).await.unwrap().instances, [who.address]);
}

#[tokio::test]
async fn a_list_too_long_for_one_packet_comes_whole_by_tcp() {
    let server = NameServer::start().await;
    let addresses: Vec<_> = (7001..7061).map(|port| ([127, 0, 0, 1], port).into()).collect();
    addresses.iter().for_each(|at| server.enter(&Instance::new("orders", *at)));
    let dns = Dns::new(&server.settings()).unwrap();
    assert_eq!(dns.watch("orders", Mark::default()).await.unwrap().instances, addresses);
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_an_empty_list_and_a_server_that_fails_is_trouble() {
    let server = NameServer::start().await;
    let dns = Dns::new(&server.settings()).unwrap();
    assert!(dns.watch("orders", Mark::default()).await.unwrap().instances.is_empty());
    server.break_down(true);
    let said = dns.watch("orders", Mark::default()).await.unwrap_err().to_string();
    assert!(said.contains("_http._tcp.orders.city.test.") && said.contains("registry.dns_server"), "{said}");
}

#[tokio::test]
async fn bare_addresses_get_the_port_of_the_settings() {
    let server = NameServer::start().await;
    let settings =
        RegistrySettings { dns_name: "bare.{service}.".to_owned(), dns_port: Some(8086), ..server.settings() };
    let seen = Dns::new(&settings).unwrap().watch("orders", Mark::default()).await.unwrap();
    assert_eq!(seen.instances, [([127, 0, 0, 1], 8086).into()]);
}

#[test]
fn settings_that_no_backend_can_work_with_are_refused_by_name() {
    let refused = |spoil: fn(&mut RegistrySettings)| {
        let mut settings = RegistrySettings::default();
        spoil(&mut settings);
        settings.check().unwrap_err()
    };
    assert!(refused(|s| s.ttl_ms = 1_000).contains("registry.ttl_ms"));
    assert!(refused(|s| (s.kind, s.url) = (Kind::Consul, "https://consul:8501".into())).contains("registry.url"));
    assert!(refused(|s| (s.kind, s.dns_name) = (Kind::Dns, "orders.svc.".into())).contains("registry.dns_name"));
}
