//! What others may ask a running service: what it counted, and whether it can take work.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};

use crate::events::{self, BusHealth, Flow};
use crate::health::Health;
use crate::http::assertion::SKEW;
use crate::store::Store;
use crate::telemetry::{BusMeasures, Metrics};

/// `/metrics`.
pub(super) fn metrics_page(all: &Metrics) -> Router {
    let all = all.clone();
    let page = move |headers: HeaderMap| {
        let all = all.clone();
        async move {
            let (kind, text) = all.page(headers.get(ACCEPT).and_then(|value| value.to_str().ok())).await;
            ([(CONTENT_TYPE, kind)], text)
        }
    };
    Router::new().route("/metrics", get(page))
}

/// How far behind the bus is; looked up when somebody reads it, so that counting costs the bus nothing.
pub(super) fn add_figures(name: &'static str, all: &Metrics, store: &Store, bus: &BusHealth) {
    let (measures, store, bus) = (BusMeasures::new(all), store.clone(), bus.clone());
    all.ask_when_read(move || {
        let (measures, store, bus) = (measures.clone(), store.clone(), bus.clone());
        async move {
            for (publisher, stands) in bus.publishers() {
                // The stream's own series stays at what it has, nothing, while partitions are read.
                let streamed = if stands.partitions.is_empty() { stands.lag() } else { 0 };
                measures.lag(name, publisher, streamed);
                for ((topic, part), partition) in &stands.partitions {
                    measures.lag_in(name, publisher, (topic, *part), partition.lag());
                }
                measures.refused(publisher, matches!(stands.flow, Flow::Refused(_)));
            }
            let (db, now) = (store.read(), store.clock().now());
            // A database that does not answer is told by readiness; these figures stay as they were.
            if let Ok(parked) = events::parked_count(&db).await {
                let heard = bus.publishers();
                let none = heard.keys().map(|publisher| ((*publisher).to_owned(), 0));
                for (publisher, count) in none.chain(parked).collect::<BTreeMap<_, _>>() {
                    measures.parked(&publisher, count);
                }
            }
            if let Ok(waiting) = events::outbox_waiting(&db).await {
                measures.waiting(waiting.events, waiting.since.map(|since| now.since(since)));
            }
        }
    });
}

/// How far this machine's clock may be from the database's: what calls between services allow.
const APART: Duration = Duration::from_secs(SKEW.unsigned_abs());

/// What the service needs to take work: its database with room to write and the same time, and publishers that do not
/// turn it away.
pub(super) fn add_checks(health: &Health, store: &Store, bus: &BusHealth) {
    let own = store.clone();
    health.check_by_asking("disk", move || {
        let own = own.clone();
        async move { own.room().await.map(|()| "has room".to_owned()) }
    });
    let own = store.clone();
    health.check_by_asking("clock", move || {
        let own = own.clone();
        async move { same_time(&own).await }
    });
    let own = store.clone();
    health.check_by_asking("database", move || {
        let own = own.clone();
        async move {
            let head = events::outbox_head(&own.read()).await.map_err(|error| error.to_string())?;
            Ok(format!("answers; {head} events published"))
        }
    });
    let (own, bus) = (store.clone(), bus.clone());
    health.check_by_asking("bus", move || {
        let (own, bus) = (own.clone(), bus.clone());
        async move { heard(&own, &bus).await }
    });
}

/// Deadlines are rows with a time in them, and instances that disagree about the time disagree about what is over.
async fn same_time(store: &Store) -> Result<String, String> {
    let asked = store.clock().now();
    let theirs = match store.database_time().await {
        None => return Ok("the only one".to_owned()),
        // Another check tells what is wrong with it.
        Some(Err(_)) => return Ok("not compared: the database does not answer".to_owned()),
        Some(Ok(theirs)) => theirs,
    };
    let ours = store.clock().now();
    // The database read its clock at some moment between the two looks at ours.
    let apart = asked.since(theirs).max(theirs.since(ours));
    if apart <= APART {
        return Ok(format!("agrees with the database's within {} s", APART.as_secs()));
    }
    Err(format!(
        "it is {ours} here and {theirs} at the database, {} s apart, where {} s are allowed: set the clocks of both machines by NTP; work goes on without a restart",
        apart.as_secs(),
        APART.as_secs()
    ))
}

