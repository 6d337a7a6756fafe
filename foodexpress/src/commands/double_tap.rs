//! `demo double-tap`: an impatient thumb. Many parallel posts under one key are one order, one charge, one answer.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use super::CityArgs;
use super::demo::{Stage, Steps, cook, deliver};
use crate::city::{CityMap, DataFolder};
use crate::client::{Answer, Client, Insider};
use crate::output::Output;
use crate::walk::{as_account, choose_meal, order_body, tokenise, until};

/// Many parallel posts under one key.
#[derive(Debug, Args)]
#[command(after_help = "Example: foodexpress demo double-tap -n 50")]
pub(super) struct DoubleTap {
    /// How many posts.
    #[arg(short, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    number: u32,
    #[command(flatten)]
    city: CityArgs,
}

impl DoubleTap {
    pub(super) async fn run(self, data: DataFolder, out: Output) -> Result<ExitCode> {
        let stage = Stage::set(data.clone(), &self.city, out).await?;
        let insider = Insider::of(&data, &stage.map).await?;
        let result = tap(&stage.map, &insider, self.number, out).await;
        stage.strike().await;
        let result = result?;
        out.result(&result);
        let right = json!({"orders": 1, "charges": 1, "distinct_answers": 1, "changed_body_status": 422});
        let held = right.as_object().is_some_and(|want| want.iter().all(|(name, value)| &result[name] == value));
        Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

async fn tap(map: &CityMap, insider: &Insider, number: u32, out: Output) -> Result<Value> {
    let guest = Client::new(map.gateways())?;
    let customer = as_account(&guest, "customer1@demo.example").await?;
    let meal = choose_meal(&guest, 0, Some(false)).await?;
    let card = tokenise(&customer, &map.card_network()?).await?;
    let body = order_body(&meal, &card);
    let key = kernel::ids::fresh();
    let posts = (0..number).map(|_| answered(&customer, &body, &key));
    let answers = futures::future::try_join_all(posts).await?;
    let replayed = answers.iter().filter(|a| a.replayed).count();
    out.say(format!("{number} posts under one key: {} first answer, {replayed} replays", answers.len() - replayed));
    let distinct: BTreeSet<&str> = answers.iter().map(|a| a.text.as_str()).collect();
    let orders: BTreeSet<String> = answers.iter().filter_map(|a| a.body["id"].as_str().map(str::to_owned)).collect();
    let id = orders.iter().next().context("no answer carries an order")?;
    until(&customer, id, &["AWAITING_ACCEPTANCE"]).await?;
    cook(&guest, &customer, &meal.org_id, id, &mut Steps::quiet()).await?;
    let charges = charges(insider, &orders).await?;
    let changed = customer.send(Method::POST, "/api/v1/orders", Some(&other(body)), Some(&key)).await?;
    out.say(format!("the same key with another body: {} {}", changed.status, changed.body["code"]));
    // Nothing is left on its way: whoever audits the city next finds it in order, and its courier free.
    deliver(&guest, &customer, &meal.place, id, &mut Steps::quiet()).await?;
    Ok(json!({
        "requests": number, "orders": orders.len(), "charges": charges, "distinct_answers": distinct.len(),
        "changed_body_status": changed.status.as_u16(),
    }))
}

/// Posts until the city answers for good: while a rival is at work it says so, and to wait.
async fn answered(customer: &Client, body: &Value, key: &uuid::Uuid) -> Result<Answer> {
    loop {
        let answer = customer.send(Method::POST, "/api/v1/orders", Some(body), Some(key)).await?;
        if !matches!(answer.status.as_u16(), 409 | 429 | 503) {
            return Ok(answer);
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

fn other(mut body: Value) -> Value {
    body["deliver_to"]["note"] = json!("another note");
    body
}

/// What the card network itself knows of charges for these orders, by our reference.
async fn charges(insider: &Insider, orders: &BTreeSet<String>) -> Result<usize> {
    let mut count = 0;
    for order in orders {
        let known = insider.network(&format!("/v1/lookup?reference={order}")).await?;
        let holds = known["authorizations"].as_array().cloned().unwrap_or_default();
        count += holds.iter().filter_map(|hold| hold["captures"].as_array()).map(Vec::len).sum::<usize>();
    }
    Ok(count)
}
