//! Customers and kitchens under fire. The list of acknowledgements is kept here, outside the city.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use reqwest::Method;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::plan::{self, Hand};
use crate::city::CityMap;
use crate::client::{Client, sign_in};
use crate::walk::{Meal, choose_meal, order_body, tokenise};

/// What customers need: themselves, something to eat, and a card.
pub(super) struct Load {
    guest: Client,
    customers: Vec<(String, Mutex<Client>)>,
    meals: Vec<Meal>,
    card: Value,
    seed: u64,
    next: AtomicUsize,
    /// Orders that the city said it took.
    pub acknowledged: Mutex<BTreeSet<String>>,
    /// Posts that were never answered, and refusals by code.
    pub refused: Mutex<Vec<String>>,
}

/// How many demo customers order.
const CUSTOMERS: usize = 10;
/// Customers at work at the same time.
const WORKERS: usize = 12;

impl Load {
    /// Signs everybody in, reads the menus, gets a card: before the first kill.
    pub(super) async fn prepare(map: &CityMap, seed: u64) -> Result<Self> {
        let guest = Client::new(map.gateways())?;
        let mut customers = Vec::new();
        for number in 0..CUSTOMERS {
            let email = format!("customer{number}@demo.example");
            let client = crate::walk::as_account(&guest, &email).await?;
            customers.push((email, Mutex::new(client)));
        }
        let mut meals = Vec::new();
        for number in 0..12 {
            meals.push(choose_meal(&guest, number, None).await?);
        }
        let card = tokenise(&guest, &map.card_network()?).await?;
        Ok(Self {
            guest,
            customers,
            meals,
            card,
            seed,
            next: AtomicUsize::new(0),
            acknowledged: Mutex::default(),
            refused: Mutex::default(),
        })
    }

    /// Places `orders` orders, spread evenly over `span`.
    pub(super) async fn run(
        self: &Arc<Self>,
        orders: usize,
        span: Duration,
        placed: impl Fn(usize) + Send + Sync,
    ) -> Result<()> {
        let pause = span.mul_f64(1.0 / f64::from(u32::try_from(orders.max(1)).context("fewer orders than that")?));
        let began = tokio::time::Instant::now();
        let worker = || async {
            loop {
                let number = self.next.fetch_add(1, Ordering::SeqCst);
                if number >= orders {
                    return;
                }
                tokio::time::sleep_until(began + pause * u32::try_from(number).unwrap_or(u32::MAX)).await;
                if let Err(error) = self.one(number).await {
                    self.refused.lock().push(format!("{error:#}"));
                }
                placed(1);
            }
        };
        futures::future::join_all((0..WORKERS).map(|_| worker())).await;
        Ok(())
    }

    async fn one(&self, number: usize) -> Result<()> {
        let guest = plan::guest(self.seed, number);
        let meal = &self.meals[guest.restaurant % self.meals.len()];
        let body = order_body(meal, &self.card);
        let (email, slot) = &self.customers[guest.customer % self.customers.len()];
        let client = slot.lock().clone();
        let mut answer = client.insist(Method::POST, "/api/v1/orders", Some(&body)).await?;
        if answer.status == reqwest::StatusCode::UNAUTHORIZED {
            // Tokens last ten minutes; a long run outlives them.
            let fresh = self.sign_in_again(email).await?;
            *slot.lock() = fresh.clone();
            answer = fresh.insist(Method::POST, "/api/v1/orders", Some(&body)).await?;
        }
        let order = answer.ok("placing an order")?;
        let id = order["id"].as_str().context("an acknowledged order has an id")?.to_owned();
        self.acknowledged.lock().insert(id.clone());
        if let Some(after) = guest.cancels_after {
            tokio::time::sleep(after).await;
            // Too late is a fine answer: the order's judge decides.
            drop(client.insist(Method::POST, &format!("/api/v1/orders/{id}/cancel"), Some(&json!({}))).await);
        }
        Ok(())
    }

    async fn sign_in_again(&self, email: &str) -> Result<Client> {
        let mut tries = 0;
        loop {
            match sign_in(&self.guest, email, contracts::demo::PASSWORD).await {
                Ok(token) => return Ok(self.guest.with_token(token)),
                Err(error) if tries >= 50 => return Err(error),
                Err(_) => tries += 1,
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// The people at kitchens that do not accept by themselves: they look at their tickets again and again.
pub(super) async fn work_kitchens(map: &CityMap, seed: u64, stop: CancellationToken) -> Result<()> {
    let guest = Client::new(map.gateways())?;
    let mut owners = Vec::new();
    for number in 0..contracts::demo::ORGANISATIONS {
        owners.push(crate::walk::as_account(&guest, &format!("owner{number}@demo.example")).await?);
    }
    while !stop.is_cancelled() {
        for owner in &owners {
            let Ok(list) = owner.get("/api/v1/kitchen/tickets?status=OPEN&page_size=100").await else { continue };
            for ticket in list.body["items"].as_array().cloned().unwrap_or_default() {
                let Some(order) = ticket["order_id"].as_str() else { continue };
                let (verb, body) = match plan::hand(seed, order) {
                    Hand::Accepts => ("accept", json!({})),
                    Hand::Rejects => ("reject", json!({"reason": "the oven is broken"})),
                    Hand::Ignores => continue,
                };
                // What fails is tried again on the next round.
                drop(owner.post(&format!("/api/v1/kitchen/tickets/{order}/{verb}"), &body).await);
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