/// Only a refusal makes a consumer unready, because it ends by a hand alone. A publisher that is away comes back, and
/// parked events hold up their own aggregates, not the service.
async fn heard(store: &Store, bus: &BusHealth) -> Result<String, String> {
    let publishers = bus.publishers();
    let refused: Vec<String> = publishers
        .iter()
        .filter_map(|(publisher, stands)| match &stands.flow {
            Flow::Refused(why) => Some(format!("{publisher} refuses: {why}")),
            Flow::Waiting | Flow::Connected => None,
        })
        .collect();
    if !refused.is_empty() {
        return Err(refused.join("; "));
    }
    let stand = |flow: &Flow| if *flow == Flow::Connected { "connected" } else { "waiting" };
    let mut found: Vec<String> = publishers
        .iter()
        .map(|(publisher, stands)| format!("{publisher} {}, {} behind", stand(&stands.flow), stands.lag()))
        .collect();
    let parked = events::parked_count(&store.read()).await.unwrap_or_default();
    found.extend(parked.iter().map(|(publisher, count)| format!("{count} parked of {publisher}")));
    Ok(if found.is_empty() { "hears nobody".to_owned() } else { found.join("; ") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::health::Report;
    use crate::store::{Admin, Engine, Options};
    use crate::telemetry::metrics::Metrics;
    use crate::testing::scratch;

    struct Probed {
        folder: tempfile::TempDir,
        store: Store,
        bus: BusHealth,
        health: Health,
    }

    async fn probed() -> Probed {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::Sqlite { path: folder.path().join("probes.db") };
        let store = Store::open(Options::new(engine, Clock::system()), &[]).await.unwrap();
        let (bus, health) = (BusHealth::default(), Health::new());
        add_checks(&health, &store, &bus);
        health.started();
        Probed { folder, store, bus, health }
    }

    fn detail<'a>(report: &'a Report, check: &str) -> (bool, &'a str) {
        let found = &report.checks[check];
        (found.ok, &found.detail)
    }

    #[tokio::test]
    async fn only_a_publisher_that_refuses_makes_a_consumer_unready() {
        let Probed { bus, health, .. } = &probed().await;
        assert_eq!(detail(&health.ready().await, "bus"), (true, "hears nobody"));
        bus.at("ledger", 5, 7);
        bus.waiting("orders", Some("no instance is listed".into()));
        let report = health.ready().await;
        assert_eq!(detail(&report, "bus"), (true, "ledger connected, 2 behind; orders waiting, 0 behind"));
        assert!(report.is_up());
        bus.refused("orders", "its outbox is another one".into());
        let report = health.ready().await;
        assert_eq!(detail(&report, "bus"), (false, "orders refuses: its outbox is another one"));
        assert!(!report.is_up());
    }

    #[tokio::test]
    async fn parked_events_are_told_of_but_do_not_stop_a_service() {
        let Probed { folder, health, .. } = &probed().await;
        let aside = rusqlite::Connection::open(folder.path().join("probes.db")).unwrap();
        let park = "INSERT INTO parked (event_id, publisher, aggregate_id, aggregate_version, position, event_type, envelope, reason, parked_at) VALUES (zeroblob(16), 'orders', zeroblob(16), 1, 1, '', '', '', 0)";
        aside.execute(park, []).unwrap();
        let report = health.ready().await;
        assert_eq!(detail(&report, "bus"), (true, "1 parked of orders"));
        assert!(report.is_up());
    }

    #[tokio::test]
    async fn a_database_that_does_not_answer_makes_it_unready() {
        let Probed { folder, health, store, .. } = &probed().await;
        assert_eq!(detail(&health.ready().await, "database"), (true, "answers; 0 events published"));
        let aside = rusqlite::Connection::open(folder.path().join("probes.db")).unwrap();
        aside.execute_batch("DROP TABLE outbox").unwrap();
        let report = health.ready().await;
        assert!(!report.checks["database"].ok && !report.is_up(), "{report:?}");
        store.close().await;
    }

    #[tokio::test]
    async fn a_clock_an_hour_off_that_of_the_database_makes_it_unready_and_names_both_times() {
        let Some(url) = scratch::address("FX_TEST_POSTGRES") else { return };
        let engine = scratch::postgres(&url, &url, &scratch::fresh_schema());
        let hour = Duration::from_secs(3600);
        for (wrong, ahead) in [(Clock::system().now().plus(hour), true), (Clock::system().now().minus(hour), false)] {
            let clock = Clock::manual(wrong);
            let store = Store::open(Options::new(engine.clone(), clock.clone()), &[]).await.unwrap();
            let (bus, health) = (BusHealth::default(), Health::new());
            add_checks(&health, &store, &bus);
            health.started();
            let report = health.ready().await;
            let said = &report.checks["clock"].detail;
            assert!(!report.is_up() && said.contains(&wrong.to_string()) && said.contains("NTP"), "{report:?}");
            // Only forward can it be moved by hand; whoever is behind is ready once NTP has brought it to the right time.
            if !ahead {
                clock.advance(hour);
                assert_eq!(detail(&health.ready().await, "clock"), (true, "agrees with the database's within 5 s"));
            }
            store.close().await;
        }
        let Engine::Postgres(server) = &engine else { unreachable!("it was made on PostgreSQL") };
        Admin::connect(&url, None).await.unwrap().remove(&server.schema).await.unwrap();
    }

    #[tokio::test]
    async fn how_far_behind_the_bus_is_is_as_of_the_moment_somebody_asks() {
        use http_body_util::BodyExt as _;
        use tower::ServiceExt as _;

        let Probed { store, bus, folder: _folder, .. } = probed().await;
        let metrics = Metrics::new("orders");
        add_figures("orders", &metrics, &store, &bus);
        let page = metrics_page(&metrics);
        for behind in [3, 0] {
            bus.at("ledger", 10 - behind, 10);
            let request = http::Request::get("/metrics").body(axum::body::Body::empty()).unwrap();
            let answer = page.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.headers()[CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            for line in [
                &*format!(
                    "kafka_consumer_lag{{service=\"orders\",consumer=\"orders\",publisher=\"ledger\",group=\"\",topic=\"\",partition=\"\"}} {behind}\n"
                ),
                "bus_publisher_refuses{service=\"orders\",publisher=\"ledger\"} 0\n",
                "events_parked{service=\"orders\",publisher=\"ledger\"} 0\n",
                "outbox_waiting_events{service=\"orders\"} 0\n",
            ] {
                assert!(std::str::from_utf8(&body).unwrap().contains(line), "{line}");
            }
        }
        bus.refused("ledger", "made anew".to_owned());
        let page = metrics.page(None).await.1;
        assert!(page.contains("bus_publisher_refuses{service=\"orders\",publisher=\"ledger\"} 1\n"), "{page}");
        store.close().await;
    }

    #[tokio::test]
    async fn an_event_that_nobody_gave_a_position_shows_with_its_age() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("probes.db");
        let clock = Clock::manual("2026-01-01T12:00:00Z".parse().unwrap());
        let store = Store::open(Options::new(Engine::Sqlite { path: path.clone() }, clock.clone()), &[]).await.unwrap();
        let metrics = Metrics::new("orders");
        add_figures("orders", &metrics, &store, &BusHealth::default());
        // As a relay's engine would leave it: durable, and not published yet.
        let aside = rusqlite::Connection::open(path).unwrap();
        let columns = "id, org_id, aggregate_type, aggregate_id, aggregate_version, event_type, schema_version, payload, headers, shard, created_at, attempts";
        let (id, at) = (crate::ids::fresh(), clock.now().micros());
        let row =
            format!("INSERT INTO outbox ({columns}) VALUES (?1, ?1, 'a', ?1, 1, 'a.b', 1, '{{}}', '{{}}', 0, {at}, 0)");
        aside.execute(&row, [id.as_bytes().as_slice()]).unwrap();
        clock.advance(Duration::from_secs(42));
        let page = metrics.page(None).await.1;
        for line in
            ["outbox_waiting_events{service=\"orders\"} 1\n", "outbox_oldest_waiting_seconds{service=\"orders\"} 42\n"]
        {
            assert!(page.contains(line), "{line} in\n{page}");
        }
        store.close().await;
    }
}
