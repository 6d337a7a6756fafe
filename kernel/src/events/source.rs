//! The publisher's side of the bus: its outbox as a stream that anybody of the city may follow from a position.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use http::HeaderMap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::outbox_head;
use super::recent::Room;
use super::wire::{LARGEST_MESSAGE, Stored, proto};
use crate::store::{List, Store, StoreError, any};
use crate::{params, row, sql};

/// The most events in a batch …
const BATCH_EVENTS: usize = 256;
/// … and the most bytes of payload, but for a single event that is larger.
const BATCH_BYTES: usize = 1 << 20;
/// Rows read at once, so that a few large payloads do not fill the memory.
const CHUNK: i64 = 64;
/// Positions without anything for a consumer that it is not told of …
const UNTOLD: i64 = 256;
/// … unless it has been quiet for this long.
const QUIET: Duration = Duration::from_secs(5);
/// How far one batch may look ahead: a filter that fits nothing must not scan the whole outbox in one go.
const WINDOW: i64 = 4096;

/// Says which service is calling, or why it may not.
pub(crate) type Verify = Arc<dyn Fn(&HeaderMap) -> Result<String, String> + Send + Sync>;

/// The outbox as a gRPC service. Its streams end when `closing` is cancelled; otherwise a server could never drain.
pub(crate) fn outbox_service(store: Store, verify: Verify, closing: CancellationToken) -> Routes {
    let service = proto::outbox_server::OutboxServer::new(Source { store, verify, closing });
    Routes::new(service.max_encoding_message_size(LARGEST_MESSAGE))
}

struct Source {
    store: Store,
    verify: Verify,
    closing: CancellationToken,
}

row! {
    /// Which outbox this is, and below which position old events have been purged.
    pub(crate) struct OutboxIdentity {
        pub(crate) epoch: Uuid,
        pub(crate) purged_upto: i64,
    }
}

/// The outbox's identity.
pub(crate) async fn identity(store: &Store) -> Result<OutboxIdentity, StoreError> {
    let sql = sql!(OutboxIdentity, "SELECT epoch, purged_upto FROM outbox_epoch WHERE id = 1");
    store.read().one(sql, params![]).await
}

fn broken(error: StoreError) -> Status {
    tracing::error!(%error, "the outbox cannot be read");
    Status::unavailable("the outbox cannot be read at the moment")
}

#[tonic::async_trait]
impl proto::outbox_server::Outbox for Source {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<proto::Batch, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: Request<proto::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let caller = (self.verify)(request.metadata().as_ref()).map_err(Status::unauthenticated)?;
        let wanted = request.into_inner();
        let identity = identity(&self.store).await.map_err(broken)?;
        self.refuse_strangers(&wanted, &identity).await?;
        tracing::debug!(%caller, consumer = %wanted.consumer, after = wanted.after, "a consumer follows the outbox");
        let reading = Reading {
            store: self.store.clone(),
            epoch: identity.epoch.to_string(),
            head: self.store.head(),
            after: wanted.after,
            told: wanted.after,
            types: wanted.types,
            greeted: false,
            closing: self.closing.clone(),
        };
        Ok(Response::new(Box::pin(futures::stream::try_unfold(reading, Reading::next))))
    }
}

impl Source {
    /// A position means something only in the outbox it was made for, and only if that outbox still reaches to it.
    async fn refuse_strangers(
        &self,
        wanted: &proto::SubscribeRequest,
        identity: &OutboxIdentity,
    ) -> Result<(), Status> {
        if wanted.after < 0 {
            return Err(Status::invalid_argument("a position is not negative"));
        }
        if !wanted.epoch.is_empty() && wanted.epoch != identity.epoch.to_string() {
            return Err(Status::failed_precondition(format!(
                "this outbox has epoch {}, not {}: the publisher's database was made anew",
                identity.epoch, wanted.epoch
            )));
        }
        if wanted.after > 0 && wanted.after < identity.purged_upto {
            return Err(Status::failed_precondition(format!(
                "events up to {} have been purged, position {} is before that: replay from 0 reads what is kept",
                identity.purged_upto, wanted.after
            )));
        }
        let known = *self.store.head().borrow();
        if wanted.after > known && wanted.after > outbox_head(&self.store.read()).await.map_err(broken)? {
            return Err(Status::failed_precondition(format!(
                "position {} is beyond this outbox, which ends at {known}: the publisher's database was set back",
                wanted.after
            )));
        }
        Ok(())
    }
}

