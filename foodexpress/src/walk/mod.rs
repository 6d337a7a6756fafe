//! One order as its people live it: the steps that demos, load and the kill harness are made of.

mod meal;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use contracts::demo;
use serde_json::{Value, json};

pub(crate) use meal::{Meal, choose_meal, tokenise};

use crate::client::{Client, sign_in};

/// How long a step may take to show before the walk gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A demo account's client.
pub(crate) async fn as_account(client: &Client, email: &str) -> Result<Client> {
    let token = sign_in(client, email, demo::PASSWORD).await.with_context(|| format!("signing in {email}"))?;
    Ok(client.with_token(token))
}

/// Waits until the order reaches one of these statuses; an end that is none of them is an error.
pub(crate) async fn until(client: &Client, order: &str, wanted: &[&str]) -> Result<Value> {
    const ENDS: &[&str] = &["DELIVERED", "FAILED", "REJECTED", "EXPIRED", "CANCELLED"];
    let began = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        let seen = client.get(&format!("/api/v1/orders/{order}")).await?.ok("looking at the order")?;
        let status = seen["status"].as_str().unwrap_or("").to_owned();
        if wanted.contains(&status.as_str()) {
            return Ok(seen);
        }
        if ENDS.contains(&status.as_str()) {
            bail!("the order ended as {status}: {}", seen["reason"]);
        }
        if began.elapsed() > PATIENCE {
            bail!("the order is still {status} after {PATIENCE:?}; `foodexpress why {order}` says what it waits for");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// Repeats a question until the answer fits.
pub(crate) async fn until_found<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let began = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(found) = ask().await? {
            return Ok(found);
        }
        if began.elapsed() > PATIENCE {
            bail!("{what} did not show within {PATIENCE:?}");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// The body that places an order for this meal.
pub(crate) fn order_body(meal: &Meal, card: &Value) -> Value {
    json!({
        "restaurant_id": meal.restaurant_id,
        "lines": meal.lines,
        "deliver_to": {
            "name": "Demo Customer", "street": "Harbour Street 7", "city": meal.city,
            "place": meal.place, "note": "second floor",
        },
        "card": card,
    })
}
