//! Scenes with a real database: handlers as the kernel runs them, and what is published.

use std::sync::Arc;

use contracts::demo::{organisation, restaurant};
use contracts::permissions::{ADMIN, RESTAURANT_OWNER};
use kernel::cache::Cache;
use kernel::clock::Clock;
use kernel::http::{Body, Caller, Fail, Identity, Json, Path, Query};
use kernel::store::{Options, STATEMENTS, Store, Tx, WriteError};
use kernel::telemetry::Metrics;
use kernel::testing::scratch;
use kernel::{params, row, sql};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::api::{ItemPath, RestaurantPath, menus, restaurants};
use crate::{KEPT, Restaurants, Settings, demo, jobs, service, store};

row! {
    struct Said {
        aggregate_id: Uuid,
        event_type: String,
        aggregate_version: i64,
        payload: String,
    }
}

struct City {
    state: Arc<Restaurants>,
    _folder: tempfile::TempDir,
}

impl City {
    async fn new(demo_city: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // A Saturday noon in UTC.
        let clock = Clock::manual("2026-11-21T12:00:00Z".parse().unwrap());
        let claims = service().manifest().publishes.iter().map(|event| event.name).collect();
        let engine = scratch::chosen(folder.path().join("restaurants.db"));
        let store = Store::open(Options { claims, ..Options::new(engine, clock.clone()) }, store::STEPS).await.unwrap();
        let metrics = Metrics::new("restaurants");
        let (shown, menus) =
            (Cache::new("restaurants", KEPT, None, &metrics), Cache::new("menus", KEPT, None, &metrics));
        let state = Restaurants { store, clock, settings: Settings { demo_city }, shown, menus };
        Self { state: Arc::new(state), _folder: folder }
    }