/// One consumer's place in the outbox.
struct Reading {
    store: Store,
    epoch: String,
    head: watch::Receiver<i64>,
    /// How far it has been read …
    after: i64,
    /// … and how far the consumer knows of; in between there was nothing for it.
    told: i64,
    types: Vec<String>,
    greeted: bool,
    closing: CancellationToken,
}

impl Reading {
    async fn next(mut self) -> Result<Option<(proto::Batch, Self)>, Status> {
        loop {
            // Marked seen before the table is read: a commit in between wakes us once more instead of being missed.
            let head = *self.head.borrow_and_update();
            if head > self.after || !self.greeted {
                let (events, upto) = self.read(head).await.map_err(broken)?;
                self.after = upto;
                // The first batch comes at once, empty or not: it tells the epoch. Later ones are worth a message only
                // for what is in them, or for the way they have come.
                if !self.greeted || !events.is_empty() || upto - self.told >= UNTOLD {
                    return Ok(Some(self.tell(events, head)));
                }
                continue;
            }
            tokio::select! {
                () = self.closing.cancelled() => return Ok(None),
                changed = self.head.changed() => if changed.is_err() { return Ok(None) },
                () = tokio::time::sleep(QUIET), if self.after > self.told => return Ok(Some(self.tell(Vec::new(), head))),
            }
        }
    }

    fn tell(mut self, events: Vec<proto::Event>, head: i64) -> (proto::Batch, Self) {
        let batch = proto::Batch { epoch: self.epoch.clone(), after: self.told, upto: self.after, head, events };
        self.told = self.after;
        self.greeted = true;
        (batch, self)
    }

    /// What comes next, and how far that reaches. Nothing beyond `head` is told, because only up to there all commits are
    /// known to be visible.
    async fn read(&self, head: i64) -> Result<(Vec<proto::Event>, i64), StoreError> {
        let room = Room { events: BATCH_EVENTS, bytes: BATCH_BYTES };
        if let Some(known) = self.store.recent().between(self.after, head.max(self.after), &self.types, &room) {
            return Ok(known);
        }
        let end = head.min(self.after.saturating_add(WINDOW)).max(self.after);
        let mut events: Vec<proto::Event> = Vec::new();
        let (mut bytes, mut upto) = (0_usize, self.after);
        while upto < end {
            let rows = self.chunk(upto, end).await?;
            let short = rows.len() < usize::try_from(CHUNK).expect("a small number");
            let mut full = false;
            for row in rows {
                full = events.len() >= room.events || (bytes + row.payload.len() > room.bytes && !events.is_empty());
                if full {
                    break;
                }
                bytes += row.payload.len();
                upto = row.position;
                events.push(row.into());
            }
            if full {
                break;
            }
            if short {
                upto = end;
            }
        }
        Ok((events, upto))
    }

    async fn chunk(&self, after: i64, end: i64) -> Result<Vec<Stored>, StoreError> {
        let db = self.store.read();
        let types = (!self.types.is_empty()).then(|| any(&self.types));
        if self.store.orders_by_insert() {
            return List::new("SELECT seq AS position, id, org_id, aggregate_id, aggregate_version, event_type, schema_version, payload, headers, created_at FROM outbox")
                .and("seq > {}", after)
                .and("seq <= {}", end)
                .and_if("event_type = ANY({})", types)
                .fetch(&db, "seq", CHUNK)
                .await;
        }
        List::new("SELECT position, id, org_id, aggregate_id, aggregate_version, event_type, schema_version, payload, headers, created_at FROM outbox")
            .and("position > {}", after)
            .and("position <= {}", end)
            .and_if("event_type = ANY({})", types)
            .fetch(&db, "position", CHUNK)
            .await
    }
}
