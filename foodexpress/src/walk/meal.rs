//! Choosing from a menu, and turning a test card into a token at the provider's own form.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::client::Client;

/// What somebody wants to eat.
#[derive(Clone, Debug)]
pub(crate) struct Meal {
    /// From where.
    pub restaurant_id: String,
    /// The restaurant's name.
    pub restaurant: String,
    /// Its organisation.
    pub org_id: String,
    /// Its city.
    pub city: String,
    /// Near it: where to bring the food.
    pub place: Value,
    /// The order lines.
    pub lines: Value,
    /// The names of the items.
    pub items: Vec<String>,
}

/// The card of the provider's list that always pays.
const GOOD_CARD: &str = "4242424242424242";

/// Something to eat at the `nth` restaurant that fits: the first two items that are not sold out.
///
/// Four portions of one and two of the other are enough for any restaurant's minimum.
pub(crate) async fn choose_meal(client: &Client, nth: usize, auto_accept: Option<bool>) -> Result<Meal> {
    let list = client.get("/api/v1/restaurants?page_size=100").await?.ok("listing restaurants")?;
    let all = list["items"].as_array().context("the list has items")?;
    let fits = |r: &&Value| auto_accept.is_none_or(|wanted| r["auto_accept"] == wanted);
    let fitting: Vec<&Value> = all.iter().filter(fits).collect();
    let count = fitting.len().max(1);
    let chosen = *fitting.get(nth % count).context("no restaurant takes orders; was the demo city loaded?")?;
    let id = text(chosen, "restaurant_id").or_else(|_| text(chosen, "id"))?;
    let menu = client.get(&format!("/api/v1/restaurants/{id}/menu")).await?.ok("reading the menu")?;
    let items = menu["items"].as_array().context("a menu has items")?;
    let open = items.iter().filter(|i| i["sold_out"] != true).take(2).collect::<Vec<_>>();
    let line = |(place, item): (usize, &&Value)| json!({"item_id": item["item_id"], "quantity": if place == 0 { 4 } else { 2 }, "choices": least_choices(item)});
    Ok(Meal {
        org_id: text(chosen, "org_id")?,
        restaurant: text(chosen, "name")?,
        city: text(chosen, "city")?,
        place: chosen["place"].clone(),
        lines: open.iter().enumerate().map(line).collect(),
        items: open.iter().filter_map(|i| i["name"].as_str().map(str::to_owned)).collect(),
        restaurant_id: id,
    })
}

/// As many choices of each group as it demands.
fn least_choices(item: &Value) -> Vec<Value> {
    let groups = item["options"].as_array().map(Vec::as_slice).unwrap_or_default();
    let demanded = |group: &Value| {
        let least = usize::try_from(group["min"].as_u64().unwrap_or(0)).unwrap_or(0);
        let choices = group["choices"].as_array().cloned().unwrap_or_default();
        choices.into_iter().take(least).map(|c| c["choice_id"].clone()).collect::<Vec<_>>()
    };
    groups.iter().flat_map(demanded).collect()
}

fn text(value: &Value, name: &str) -> Result<String> {
    value[name].as_str().map(str::to_owned).with_context(|| format!("no {name} in {value}"))
}

/// The card as we may know it, from the provider's form; the number goes nowhere else.
pub(crate) async fn tokenise(client: &Client, card_network: &str) -> Result<Value> {
    let form = json!({"number": GOOD_CARD, "exp_month": 12, "exp_year": 2030, "cvc": "123"});
    let answer = client.http().post(format!("{card_network}/v1/tokens")).json(&form).send().await?;
    let token: Value = answer.error_for_status().context("the card form was refused")?.json().await?;
    Ok(json!({"token": token["token"], "brand": token["brand"], "last4": token["last4"]}))
}
