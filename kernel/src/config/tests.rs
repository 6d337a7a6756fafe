//! Layers, refusals and what they say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Orders {
    /// How long a shop may think.
    accept_within_s: u32,
    note: String,
    retry: Retry,
    limits: BTreeMap<String, u32>,
    cap: Option<u32>,
    store: Place,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
struct Retry {
    attempts: u8,
    enabled: bool,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Place {
    Memory,
    Redis { url: String },
}

impl Settings for Orders {}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 3, enabled: true }
    }
}

impl Default for Orders {
    fn default() -> Self {
        Self {
            accept_within_s: 300,
            note: String::new(),
            retry: Retry::default(),
            limits: BTreeMap::new(),
            cap: None,
            store: Place::Memory,
        }
    }
}

fn file(text: &str) -> Sources {
    Sources::new("FX").text("city.toml", text).unwrap()
}

fn env(pairs: &[(&str, &str)]) -> Sources {
    Sources::new("FX").environment(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
}

fn refusal(sources: &Sources) -> String {
    load::<Orders>("orders", sources).unwrap_err().to_string()
}

#[test]
fn without_any_source_the_defaults_hold() {
    assert_eq!(load::<Orders>("orders", &Sources::new("FX")), Ok(Orders::default()));
}

#[test]
fn each_layer_overrides_the_one_before_key_by_key() {
    let text = "[orders]\naccept_within_s = 1\nnote = 'file'\n[orders.retry]\nattempts = 7\n[payments]\nnote = 3";
    let sources = file(text)
        .text("production.toml", "[orders]\nnote = 'production'")
        .unwrap()
        .environment([("FX_ORDERS__ACCEPT_WITHIN_S".to_owned(), "2".to_owned())])
        .set("orders.retry.enabled", "false");
    let got: Orders = load("orders", &sources).unwrap();
    assert_eq!((got.accept_within_s, got.note.as_str()), (2, "production"));
    assert_eq!(got.retry, Retry { attempts: 7, enabled: false });
    let last: Orders = load("orders", &sources.set("orders.accept_within_s", "3")).unwrap();
    assert_eq!(last.accept_within_s, 3);
}

#[test]
fn variables_become_what_the_type_wants() {
    let sources = env(&[
        ("FX_ORDERS__NOTE", "007"),
        ("FX_ORDERS__RETRY__ATTEMPTS", "9"),
        ("FX_ORDERS__LIMITS__GOLD", "50"),
        ("FX_ORDERS__CAP", "12"),
        ("FX_DATA", "somebody else's"),
        ("OTHER_ORDERS__X", "somebody else's"),
    ]);
    let got: Orders = load("orders", &sources).unwrap();
    assert_eq!((got.note.as_str(), got.retry.attempts, got.limits["gold"], got.cap), ("007", 9, 50, Some(12)));
    let none: Orders = load("orders", &env(&[("FX_ORDERS__CAP", "")])).unwrap();
    assert_eq!(none.cap, None);
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_the_known_ones() {
    assert_eq!(
        refusal(&file("[orders]\nacept_within_s = 1")),
        "unknown key orders.acept_within_s in city.toml; known here: accept_within_s, cap, limits, note, retry, store"
    );
    assert_eq!(
        refusal(&env(&[("FX_ORDERS__RETRY__TIMES", "1")])),
        "unknown key orders.retry.times in FX_ORDERS__RETRY__TIMES; known here: attempts, enabled"
    );
    assert!(
        refusal(&Sources::new("FX").set("orders.cpa", "1")).starts_with("unknown key orders.cpa in the command line")
    );
}

#[test]
fn a_wrong_type_is_refused_with_its_place_and_what_was_expected() {
    assert_eq!(
        refusal(&env(&[("FX_ORDERS__ACCEPT_WITHIN_S", "soon")])),
        "orders.accept_within_s in FX_ORDERS__ACCEPT_WITHIN_S: invalid type: string \"soon\", expected u32"
    );
    let out_of_range = refusal(&file("[orders]\nnote = 'fine'\n[orders.retry]\nattempts = 300"));
    assert!(
        out_of_range.starts_with("orders.retry.attempts in city.toml: invalid value: integer `300`"),
        "{out_of_range}"
    );
    assert_eq!(refusal(&file("orders = 3")), "orders in city.toml: a table was expected");
}

#[test]
fn a_tagged_choice_may_be_changed_as_a_whole() {
    let got: Orders = load("orders", &file("[orders.store]\nkind = 'redis'\nurl = 'redis://one'")).unwrap();
    assert_eq!(got.store, Place::Redis { url: "redis://one".to_owned() });
}

#[test]
fn text_that_is_not_toml_is_refused_with_its_line() {
    let error = Sources::new("FX").text("city.toml", "[orders]\nnote = ").unwrap_err().to_string();
    assert!(error.starts_with("city.toml: TOML parse error at line 2"), "{error}");
}

#[test]
fn settings_of_services_that_do_not_exist_are_refused() {
    let services = ["orders", "card-network"];
    assert_eq!(file("[orders]").refuse_strangers(&services), Ok(()));
    assert_eq!(env(&[("FX_CARD_NETWORK__PORT", "1"), ("FX_DATA", "x")]).refuse_strangers(&services), Ok(()));
    for strange in [file("[ordres]"), env(&[("FX_ORDRES__NOTE", "1")]), Sources::new("FX").set("ordres.note", "1")] {
        assert!(strange.refuse_strangers(&services).unwrap_err().to_string().contains("card-network"));
    }
}

#[test]
fn the_description_carries_comments_and_defaults() {
    let Table { schema, defaults, .. } = Table::of::<Orders>();
    let about = schema.pointer("/properties/accept_within_s/description").unwrap();
    assert_eq!((about, &defaults["accept_within_s"]), (&Value::from("How long a shop may think."), &Value::from(300)));
}
