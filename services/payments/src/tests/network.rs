//! The real card network, each of its test cards, and our books beside its.

use std::sync::Arc;
use std::time::Duration;

use card_network::{Options, Running, run};
use contracts::orders::OrderState;
use contracts::payments::PaymentStatus;
use kernel::clock::{Clock, Timestamp};
use kernel::config::Live;
use kernel::secrets::{Pair, Secret};
use kernel::store::Scalar;
use kernel::{params, sql};
use tempfile::TempDir;

use super::{ACCEPTED, Desk, ENDED, order};
use crate::attempt::AttemptState;
use crate::card_network::CardNetwork;
use crate::refunding::{self, Wish};
use crate::steps::{self, Case, PayWith};
use crate::{jobs, reconcile, store};

struct Town {
    desk: Desk,
    network: Running,
    client: reqwest::Client,
    _folder: TempDir,
}

impl Town {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { hang: Duration::from_secs(2), ..Options::new(folder.path(), "key", "secret") };
        let network = run(options).await.unwrap();
        let base = format!("http://{}", network.local_addr());
        // The clock starts where the network's is; it is moved by hand from there on.
        let clock = Clock::manual(Clock::system().now());
        let provider = Arc::new(CardNetwork::new(&base, key(), Duration::from_millis(400)).unwrap());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { desk: Desk::open(provider, clock).await, network, client, _folder: folder }
    }

    async fn token(&self, number: &str) -> String {
        let card = serde_json::json!({ "number": number, "exp_month": 12, "exp_year": 2098, "cvc": "123" });
        let url = format!("http://{}/v1/tokens", self.network.local_addr());
        let answer = self.client.post(url).json(&card).send().await.unwrap();
        let body: serde_json::Value = answer.json().await.unwrap();
        body["token"].as_str().unwrap().to_owned()
    }

    /// An order with this card, and the provider asked about it.
    async fn ordered(&self, number: &str) -> OrderState {
        let order = order(&self.token(number).await);
        self.desk.create(&order).await;
        self.settle().await;
        order
    }

    async fn settle(&self) {
        for _ in 0..4 {
            self.desk.turn(Duration::from_secs(6)).await;
        }
    }

    async fn state(&self, order: &OrderState) -> AttemptState {
        let payment = self.desk.payment(order).await.unwrap();
        let attempts = store::attempts(&self.desk.state.store.read(), payment.org_id, payment.id).await.unwrap();
        attempts.last().unwrap().state
    }

    async fn told(&self, order: &OrderState) -> Vec<String> {
        self.desk.told(self.desk.payment(order).await.unwrap().id).await
    }

    async fn books_agree(&self) {
        let provider =
            CardNetwork::new(&format!("http://{}", self.network.local_addr()), key(), Duration::from_secs(5));
        let comparison = reconcile::compare(&self.desk.state.store.read(), &provider.unwrap()).await.unwrap();
        assert_eq!((comparison.different, comparison.pending), (0, 0), "{:?}", comparison.differences);
    }
}

#[tokio::test]
async fn a_card_that_works_is_held_at_the_order_and_charged_at_acceptance() {
    let town = Town::open().await;
    let order = town.ordered("4242424242424242").await;
    assert_eq!(town.state(&order).await, AttemptState::Authorized);
    town.desk.hear(&order, ACCEPTED).await;
    town.settle().await;
    assert_eq!(town.told(&order).await, ["payment.authorized", "payment.success"]);
    assert_eq!(town.desk.payment(&order).await.unwrap().status, PaymentStatus::Success);
    town.desk.hear(&order, ENDED).await;
    town.settle().await;
    let payment = town.desk.payment(&order).await.unwrap();
    assert_eq!((payment.status, payment.refunded_minor), (PaymentStatus::Refunded, 2_000));
    town.books_agree().await;
}

#[tokio::test]
async fn a_call_that_charges_and_then_hangs_or_fails_is_found_in_the_books_and_not_repeated() {
    let town = Town::open().await;
    for number in ["4000000000007023", "4000000000007031"] {
        let order = town.ordered(number).await;
        assert_eq!(town.state(&order).await, AttemptState::Authorized, "{number}");
        town.desk.hear(&order, ACCEPTED).await;
        town.settle().await;
        assert_eq!(town.told(&order).await, ["payment.authorized", "payment.success"], "{number}");
    }
    town.books_agree().await;
}

#[tokio::test]
async fn a_refused_card_may_be_followed_by_another_until_the_window_closes() {
    let town = Town::open().await;
    let order = town.ordered("4000000000000002").await;
    let payment = town.desk.payment(&order).await.unwrap();
    assert_eq!((payment.status, payment.decline_code.as_deref()), (PaymentStatus::Failed, Some("card_declined")));
    assert!(payment.retry_until.is_some());
    let (org, id, token) = (order.org_id, order.order_id, town.token("4242424242424242").await);
    town.desk
        .unit(move |tx| {
            let card = PayWith::new(&token, "visa", "4242");
            async move {
                let mut case = Case::of(&tx, org, id, crate::attempt::Heard::default()).await?.unwrap();
                steps::try_again(&tx, &mut case, card).await
            }
        })
        .await;
    town.settle().await;
    assert_eq!(town.told(&order).await, ["payment.failed", "payment.authorized"]);
    let lonely = town.ordered("4000000000009995").await;
    let payment = town.desk.payment(&lonely).await.unwrap();
    town.desk.close_window(payment.id).await;
    town.desk.close_window(payment.id).await;
    let said = town.desk.said(payment.id).await;
    let windows: Vec<bool> = said.iter().map(|(_, state)| state.retry_until.is_some()).collect();
    assert_eq!(windows, [true, false], "one refusal with a window, one that is final");
}

