//! Payments over HTTP and bus: the service as it runs in a city, between two publishers and a real card network.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use card_network::{Options, run, signature};
use contracts::Place;
use contracts::kitchen::{KitchenAccepted, TicketState};
use contracts::orders::{Card, DeliverTo, OrderCreated, OrderState, OrderStatus};
use contracts::permissions::{CUSTOMER, SUPPORT};
use kernel::clock::{Clock, Timestamp};
use kernel::config::Sources;
use kernel::events::{Event, EventDef};
use kernel::http::{Identity, Signer};
use kernel::ids;
use kernel::money::Currency;
use kernel::registry::Directory;
use kernel::secrets::Secrets;
use kernel::service::{Declared, Running, Service, StartError, Surroundings, start};
use kernel::store::StoreError;
use kernel::testing::scratch;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use uuid::Uuid;

struct City {
    payments: Running,
    orders: Running,
    kitchen: Running,
    network: card_network::Running,
    signer: Signer,
    client: Client,
    webhook_secret: String,
    _folder: TempDir,
}

/// A service that only publishes.
fn publisher(name: &'static str, events: &[EventDef]) -> Declared {
    Service::<()>::new(name, "Publishes what a test says").publishes(events).start_with(|_| Ok::<(), StartError>(()))
}

async fn serve(declared: &Declared, around: impl Fn(TcpListener) -> Surroundings, directory: &Directory) -> Running {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let running = start(declared, around(listener)).await.unwrap();
    directory.set(running.name, vec![running.address]);
    running
}

