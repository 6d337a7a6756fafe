//! Money: one charge however often one taps, and an audit that sees every way in which the books can be wrong.

use reqwest::Method;
use serde_json::{Value, json};

use crate::program::{City, Data};

#[test]
fn fifty_taps_are_one_order_and_one_charge() {
    let data = Data::new();
    let city = data.up(&[]);
    let told = city.run(&["demo", "double-tap", "-n", "50"]).result();
    let right = json!({
        "requests": 50, "orders": 1, "charges": 1, "distinct_answers": 1, "changed_body_status": 422,
    });
    assert_eq!(told, right);
    city.audit(1);
    city.order();
    city.audit(2);
    city.stop();
}

/// The card network, as somebody with the city's own key can use it.
struct Network {
    address: String,
    key: String,
}

impl Network {
    fn of(data: &Data, city: &City<'_>) -> Self {
        let key = std::fs::read(data.path().join("secrets").join("card-network-api-key")).unwrap();
        let address = format!("http://{}", city.opened["members"]["card-network"]["address"].as_str().unwrap());
        Self { address, key: String::from_utf8(key).unwrap().trim().to_owned() }
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let request = reqwest::Client::new().request(method, format!("{}{path}", self.address)).bearer_auth(&self.key);
        let request = match body {
            Some(body) => {
                request.header("idempotency-key", format!("planted {path} {body}").replace(' ', "-")).json(&body)
            }
            None => request,
        };
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Holds money for an order once more; gives the authorisation.
    async fn hold(&self, order: &str, amount: i64) -> String {
        let form = json!({"number": "4242424242424242", "exp_month": 12, "exp_year": 2030, "cvc": "123"});
        let token = self.call(Method::POST, "/v1/tokens", Some(form)).await["token"].clone();
        let hold = json!({"reference": order, "token": token, "amount_minor": amount, "currency": "EUR"});
        let hold = self.call(Method::POST, "/v1/authorizations", Some(hold)).await;
        assert_eq!(hold["status"], "authorized", "{hold}");
        hold["id"].as_str().unwrap().to_owned()
    }

    async fn capture(&self, hold: &str, amount: i64) {
        let captured = json!({"amount_minor": amount});
        let captured = self.call(Method::POST, &format!("/v1/authorizations/{hold}/capture"), Some(captured)).await;
        assert_eq!(captured["status"], "succeeded", "{captured}");
    }
}

fn findings(audit: &Value) -> String {
    audit["findings"].to_string()
}

/// The books of a city are wrong after this was done to one of its databases.
fn audit_after(sound: &Data, service: &str, sql: &str) -> Value {
    let data = sound.copy();
    assert!(data.tamper(service, sql) > 0, "{sql} changes nothing");
    let city = data.up(&[]);
    let audit = city.fails_audit();
    city.stop();
    audit
}

#[tokio::test]
async fn an_audit_sees_a_second_hold_a_second_charge_and_what_a_book_has_lost() {
    let data = Data::new();
    let city = data.up(&[]);
    let order = city.order()["order_id"].as_str().unwrap().to_owned();
    let captured = city.audit(1)["captured"].as_i64().unwrap();
    city.stop();
    let sound = data.copy();

    let gone = audit_after(&sound, "orders", "DELETE FROM orders");
    assert_eq!((&gone["orders"], &gone["lost"], &gone["duplicates"]), (&json!(0), &json!(1), &json!(0)), "{gone}");
    assert!(findings(&gone).contains(&format!("captured for {order}, which is no order")), "{gone}");
    let unpaid = audit_after(&sound, "payments", "UPDATE payments SET captured_minor = 0");
    assert!(findings(&unpaid).contains("payments says 0 taken"), "{unpaid}");
    let unbooked = audit_after(&sound, "payments", "DELETE FROM ledger_transfers WHERE kind = 'CAPTURE'");
    assert!(findings(&unbooked).contains("ledger"), "{unbooked}");
    let stuck = audit_after(&sound, "orders", "UPDATE orders SET status = 'READY', deadline_at = 9000000000000000");
    assert_eq!((&stuck["unresolved"], &stuck["lost"]), (&json!(1), &json!(0)), "{stuck}");

    let city = data.up(&[]);
    city.audit(1);
    let network = Network::of(&data, &city);
    let hold = network.hold(&order, 777).await;
    let held = city.fails_audit();
    assert_eq!((&held["unresolved"], &held["duplicates"]), (&json!(1), &json!(0)), "{held}");
    network.capture(&hold, 777).await;
    let twice = city.fails_audit();
    assert_eq!((&twice["duplicates"], &twice["unresolved"]), (&json!(1), &json!(0)), "{twice}");
    assert_eq!(twice["captured"], captured + 777);
    assert!(findings(&twice).contains(&format!("order {order} was captured 2 times")), "{twice}");
    city.stop();
}