#[tokio::test]
async fn a_hold_that_ran_out_ends_the_payment_for_good() {
    let town = Town::open().await;
    let order = town.ordered("4000000000007015").await;
    town.desk.hear(&order, ACCEPTED).await;
    town.settle().await;
    assert_eq!(town.state(&order).await, AttemptState::Expired);
    let payment = town.desk.payment(&order).await.unwrap();
    let said = town.desk.said(payment.id).await;
    assert_eq!((said[1].0.as_str(), said[1].1.retry_until), ("payment.failed", None));
}

#[tokio::test]
async fn an_answered_challenge_is_seen_and_an_open_one_is_withdrawn_when_the_order_ends() {
    let town = Town::open().await;
    let (answered, left) = (town.ordered("4000000000003220").await, town.ordered("4000000000003220").await);
    assert_eq!(town.state(&answered).await, AttemptState::RequiresAction);
    let payment = town.desk.payment(&answered).await.unwrap();
    let attempts = store::attempts(&town.desk.state.store.read(), payment.org_id, payment.id).await.unwrap();
    let url = attempts[0].challenge_url.clone().unwrap();
    let pass = serde_json::json!({ "outcome": "pass" });
    assert!(town.client.post(&url).json(&pass).send().await.unwrap().status().is_success());
    town.desk.hear(&left, ENDED).await;
    town.settle().await;
    assert_eq!(town.state(&answered).await, AttemptState::Authorized);
    assert_eq!(town.state(&left).await, AttemptState::Declined);
    assert_eq!(town.told(&left).await, ["payment.failed"]);
}

#[tokio::test]
async fn refunds_come_in_parts_never_exceed_the_capture_and_a_refused_one_gives_its_share_back() {
    let town = Town::open().await;
    let (order, stubborn) = (town.ordered("4242424242424242").await, town.ordered("4000000000005126").await);
    for one in [&order, &stubborn] {
        town.desk.hear(one, ACCEPTED).await;
    }
    town.settle().await;
    for (one, amount, fits) in
        [(&order, 1_500, true), (&order, 501, false), (&order, 500, true), (&stubborn, 2_000, true)]
    {
        let (org, id) = (one.org_id, one.order_id);
        town.desk
            .unit(move |tx| async move {
                let mut case = Case::of(&tx, org, id, crate::attempt::Heard::default()).await?.unwrap();
                let wish = Wish { amount_minor: amount, reason: String::new(), requested_by: None, key: None };
                assert_eq!(refunding::ask(&tx, &mut case, wish).await?.is_ok(), fits, "{amount}");
                Ok(())
            })
            .await;
    }
    town.settle().await;
    let payment = town.desk.payment(&order).await.unwrap();
    assert_eq!((payment.status, payment.refunded_minor), (PaymentStatus::Refunded, 2_000));
    let payment = town.desk.payment(&stubborn).await.unwrap();
    assert_eq!((payment.status, payment.promised_minor, payment.refunded_minor), (PaymentStatus::Success, 0, 0));
    town.books_agree().await;
}

#[tokio::test]
async fn a_refund_that_the_card_refuses_after_the_order_ended_is_asked_for_again_under_a_new_key_and_not_for_ever() {
    let town = Town::open().await;
    let stubborn = town.ordered("4000000000005126").await;
    town.desk.hear(&stubborn, ACCEPTED).await;
    town.settle().await;
    town.desk.hear(&stubborn, ENDED).await;
    let id = town.desk.payment(&stubborn).await.unwrap().id;
    let waits = sql!(Scalar<Timestamp>, "SELECT due_at AS value FROM saga_timer WHERE entity_id = $1 AND step = $2");
    for (refunds, hours) in [(1, Some(1)), (2, Some(6)), (3, Some(24)), (4, Some(72)), (5, None)] {
        town.settle().await;
        let payment = town.desk.payment(&stubborn).await.unwrap();
        assert_eq!((payment.refunds, payment.promised_minor, payment.refunded_minor), (refunds, 0, 0));
        let db = town.desk.state.store.read();
        let due = db.maybe(waits, params![id, *refunding::REFUND_AGAIN]).await.unwrap();
        let Some(hours) = hours else {
            assert_eq!(due, None, "from here on it takes a person");
            break;
        };
        let wait = due.unwrap().0.micros() - town.desk.clock.now().micros();
        assert!((hours * 3600 - 60..=hours * 3600).contains(&(wait / 1_000_000)), "{refunds}: {wait} µs");
        town.desk.fire(id, refunding::REFUND_AGAIN, jobs::refund_again).await;
    }
    town.books_agree().await;
}

#[tokio::test]
async fn a_provider_that_is_away_is_asked_again_when_it_is_back_and_an_order_that_ended_first_is_never_charged() {
    let town = Town::open().await;
    let over = order("tok_none");
    town.desk.hear(&over, ENDED).await;
    town.desk.create(&over).await;
    assert_eq!(town.desk.payment(&over).await, None);
    let unknown = town.ordered("4242424242424242").await;
    town.desk.hear(&unknown, ENDED).await;
    town.settle().await;
    assert_eq!(town.told(&unknown).await, ["payment.authorized", "payment.voided"]);
    assert_eq!(town.desk.payment(&unknown).await.unwrap().status, PaymentStatus::Failed);
}

fn key() -> Live<Pair> {
    Live::fixed(Pair::only(Secret::new(b"key")))
}
