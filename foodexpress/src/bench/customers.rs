//! Customers of a city under load: signed in, with something to eat and a card, their orders ready to be sent.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use contracts::demo;

use super::town::Town;
use super::wire::{Reply, Wires, request};
use crate::client::{Client, sign_in};
use crate::walk::{choose_meal, order_body, tokenise};

/// How many order, and at how many restaurants that accept by themselves.
const CUSTOMERS: usize = 8;
const RESTAURANTS: usize = 10;
/// How long a new city may take to know its own menus everywhere.
const PATIENCE: Duration = Duration::from_secs(30);

/// Everybody who orders.
pub(super) struct Customers {
    wires: Wires,
    tokens: Vec<String>,
    bodies: Vec<Vec<u8>>,
}

impl Customers {
    /// Signs them in, and places one order at each restaurant; gives the customers and those orders.
    pub(super) async fn gather(town: &Town) -> Result<(Self, Vec<String>)> {
        let guest = Client::new(town.map.gateways())?;
        let mut tokens = Vec::new();
        for number in 0..CUSTOMERS {
            let token = sign_in(&guest, &format!("customer{number}@demo.example"), demo::PASSWORD).await?;
            tokens.push(format!("Bearer {token}"));
        }
        let card = tokenise(&guest, &town.map.card_network()?).await?;
        let mut bodies = Vec::new();
        for number in 0..RESTAURANTS {
            let meal = choose_meal(&guest, number, Some(true)).await?;
            bodies.push(serde_json::to_vec(&order_body(&meal, &card))?);
        }
        let all = Self { wires: Wires::to(town.door()?), tokens, bodies };
        let mut first = Vec::new();
        for number in 0..RESTAURANTS {
            first.push(all.first_order(number).await?);
        }
        Ok((all, first))
    }

    /// A new city's services learn of each other's menus by events: the first order waits for that.
    async fn first_order(&self, number: usize) -> Result<String> {
        let began = Instant::now();
        loop {
            match order_id(&self.wires.ask(&self.order(number)).await?) {
                Ok(id) => return Ok(id),
                Err(error) if began.elapsed() > PATIENCE => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Their connections to the city.
    pub(super) fn wires(&self) -> &Wires {
        &self.wires
    }

    /// The `number`th order as bytes, under a key of its own.
    pub(super) fn order(&self, number: usize) -> Vec<u8> {
        let key = kernel::ids::fresh().to_string();
        let headers =
            [("authorization", self.tokens[number % self.tokens.len()].as_str()), ("idempotency-key", key.as_str())];
        request("POST", "/api/v1/orders", &headers, &self.bodies[number % self.bodies.len()])
    }
}

/// The order that an answer acknowledges.
pub(super) fn order_id(reply: &Reply) -> Result<String> {
    let text = || String::from_utf8_lossy(&reply.body).into_owned();
    ensure!((200..300).contains(&reply.status), "an order was refused: {} {}", reply.status, text());
    let body: serde_json::Value = serde_json::from_slice(&reply.body)?;
    body["id"].as_str().map(str::to_owned).with_context(|| format!("no id in {}", text()))
}
