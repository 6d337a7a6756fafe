//! The bus on Kafka: a relay writes each service's outbox to topics, a consumer group per service reads them.
//!
//! Kafka carries events; it decides nothing. What was sent stands in the publisher's database, what took effect in the
//! consumer's, and the unit that holds the effects also moves the offset. So the promises are those of the stream.

mod client;
mod cursor;
mod group;
mod lane;
mod member;
mod membership;
mod record;
mod relay;
mod rewind;
mod tail;
mod topics;

pub use client::Connection;
pub use rewind::replay_since;
pub use tail::tail;
pub use topics::{Topics, ensure_topics, remove_topics};

pub(crate) use group::GroupConsumer;
pub(crate) use relay::Relay;

/// Requests that a person or a start-up waits for are given up after this long.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);
