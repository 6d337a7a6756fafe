//! Events: declared once, published through the outbox of a transaction, consumed once in the consumer's own.

mod access;
mod admin;
pub(crate) mod apply;
mod carrier;
mod consumer;
mod envelope;
mod feed;
mod fits;
mod follow;
mod health;
mod inbox;
#[cfg(feature = "kafka")]
pub mod kafka;
mod moving;
mod offsets;
mod outbox;
mod parking;
mod projection;
mod purge;
mod reaction;
mod rebuild;
mod recent;
pub(crate) mod relay;
mod replay;
mod road;
mod source;
pub(crate) mod wire;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

pub use access::access_lines;
pub(crate) use admin::{Hands, admin_router};
pub(crate) use apply::Patience;
pub(crate) use carrier::Carrier;
pub(crate) use consumer::Consumer;
pub use envelope::{Envelope, Received};
pub(crate) use feed::{Authorize, Backoff, FeedError, Link};
pub use follow::Follower;
pub use health::{BusHealth, Flow, PartitionHealth, PublisherHealth, RelayHealth};
pub use inbox::ParkedRow;
pub use moving::{Edge, edges, move_edge};
pub(crate) use outbox::{Outgoing, outbox_head, outbox_waiting};
pub use parking::{Redriven, drop_parked, parked, parked_count, redrive};
pub use projection::{forget, keep, projected, projected_by_id, projected_in_org};
pub use purge::{Purged, purge};
pub use reaction::{Fault, Reaction};
pub(crate) use rebuild::rebuild;
pub(crate) use recent::Recent;
pub(crate) use relay::RELAY;
pub(crate) use replay::tail;
pub use replay::{adopt_epoch, replay};
pub use road::{BusSettings, KafkaSettings, Protection, Road, Routing, literal_name};
pub(crate) use source::{identity as outbox_identity, outbox_service};

/// What is known about an event type without looking at an instance.
#[derive(Clone, Copy)]
pub struct EventDef {
    /// Its type name, such as `order.created`.
    pub name: &'static str,
    /// Version of its schema.
    pub version: u32,
    /// The service that publishes it.
    pub publisher: &'static str,
    /// The stream it goes into; one aggregate's events share one.
    pub topic: &'static str,
    /// The kind of thing it is about.
    pub aggregate: &'static str,
    /// One sentence on when it happens.
    pub summary: &'static str,
    /// Other names by which the world knows it.
    pub aliases: &'static [&'static str],
    /// Its payload's schema.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
}

impl std::fmt::Debug for EventDef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} v{} by {}", self.name, self.version, self.publisher)
    }
}

/// Which version of which thing an event tells of, and for whom it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The organisation whose data it is.
    pub org: Uuid,
    /// The aggregate's identity.
    pub id: Uuid,
    /// The aggregate's version after the change; consumers compare it.
    pub version: i64,
}

/// The data inside an event; it knows what it is about.
pub trait Payload: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// What it is about.
    fn subject(&self) -> Subject;
}

/// One event type. Use [`events!`](crate::events!) to declare them.
pub trait Event: Sized + Send + Sync + 'static {
    /// The type's declaration.
    const DEF: EventDef;
    /// The data it carries.
    type Payload: Payload;
    /// The data.
    fn payload(&self) -> &Self::Payload;
    /// An event around this data.
    fn from_payload(payload: Self::Payload) -> Self;
}

/// Declares what one service publishes: `events! { publisher "orders", topic "orders.events", aggregate "order"; /// … "order.created" v1 [] => OrderCreated(OrderState); }`.
#[macro_export]
macro_rules! events {
    (publisher $publisher:literal, topic $topic:literal, aggregate $aggregate:literal;
     $( #[doc = $summary:literal] $name:literal v $version:literal [$($alias:literal),*] => $event:ident($payload:ty); )+) => {
        $(
            #[doc = $summary]
            #[derive(Clone, Debug)]
            pub struct $event(pub $payload);
            impl $crate::events::Event for $event {
                const DEF: $crate::events::EventDef = $crate::events::EventDef {
                    name: $name,
                    version: $version,
                    publisher: $publisher,
                    topic: $topic,
                    aggregate: $aggregate,
                    summary: $summary,
                    aliases: &[$($alias),*],
                    schema: |generator| generator.subschema_for::<$payload>(),
                };
                type Payload = $payload;
                fn payload(&self) -> &$payload { &self.0 }
                fn from_payload(payload: $payload) -> Self { Self(payload) }
            }
            impl ::std::ops::Deref for $event {
                type Target = $payload;
                fn deref(&self) -> &$payload { &self.0 }
            }
        )+
        /// Every event type of this file.
        pub const EVENTS: &[$crate::events::EventDef] = &[$(<$event as $crate::events::Event>::DEF),+];
    };
}
