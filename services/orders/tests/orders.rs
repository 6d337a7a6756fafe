//! Orders as a running service: its own port, its own database, nobody else up.

use std::collections::BTreeSet;
use std::time::Duration;

use contracts::restaurants::{Hours, MenuItem, MenuState, RestaurantState};
use contracts::{Place, permissions};
use kernel::clock::Clock;
use kernel::config::Configuration;
use kernel::events::Payload;
use kernel::http::{Identity, Signer};
use kernel::money::Currency;
use kernel::registry::Directory;
use kernel::secrets::Secrets;
use kernel::service::{Running, Surroundings, start};
use kernel::store::{Json, StoreError, Tx};
use kernel::testing::scratch;
use kernel::{ids, params, sql};
use serde_json::{Value, json};
use uuid::Uuid;

const ORG: Uuid = Uuid::from_u128(1);
const RESTAURANT: Uuid = Uuid::from_u128(2);
const DISH: Uuid = Uuid::from_u128(3);

/// The service with one open restaurant in its projection, and somebody who calls it as the gateway would.
struct Counter {
    running: Running,
    signer: Signer,
    clock: Clock,
    client: reqwest::Client,
    _folder: tempfile::TempDir,
}

struct Answered {
    status: u16,
    replayed: bool,
    body: Value,
}

impl Counter {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual("2026-01-01T12:00:00Z".parse().unwrap());
        let signer = Signer::new(b"a secret of this test");
        let around = Surroundings {
            listener: tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(),
            engine: scratch::chosen(folder.path().join("orders.db")),
            directory: Directory::default(),
            signer: signer.clone(),
            secrets: Secrets::open(folder.path()).unwrap(),
            configuration: Configuration::default(),
            clock: clock.clone(),
            title: "Test city",
        };
        let running = start(&orders::service(), around).await.unwrap();
        let counter = Self { running, signer, clock, client: reqwest::Client::new(), _folder: folder };
        counter.keep("restaurant", restaurant()).await;
        counter.keep("menu", menu()).await;
        counter
    }

    /// A copy of what another service owns, as the bus would keep it.
    async fn keep<P: Payload + Clone>(&self, source: &'static str, state: P) {
        let insert = move |tx: Tx| {
            let state = state.clone();
            async move {
                let subject = state.subject();
                let sql = sql!(
                    "INSERT INTO projection (org_id, source, entity_id, data, version, last_event_id, last_updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7)"
                );
                let data = Json(serde_json::to_value(&state).unwrap());
                let values = params![subject.org, source, subject.id, data, subject.version, ids::fresh(), tx.now()];
                tx.run(sql, values).await
            }
        };
        self.running.store.write::<_, StoreError, _, _>(insert).await.unwrap();
    }

    async fn call(&self, who: u128, method: &str, path: &str, key: Option<&str>, body: Option<Value>) -> Answered {
        let identity = Identity {
            user_id: Uuid::from_u128(who),
            email: "somebody@example.org".into(),
            roles: vec![permissions::CUSTOMER.into()],
            orgs: Vec::new(),
            auth_time: 0,
            session: None,
        };
        let headers = self.signer.sign("gateway", "orders", Some(&identity), self.clock.now());
        let url = format!("http://{}{path}", self.running.address);
        let mut request = self.client.request(method.parse().unwrap(), url).headers(headers);
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let (status, replayed) = (response.status().as_u16(), response.headers().contains_key("idempotent-replayed"));
        let body = response.bytes().await.unwrap();
        Answered { status, replayed, body: serde_json::from_slice(&body).unwrap_or(Value::Null) }
    }
}

fn restaurant() -> RestaurantState {
    RestaurantState {
        org_id: ORG,
        restaurant_id: RESTAURANT,
        version: 1,
        name: "Trattoria".into(),
        cuisine: "Italian".into(),
        street: "Main Street 1".into(),
        city: "Springfield".into(),
        place: Place { longitude_e6: 0, latitude_e6: 0 },
        currency: Currency::EUR,
        utc_offset_minutes: 0,
        hours: vec![Hours { weekday: 4, opens_minute: 0, closes_minute: 1_440 }],
        paused: false,
        auto_accept: true,
        prep_minutes: 20,
        delivery_fee_minor: 250,
        minimum_order_minor: 0,
    }
}

fn menu() -> MenuState {
    let dish = MenuItem {
        item_id: DISH,
        name: "Pizza".into(),
        description: String::new(),
        category: "Mains".into(),
        price_minor: 1_000,
        tax_basis_points: 700,
        sold_out: false,
        daily_stock: None,
        options: Vec::new(),
    };
    MenuState { org_id: ORG, restaurant_id: RESTAURANT, version: 1, currency: Currency::EUR, items: vec![dish] }
}

