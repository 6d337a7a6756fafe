//! The city as Prometheus finds it: a list in the form of its file discovery.

use serde_json::{Value, json};

use super::{CARD_NETWORK, CityMap};

/// Every member that shows metrics, with the service's name as a label. The card network is not the city's.
pub(crate) fn targets(map: &CityMap) -> Value {
    let ours = map.members.iter().filter(|(name, _)| *name != CARD_NETWORK);
    ours.map(|(name, member)| json!({"targets": [member.address.to_string()], "labels": {"service": name}})).collect()
}