    /// Runs a handler; a refusal comes back as its code.
    async fn ask<T, F, Fut>(&self, handle: F) -> Result<T, String>
    where
        T: Send + 'static,
        F: Fn(Tx, Arc<Restaurants>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, Fail>> + Send + 'static,
    {
        let state = self.state.clone();
        match self.state.store.write(move |tx| handle(tx, state.clone())).await {
            Ok(answer) => Ok(answer),
            Err(WriteError::Unit(Fail::Refused(problem))) => Err(problem.code.into_owned()),
            Err(other) => panic!("{other:?}"),
        }
    }

    async fn open(&self, caller: &Caller, new: Value) -> Result<Uuid, String> {
        let caller = caller.clone();
        let opened = self.ask(move |tx, state| {
            let new = serde_json::from_value(new.clone()).unwrap();
            restaurants::open_restaurant(tx, state, caller.clone(), Body(new))
        });
        let answer = serde_json::to_value(opened.await?.1).unwrap();
        Ok(answer["restaurant_id"].as_str().unwrap().parse().unwrap())
    }

    async fn change(&self, caller: &Caller, id: Uuid, change: Value) -> Result<Value, String> {
        let caller = caller.clone();
        let changed = self.ask(move |tx, state| {
            let change = serde_json::from_value(change.clone()).unwrap();
            restaurants::change_restaurant(tx, state, caller.clone(), Path(RestaurantPath { id }), Body(change))
        });
        Ok(serde_json::to_value(changed.await?.0).unwrap())
    }

    async fn put(&self, caller: &Caller, id: Uuid, item_id: Uuid, name: &str) -> Result<(), String> {
        let (caller, name) = (caller.clone(), name.to_owned());
        let put = self.ask(move |tx, state| {
            let item = json!({"name": name, "category": "Mains", "price_minor": 900, "tax_basis_points": 1000});
            let item = serde_json::from_value(item).unwrap();
            menus::put_item(tx, state, caller.clone(), Path(ItemPath { id, item_id }), Body(item))
        });
        put.await.map(drop)
    }

    async fn sell_out(&self, caller: &Caller, id: Uuid, item_id: Uuid, sold_out: bool) -> Result<(), String> {
        let caller = caller.clone();
        let sold = self.ask(move |tx, state| {
            let to = serde_json::from_value(json!({"sold_out": sold_out})).unwrap();
            menus::set_availability(tx, state, caller.clone(), Path(ItemPath { id, item_id }), Body(to))
        });
        sold.await.map(drop)
    }

    async fn remove(&self, caller: &Caller, id: Uuid, item_id: Uuid) -> Result<(), String> {
        let caller = caller.clone();
        let removed =
            self.ask(move |tx, state| menus::remove_item(tx, state, caller.clone(), Path(ItemPath { id, item_id })));
        removed.await.map(drop)
    }

    /// Names of restaurants on one page, and the token of the next.
    async fn find(&self, query: Value) -> (Vec<String>, Option<String>) {
        let query = serde_json::from_value(query).unwrap();
        let Json(page) = restaurants::find_restaurants(self.state.clone(), Query(query)).await.unwrap();
        let names =
            page.items.iter().map(|view| serde_json::to_value(view).unwrap()["name"].as_str().unwrap().to_owned());
        (names.collect(), page.next_page_token.clone())
    }

    async fn said(&self) -> Vec<Said> {
        let all = sql!(Said, "SELECT aggregate_id, event_type, aggregate_version, payload FROM outbox ORDER BY seq");
        self.state.store.read().all(all, params![]).await.unwrap()
    }
}

fn caller(role: &str, org: Uuid) -> Caller {
    Caller(Identity {
        user_id: Uuid::from_u128(1),
        email: "owner@demo.example".into(),
        roles: vec![role.to_owned()],
        orgs: vec![org],
        auth_time: 0,
        session: None,
    })
}

fn new(org: Uuid, name: &str, hours: Value) -> Value {
    json!({
        "org_id": org, "name": name, "cuisine": "Café", "street": "Quay 1", "city": "Marenza",
        "place": {"longitude_e6": 7_770_000, "latitude_e6": 43_810_000}, "currency": "EUR", "utc_offset_minutes": 60,
        "hours": hours, "prep_minutes": 10, "delivery_fee_minor": 199, "minimum_order_minor": 500,
    })
}

#[tokio::test]
async fn each_change_is_published_whole_with_the_next_version() {
    let (city, org, item) = (City::new(false).await, Uuid::from_u128(7), Uuid::from_u128(70));
    let owner = caller(RESTAURANT_OWNER, org);
    let id = city.open(&owner, new(org, "Lanterna", json!([]))).await.unwrap();
    let changed = city.change(&owner, id, json!({"paused": true, "prep_minutes": 25})).await.unwrap();
    assert_eq!(
        (&changed["version"], &changed["paused"], &changed["prep_minutes"]),
        (&json!(2), &json!(true), &json!(25))
    );
    city.change(&owner, id, json!({"paused": true})).await.unwrap();
    city.put(&owner, id, item, "Soup").await.unwrap();
    city.put(&owner, id, item, "Fish soup").await.unwrap();
    city.sell_out(&owner, id, item, true).await.unwrap();
    city.sell_out(&owner, id, item, true).await.unwrap();
    city.remove(&owner, id, item).await.unwrap();
    assert_eq!(city.remove(&owner, id, item).await, Err("not_found".into()));
    let said = city.said().await;
    let heads: Vec<String> = said.iter().map(|s| format!("{} {}", s.event_type, s.aggregate_version)).collect();
    let wanted = [
        "restaurant.changed 1",
        "menu.changed 1",
        "restaurant.changed 2",
        "menu.changed 2",
        "menu.changed 3",
        "menu.changed 4",
        "menu.changed 5",
    ];
    assert_eq!(heads, wanted, "a change that changes nothing is not one");
    assert!(said.iter().all(|s| s.aggregate_id == id));
    let menu: Value = serde_json::from_str(&said[5].payload).unwrap();
    assert_eq!((&menu["items"][0]["name"], &menu["items"][0]["sold_out"]), (&json!("Fish soup"), &json!(true)));
}

#[tokio::test]
async fn nobody_edits_what_belongs_to_others_but_an_administrator() {
    let (city, org, item) = (City::new(false).await, Uuid::from_u128(7), Uuid::from_u128(70));
    let stranger = caller(RESTAURANT_OWNER, Uuid::from_u128(8));
    assert_eq!(city.open(&stranger, new(org, "Mine", json!([]))).await, Err("forbidden".into()));
    let admin = caller(ADMIN, Uuid::nil());
    let id = city.open(&admin, new(org, "Lanterna", json!([]))).await.unwrap();
    city.put(&admin, id, item, "Soup").await.unwrap();
    assert_eq!(city.change(&stranger, id, json!({"paused": true})).await, Err("not_found".into()));
    assert_eq!(city.put(&stranger, id, item, "Poison").await, Err("not_found".into()));
    assert_eq!(city.sell_out(&stranger, id, item, true).await, Err("not_found".into()));
    assert_eq!(city.remove(&stranger, id, item).await, Err("not_found".into()));
}

#[tokio::test]
async fn people_find_restaurants_by_name_cuisine_and_hours_page_by_page() {
    let (city, org) = (City::new(false).await, Uuid::from_u128(7));
    let owner = caller(RESTAURANT_OWNER, org);
    // It is Saturday, 13:00 local time.
    let lunch = json!([{"weekday": 6, "opens_minute": 720, "closes_minute": 840}]);
    let late = json!([{"weekday": 6, "opens_minute": 1080, "closes_minute": 1440}]);
    city.open(&owner, new(org, "Ätna", lunch.clone())).await.unwrap();
    city.open(&owner, new(org, "Moon 100%", late)).await.unwrap();
    let paused = city.open(&owner, new(org, "Zest", lunch)).await.unwrap();
    city.change(&owner, paused, json!({"paused": true, "cuisine": "Thai"})).await.unwrap();
    let names = |query| async { city.find(query).await.0 };
    assert_eq!(names(json!({})).await, ["Ätna", "Moon 100%", "Zest"]);
    assert_eq!(names(json!({"q": "ATN"})).await, ["Ätna"]);
    assert_eq!(names(json!({"q": "0%"})).await, ["Moon 100%"]);
    assert_eq!(names(json!({"q": "_"})).await, Vec::<String>::new());
    assert_eq!(names(json!({"cuisine": "CAFE"})).await, ["Ätna", "Moon 100%"]);
    assert_eq!(names(json!({"open_now": true})).await, ["Ätna"]);
    let (first, token) = city.find(json!({"page_size": 2})).await;
    let (second, end) = city.find(json!({"page_size": 2, "page_token": token.unwrap()})).await;
    assert_eq!((first.len(), second, end), (2, vec!["Zest".to_owned()], None));
}

#[tokio::test]
async fn the_demo_city_is_founded_once_and_only_where_it_was_asked_for() {
    let without = City::new(false).await;
    jobs::found_demo_city(without.state.clone()).await.unwrap();
    assert!(store::is_empty(&without.state.store.read()).await.unwrap());
    let city = City::new(true).await;
    // The job was broken off after its first restaurant.
    assert!(city.state.store.write(|tx| async move { demo::found_one(&tx, 0).await }).await.unwrap());
    for _ in 0..2 {
        jobs::found_demo_city(city.state.clone()).await.unwrap();
    }
    assert_eq!(city.said().await.len(), 24);
    let again = city.state.store.write(|tx| async move { demo::found(&tx).await }).await.unwrap();
    assert_eq!(again, 0);
    assert_eq!(city.find(json!({"open_now": true, "page_size": 100})).await.0.len(), 12);
    let db = city.state.store.read();
    let last = store::find(&db, restaurant(11)).await.unwrap().unwrap();
    assert_eq!(last.org_id, organisation(5));
    assert!(store::menu(&db, &last, 1).await.unwrap().items.len() >= 10);
}

#[tokio::test]
async fn every_statement_of_the_restaurants_service_prepares() {
    let city = City::new(false).await;
    let own: Vec<_> = STATEMENTS.iter().filter(|statement| statement.module.starts_with("restaurants")).collect();
    assert!(own.len() > 10, "{} statements", own.len());
    for statement in own {
        city.state
            .store
            .prepare(statement)
            .await
            .unwrap_or_else(|e| panic!("{}:{}: {e}", statement.file, statement.line));
    }
}