impl City {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::open(&folder.path().join("secrets")).unwrap();
        let api_key = secrets.get(payments::API_KEY_SECRET).unwrap().reveal_text();
        let webhook_secret = secrets.get(payments::WEBHOOK_SECRET).unwrap().reveal_text();
        let network = run(Options::new(folder.path().join("network"), api_key, &webhook_secret)).await.unwrap();
        let url = format!("http://{}", network.local_addr());
        let (directory, signer) = (Directory::new(BTreeMap::new()), Signer::new(b"city"));
        let sources = Sources::new("FOODEXPRESS").set("payments.provider_url", url);
        let surroundings = |name: &'static str| {
            let (directory, signer, secrets, sources) =
                (directory.clone(), signer.clone(), secrets.clone(), sources.clone());
            let engine = scratch::chosen(folder.path().join(format!("{name}.db")));
            move |listener| Surroundings {
                listener,
                engine: engine.clone(),
                directory: directory.clone(),
                signer: signer.clone(),
                secrets: secrets.clone(),
                configuration: sources.clone().into(),
                clock: Clock::system(),
                title: "A test city",
            }
        };
        let orders = serve(&publisher("orders", contracts::orders::EVENTS), surroundings("orders"), &directory).await;
        let kitchen = publisher("kitchen", contracts::kitchen::ticket::EVENTS);
        let kitchen = serve(&kitchen, surroundings("kitchen"), &directory).await;
        let payments = serve(&payments::service(), surroundings("payments"), &directory).await;
        let client = Client::builder().no_proxy().build().unwrap();
        Self { payments, orders, kitchen, network, signer, client, webhook_secret, _folder: folder }
    }

    async fn say<E: Event + Clone>(publisher: &Running, event: E) {
        let unit = move |tx: kernel::store::Tx| {
            let event = event.clone();
            async move { tx.emit(event) }
        };
        publisher.store.write::<(), StoreError, _, _>(unit).await.unwrap();
    }

    async fn token(&self, number: &str) -> String {
        let card = json!({ "number": number, "exp_month": 12, "exp_year": 2098, "cvc": "123" });
        let url = format!("http://{}/v1/tokens", self.network.local_addr());
        let body: Value = self.client.post(url).json(&card).send().await.unwrap().json().await.unwrap();
        body["token"].as_str().unwrap().to_owned()
    }

    async fn call(
        &self,
        who: Option<&Identity>,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (StatusCode, Value) {
        let url = format!("http://{}{path}", self.payments.address);
        let headers = self.signer.sign("gateway", "payments", who, Clock::system().now());
        let mut request =
            self.client.request(method, url).headers(headers).header("idempotency-key", ids::fresh().to_string());
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        (answer.status(), answer.json().await.unwrap_or_default())
    }

    /// Asks until the order's payment is as wanted; the bus and the provider take their time.
    async fn payment(&self, who: &Identity, order: Uuid, status: &str) -> Value {
        for _ in 0..400 {
            let (_, page) =
                self.call(Some(who), Method::GET, &format!("/api/v1/payments?order_id={order}"), None).await;
            if page["items"][0]["status"] == status {
                return page["items"][0].clone();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the payment of {order} never became {status}");
    }

    async fn message(&self, id: &str, body: &str, sign: &str) -> StatusCode {
        let now = Clock::system().now();
        let url = format!("http://{}/api/v1/provider-events", self.payments.address);
        let request =
            self.client.post(url).headers(self.signer.sign("gateway", "payments", None, now)).body(body.to_owned());
        let request = request.header("webhook-id", id).header("webhook-timestamp", now.seconds().to_string());
        let request = request.header("webhook-signature", signature(sign, id, now.seconds(), body));
        request.send().await.unwrap().status()
    }

    async fn close(self) {
        self.payments.stop().await;
        self.kitchen.stop().await;
        self.orders.stop().await;
        self.network.shutdown().await;
    }
}

fn person(role: &str) -> Identity {
    let roles = vec![role.to_owned()];
    Identity {
        user_id: ids::fresh(),
        email: "p@example.test".into(),
        roles,
        orgs: Vec::new(),
        auth_time: Clock::system().now().seconds(),
        session: None,
    }
}

fn order(customer: Uuid, token: String) -> OrderState {
    let (place, at) = (Place { longitude_e6: 0, latitude_e6: 0 }, Timestamp::from_micros(0));
    OrderState {
        org_id: ids::fresh(),
        order_id: ids::fresh(),
        version: 1,
        code: "ORD-1".into(),
        status: OrderStatus::Pending,
        reason: None,
        customer_id: customer,
        customer_email: "p@example.test".into(),
        channel: "customer_app".into(),
        restaurant_id: ids::fresh(),
        restaurant_name: "Trattoria".into(),
        pick_up: place,
        auto_accept: false,
        prep_minutes: 10,
        lines: Vec::new(),
        currency: Currency::EUR,
        subtotal_minor: 2_000,
        discount_minor: 0,
        delivery_fee_minor: 0,
        tax_minor: 0,
        total_minor: 2_000,
        card: Card { token, brand: "visa".into(), last4: "4242".into() },
        deliver_to: DeliverTo { name: "A".into(), street: "B".into(), city: "C".into(), place, note: String::new() },
        placed_at: at,
        changed_at: at,
    }
}

fn accepted(order: &OrderState) -> KitchenAccepted {
    KitchenAccepted(TicketState {
        org_id: order.org_id,
        order_id: order.order_id,
        version: 1,
        restaurant_id: order.restaurant_id,
        reason: None,
        ready_at: None,
        at: Timestamp::from_micros(0),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_held_refused_retried_captured_and_refunded_and_both_books_agree() {
    let city = City::open().await;
    let (customer, support) = (person(CUSTOMER), person(SUPPORT));
    let order = order(customer.user_id, city.token("4000000000000002").await);
    City::say(&city.orders, OrderCreated(order.clone())).await;
    city.payment(&customer, order.order_id, "FAILED").await;

    let card = json!({ "token": city.token("4242424242424242").await, "brand": "visa", "last4": "4242" });
    let again = json!({ "order_id": order.order_id, "card": card });
    let stranger = city.call(Some(&person(CUSTOMER)), Method::POST, "/api/v1/payments", Some(again.clone())).await;
    assert_eq!(stranger.0, StatusCode::NOT_FOUND);
    let (status, taken) = city.call(Some(&customer), Method::POST, "/api/v1/payments", Some(again.clone())).await;
    assert_eq!((status, &taken["status"]), (StatusCode::ACCEPTED, &json!("PROCESSING")));
    let (status, refusal) = city.call(Some(&customer), Method::POST, "/api/v1/payments", Some(again)).await;
    assert_eq!((status, &refusal["code"]), (StatusCode::CONFLICT, &json!("payment_attempt_under_way")));

    City::say(&city.kitchen, accepted(&order)).await;
    let payment = city.payment(&customer, order.order_id, "SUCCESS").await;
    let refunds = format!("/api/v1/payments/{}/refunds", payment["payment_id"].as_str().unwrap());
    let part = |amount: i64| Some(json!({ "amount_minor": amount, "reason": "cold" }));
    assert_eq!(city.call(Some(&customer), Method::POST, &refunds, part(1)).await.0, StatusCode::FORBIDDEN);
    let (status, refusal) = city.call(Some(&support), Method::POST, &refunds, part(2_001)).await;
    assert_eq!((status, &refusal["code"]), (StatusCode::CONFLICT, &json!("refund_exceeds_capture")));
    let long_ago = Identity { auth_time: support.auth_time - 3600, ..support.clone() };
    let (status, refusal) = city.call(Some(&long_ago), Method::POST, &refunds, part(1)).await;
    assert_eq!((status, &refusal["code"]), (StatusCode::UNAUTHORIZED, &json!("fresh_sign_in_required")));
    assert_eq!(city.call(Some(&support), Method::POST, &refunds, part(2_000)).await.0, StatusCode::CREATED);
    city.payment(&customer, order.order_id, "REFUNDED").await;

    let (_, summary) = city.call(Some(&support), Method::GET, "/api/v1/ledger/summary", None).await;
    assert_eq!((&summary["balanced"], &summary["unresolved"]), (&json!(true), &json!(0)), "{summary}");
    let (_, compared) = city.call(Some(&support), Method::GET, "/api/v1/ledger/differences", None).await;
    assert_eq!((&compared["different"], &compared["matched"]), (&json!(0), &json!(2)), "{compared}");
    assert_eq!(city.call(Some(&customer), Method::GET, "/api/v1/ledger/summary", None).await.0, StatusCode::FORBIDDEN);
    city.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_answer_makes_due_is_asked_at_once_and_not_at_the_next_sweep() {
    let city = City::open().await;
    let customer = person(CUSTOMER);
    let mut orders = Vec::new();
    for _ in 0..20 {
        let order = order(customer.user_id, city.token("4242424242424242").await);
        // The acceptance is heard before the hold is there, so the hold's answer itself makes the capture due.
        City::say(&city.kitchen, accepted(&order)).await;
        City::say(&city.orders, OrderCreated(order.clone())).await;
        orders.push(order.order_id);
    }
    for order in orders {
        city.payment(&customer, order, "SUCCESS").await;
    }
    city.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_the_provider_need_its_signature_and_a_challenge_is_seen_at_once() {
    let city = City::open().await;
    let customer = person(CUSTOMER);
    let order = order(customer.user_id, city.token("4000000000003220").await);
    City::say(&city.orders, OrderCreated(order.clone())).await;
    let payment = city.payment(&customer, order.order_id, "PROCESSING").await;
    let path = format!("/api/v1/payments/{}", payment["payment_id"].as_str().unwrap());
    let mut challenge = Value::Null;
    while challenge.is_null() {
        challenge = city.call(Some(&customer), Method::GET, &path, None).await.1["challenge_url"].clone();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let fail = city.client.post(challenge.as_str().unwrap()).json(&json!({ "outcome": "fail" })).send().await.unwrap();
    assert_eq!(fail.status(), StatusCode::OK);
    let body =
        json!({ "id": "evt_1", "type": "authorization.challenge_completed", "data": { "reference": order.order_id } });
    let body = body.to_string();
    assert_eq!(city.message("evt_1", &body, "guess").await, StatusCode::UNAUTHORIZED);
    assert_eq!(city.message("evt_1", &body, &city.webhook_secret).await, StatusCode::NO_CONTENT);
    assert_eq!(city.message("evt_1", &body, &city.webhook_secret).await, StatusCode::NO_CONTENT);
    let failed = city.payment(&customer, order.order_id, "FAILED").await;
    assert_eq!(failed["decline_code"], "challenge_failed");
    city.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn card_numbers_and_malformed_requests_are_refused() {
    let city = City::open().await;
    let customer = person(CUSTOMER);
    let pay = |token: &str, last4: &str| {
        Some(json!({ "order_id": ids::fresh(), "card": { "token": token, "brand": "visa", "last4": last4 } }))
    };
    for (body, status) in [
        (pay("4242424242424242", "4242"), StatusCode::UNPROCESSABLE_ENTITY),
        (pay("tok_1", "42"), StatusCode::UNPROCESSABLE_ENTITY),
        (Some(json!({ "order_id": ids::fresh() })), StatusCode::UNPROCESSABLE_ENTITY),
        (pay("tok_1", "4242"), StatusCode::NOT_FOUND),
    ] {
        let answer = city.call(Some(&customer), Method::POST, "/api/v1/payments", body).await;
        assert_eq!(answer.0, status, "{}", answer.1);
    }
    for path in ["/api/v1/payments?page_size=0", "/api/v1/payments?page_token=x", "/api/v1/payments?what=1"] {
        assert_eq!(city.call(Some(&customer), Method::GET, path, None).await.0, StatusCode::BAD_REQUEST, "{path}");
    }
    assert_eq!(city.call(None, Method::GET, "/api/v1/payments", None).await.0, StatusCode::UNAUTHORIZED);
    city.close().await;
}
