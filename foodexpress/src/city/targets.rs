//! The city as Prometheus finds it: a list in the form of its file discovery.

use serde_json::{Value, json};

use super::{CARD_NETWORK, CityMap};

/// Every member that shows metrics, with the service's name as a label; Prometheus adds the address as `instance`. The card network is not the city's.
pub(crate) fn targets(map: &CityMap) -> Value {
    let ours = map.members.values().filter(|member| member.service != CARD_NETWORK);
    ours.map(|m| json!({"targets": [m.address.to_string()], "labels": {"service": m.service}})).collect()
}
