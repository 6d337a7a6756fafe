//! `demo order`: sign in, order, pay, accept, cook, deliver, and who was told; each step with its time.

use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::Args;
use serde_json::{Value, json};

use super::CityArgs;
use crate::city::{City, CityMap, DataFolder};
use crate::client::Client;
use crate::output::Output;
use crate::walk::{as_account, choose_meal, order_body, tokenise, until, until_found};

/// One order from sign-in to delivery.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: foodexpress demo order --data city\nStarts a city for itself if none runs in the data folder."
)]
pub(super) struct Order {
    #[command(flatten)]
    city: CityArgs,
}

/// A running city, ours or somebody else's.
pub(super) struct Stage {
    pub(super) map: CityMap,
    ours: Option<City>,
}

impl Stage {
    /// The city in this folder; one is started if none runs.
    pub(super) async fn set(data: DataFolder, args: &CityArgs, out: Output) -> Result<Self> {
        super::serve::log_to_stderr("city")?;
        if let Some(map) = data.running() {
            return Ok(Self { map, ours: None });
        }
        let began = Instant::now();
        let city = City::start(&args.plan(data)).await?;
        out.say(format!("started a city in {} ms", began.elapsed().as_millis()));
        Ok(Self { map: city.map.clone(), ours: Some(city) })
    }

    /// Stops the city if it is ours.
    pub(super) async fn strike(self) {
        if let Some(city) = self.ours {
            city.stop().await;
        }
    }
}

/// Prints each step with the time since the last.
pub(super) struct Steps {
    out: Option<Output>,
    began: Instant,
    last: Instant,
}

impl Steps {
    /// For a command that does the same and has other things to tell.
    pub(super) fn quiet() -> Self {
        Self { out: None, began: Instant::now(), last: Instant::now() }
    }

    fn done(&mut self, step: &str, told: &str) {
        let (took, at) = (self.last.elapsed().as_millis(), self.began.elapsed().as_millis());
        self.last = Instant::now();
        let Some(out) = self.out else { return };
        let text = format!("{} {step:<14} {told}  ({took} ms)", out.mark(true, "✓"));
        out.row(text, &json!({"step": step, "told": told, "took_ms": took, "at_ms": at}));
    }
}

impl Order {
    pub(super) async fn run(self, data: DataFolder, out: Output) -> Result<()> {
        let stage = Stage::set(data, &self.city, out).await?;
        let result = walk(&stage.map, out).await;
        stage.strike().await;
        out.result(&result?);
        Ok(())
    }
}

async fn walk(map: &CityMap, out: Output) -> Result<Value> {
    let mut steps = Steps { out: Some(out), began: Instant::now(), last: Instant::now() };
    let guest = Client::new(map.gateways())?;
    let customer = as_account(&guest, "customer0@demo.example").await?;
    steps.done("signed in", "customer0@demo.example, by authorization code with PKCE");
    let meal = choose_meal(&guest, 0, Some(false)).await?;
    steps.done("chose", &format!("{} from {}", meal.items.join(" and "), meal.restaurant));
    let card = tokenise(&customer, &map.card_network()?).await?;
    steps.done(
        "card",
        &format!("{} ****{}: only the provider saw the number", card["brand"], card["last4"]).replace('"', ""),
    );
    let answer = customer.post("/api/v1/orders", &order_body(&meal, &card)).await?;
    let trace_id = answer.trace_id.clone().unwrap_or_default();
    let order = answer.ok("placing the order")?;
    let id = order["id"].as_str().or(order["order_id"].as_str()).context("an order has an id")?.to_owned();
    steps.done(
        "ordered",
        &format!("{} for {} {}, trace {trace_id}", order["code"], order["total_minor"], order["currency"])
            .replace('"', ""),
    );
    until(&customer, &id, &["AWAITING_ACCEPTANCE"]).await?;
    steps.done("authorised", "the bank holds the money, the stock is set aside");
    cook(&guest, &customer, &meal.org_id, &id, &mut steps).await?;
    deliver(&guest, &customer, &meal.place, &id, &mut steps).await?;
    let told = told(&customer, &id).await?;
    steps.done("told", &format!("{} messages, the last: {}", told.len(), told.last().map_or("", String::as_str)));
    let elapsed_ms = u64::try_from(steps.began.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(json!({"status": "DELIVERED", "order_id": id, "trace_id": trace_id, "elapsed_ms": elapsed_ms}))
}

/// The kitchen takes the order and cooks it.
pub(super) async fn cook(guest: &Client, customer: &Client, org: &str, id: &str, steps: &mut Steps) -> Result<()> {
    let number = (0..contracts::demo::ORGANISATIONS).find(|n| contracts::demo::organisation(*n).to_string() == org);
    let owner = as_account(guest, &format!("owner{}@demo.example", number.context("a demo organisation")?)).await?;
    let ticket = format!("/api/v1/kitchen/tickets/{id}");
    until_found("the ticket", async || {
        let answer = owner.post(&format!("{ticket}/accept"), &json!({})).await?;
        Ok(answer.status.is_success().then_some(()))
    })
    .await?;
    steps.done("accepted", "by the kitchen");
    until(customer, id, &["CONFIRMED", "PREPARING", "READY"]).await?;
    steps.done("captured", "the money was taken, the order is confirmed");
    until(customer, id, &["PREPARING", "READY"]).await?;
    owner.post(&format!("{ticket}/ready"), &json!({})).await?.ok("saying that the food is ready")?;
    until(customer, id, &["READY"]).await?;
    steps.done("cooked", "the food is ready");
    Ok(())
}

/// A courier brings it.
pub(super) async fn deliver(
    guest: &Client,
    customer: &Client,
    place: &Value,
    id: &str,
    steps: &mut Steps,
) -> Result<()> {
    let courier = as_account(guest, "courier0@demo.example").await?;
    let shift = json!({"on": true, "place": place});
    let put = reqwest::Method::PUT;
    courier.insist(put.clone(), "/api/v1/couriers/me/shift", Some(&shift)).await?.ok("starting a shift")?;
    let picked = format!("/api/v1/deliveries/{id}/picked-up");
    until_found("the delivery", async || {
        let answer = courier.post(&picked, &json!({})).await?;
        Ok(answer.status.is_success().then_some(()))
    })
    .await?;
    until(customer, id, &["OUT_FOR_DELIVERY"]).await?;
    steps.done("picked up", "by courier0@demo.example");
    courier.post(&format!("/api/v1/deliveries/{id}/delivered"), &json!({})).await?.ok("handing it over")?;
    until(customer, id, &["DELIVERED"]).await?;
    steps.done("delivered", "the customer has it");
    let off = json!({"on": false});
    courier.insist(put, "/api/v1/couriers/me/shift", Some(&off)).await?.ok("ending the shift")?;
    Ok(())
}

/// What the customer was told, once the last message is there.
async fn told(customer: &Client, id: &str) -> Result<Vec<String>> {
    until_found("the last message", async || {
        let list = customer
            .get(&format!("/api/v1/notifications?order_id={id}&page_size=100"))
            .await?
            .ok("reading messages")?;
        let messages = list["items"].as_array().cloned().unwrap_or_default();
        let titles: Vec<String> =
            messages.iter().rev().filter_map(|m| m["title"].as_str().map(str::to_owned)).collect();
        // One for each of the seven statuses on the way, and one for the courier.
        Ok((titles.len() >= 8).then_some(titles))
    })
    .await
}