fn order() -> Value {
    json!({
        "restaurant_id": RESTAURANT,
        "lines": [{"item_id": DISH, "quantity": 1}],
        "deliver_to": {"name": "Ann", "street": "Main Street 1", "city": "Springfield", "place": {"longitude_e6": 1, "latitude_e6": 2}},
        "card": {"token": "tok_1", "brand": "visa", "last4": "4242"},
    })
}

const PLACE: (&str, &str) = ("POST", "/api/v1/orders");

#[tokio::test]
async fn an_order_is_taken_with_every_other_service_down_and_its_deadline_ends_it() {
    let counter = Counter::open().await;
    let placed = counter.call(10, PLACE.0, PLACE.1, Some("key-1"), Some(order())).await;
    assert_eq!((placed.status, placed.replayed), (201, false), "{}", placed.body);
    let path = format!("/api/v1/orders/{}", placed.body["id"].as_str().unwrap());
    assert_eq!(counter.call(10, "GET", &path, None, None).await.body["status"], "PENDING");
    assert_eq!(counter.call(11, "GET", &path, None, None).await.status, 404);
    counter.clock.advance(Duration::from_secs(181));
    // A timer fires at its own pace after the clock has moved.
    let ended = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            let order = counter.call(10, "GET", &path, None, None).await.body;
            if order["status"] != "PENDING" {
                return order;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let ended = ended.await.unwrap();
    assert_eq!((&ended["status"], &ended["reason"]), (&json!("FAILED"), &json!("payment_timeout")));
    counter.running.stop().await;
}

#[tokio::test]
async fn one_key_is_one_order_whoever_repeats_it() {
    let counter = Counter::open().await;
    let first = counter.call(10, PLACE.0, PLACE.1, Some("key-1"), Some(order())).await;
    let again = counter.call(10, PLACE.0, PLACE.1, Some("key-1"), Some(order())).await;
    assert_eq!((again.status, again.replayed, &again.body), (201, true, &first.body));
    let other = json!({"restaurant_id": RESTAURANT, "lines": [{"item_id": DISH, "quantity": 1}]});
    assert_eq!(counter.call(10, PLACE.0, PLACE.1, Some("key-1"), Some(other)).await.status, 422);
    assert_eq!(counter.call(10, PLACE.0, PLACE.1, None, Some(order())).await.status, 400);
    let list = counter.call(10, "GET", &format!("/api/v1/orders/customer/{}", Uuid::from_u128(10)), None, None).await;
    assert_eq!(list.body["items"].as_array().unwrap().len(), 1);
    counter.running.stop().await;
}

#[tokio::test]
async fn a_body_that_does_not_fit_is_told_where() {
    let counter = Counter::open().await;
    let pointers = async |change: fn(&mut Value)| {
        let mut body = order();
        change(&mut body);
        let answer = counter.call(10, PLACE.0, PLACE.1, Some(&ids::fresh().to_string()), Some(body)).await;
        (answer.status, answer.body["errors"][0]["pointer"].as_str().unwrap_or("").to_owned())
    };
    assert_eq!(pointers(|b| b["lines"][0]["quantity"] = json!(100)).await, (422, "/lines/0/quantity".into()));
    assert_eq!(pointers(|b| b["lines"][0]["item_id"] = json!(ORG)).await, (422, "/lines/0/item_id".into()));
    assert_eq!(pointers(|b| b["card"]["last4"] = json!("42x2")).await, (422, "/card/last4".into()));
    assert_eq!(pointers(|b| b["card"]["token"] = json!("4242424242424242")).await, (422, "/card/token".into()));
    assert_eq!(pointers(|b| b["deliver_to"]["place"]["latitude_e6"] = json!(90_000_001)).await.0, 422);
    assert_eq!(pointers(|b| b["status"] = json!("CONFIRMED")).await.0, 422);
    counter.running.stop().await;
}

#[test]
fn the_declaration_hears_what_the_saga_says_and_documents_its_limits() {
    let declared = orders::service();
    let manifest = declared.manifest();
    let heard: BTreeSet<&str> = manifest.hears.iter().map(|event| event.name).collect();
    for event in [
        "payment.authorized",
        "payment.success",
        "payment.failed",
        "inventory.reserved",
        "kitchen.accepted",
        "menu.changed",
    ] {
        assert!(heard.contains(event), "{event}");
    }
    let codes: BTreeSet<&str> = manifest.refusals.iter().map(|refusal| refusal.code).collect();
    assert_eq!(codes.len(), manifest.refusals.len());
    let document = kernel::docs::openapi("Test city", manifest);
    let lines = &document["components"]["schemas"]["NewOrder"]["properties"]["lines"];
    assert_eq!(lines["maxItems"], 100, "{lines}");
}
