//! Every table of settings of this program: what is not among them is refused wherever it stands.

use kernel::config::{ConfigSettings, Table, Tables};
use kernel::events::{BusSettings, KafkaSettings};
use kernel::redis::{self, RedisSettings};
use kernel::registry::RegistrySettings;
use kernel::secrets::SecretSettings;
use kernel::store::PostgresSettings;
use kernel::telemetry::{TRACE_TABLE, TraceSettings};

use crate::city::GATEWAY;
use crate::door::DoorSettings;
use crate::services;

/// All of them.
pub(crate) fn tables() -> Tables {
    let services = services::manifests().into_iter().filter_map(|m| Some((m.name.to_owned(), m.settings?)));
    services.chain(others()).collect()
}

/// Those that are no service's.
pub(crate) fn others() -> Tables {
    [
        (GATEWAY.to_owned(), Table::of::<DoorSettings>()),
        (redis::SECTION.to_owned(), Table::of::<RedisSettings>()),
        ("registry".to_owned(), Table::of::<RegistrySettings>()),
        ("config".to_owned(), Table::of::<ConfigSettings>()),
        (TRACE_TABLE.to_owned(), Table::of::<TraceSettings>()),
        ("secrets".to_owned(), Table::of::<SecretSettings>()),
        ("bus".to_owned(), Table::of::<BusSettings>()),
        ("kafka".to_owned(), Table::of::<KafkaSettings>()),
        (PostgresSettings::TABLE.to_owned(), Table::of::<PostgresSettings>()),
    ]
    .into()
}
