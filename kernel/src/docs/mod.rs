//! Documents made from declarations: nothing here is written by hand, and stale files fail the tests.

mod asyncapi;
mod openapi;
mod tables;

use std::collections::BTreeMap;

use crate::config::Tables;
use crate::manifest::{Manifest, Permission};

pub use openapi::openapi;

/// What the documents of a whole city are made from.
#[derive(Debug)]
pub struct City<'a> {
    /// The product's name, for titles.
    pub title: &'a str,
    /// Every service.
    pub manifests: &'a [Manifest],
    /// Tables of settings that are no service's.
    pub tables: &'a Tables,
    /// Every permission.
    pub permissions: &'a [Permission],
    /// Every role.
    pub roles: &'a [&'a str],
}

/// Every generated file: its path below the documents' folder, and its text.
pub fn files(city: &City<'_>) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for manifest in city.manifests {
        files.insert(format!("openapi/{}.json", manifest.name), pretty(&openapi(city.title, manifest)));
    }
    files.insert("asyncapi.json".into(), pretty(&asyncapi::asyncapi(city)));
    files.insert("catalogue.md".into(), tables::catalogue(city));
    files.insert("events.md".into(), tables::events(city));
    files.insert("gateway-routes.md".into(), tables::gateway_routes(city));
    files.insert("permissions.md".into(), tables::permissions(city));
    files.insert("refusals.md".into(), tables::refusals(city));
    files.insert("settings.md".into(), tables::settings(city));
    files
}

fn pretty(value: &serde_json::Value) -> String {
    serde_json::to_string_pretty(value).expect("a JSON value becomes text") + "\n"
}
