//! Following a publisher without a database of one's own: for gateways that keep a list in memory, and for people.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::feed::{Authorize, Backoff, FeedError, Link};
use super::{Envelope, Event};
use crate::clock::Clock;
use crate::http::Signer;
use crate::registry::Directory;

/// Somebody who watches publishers' outboxes; nothing that it sees has an effect on the city.
#[derive(Clone)]
pub struct Follower {
    link: Arc<Link>,
}

impl Follower {
    /// A follower called `name`, which proves itself with `signer`.
    pub fn new(name: &'static str, directory: Directory, signer: Signer, clock: Clock) -> Self {
        let authorize: Authorize = Arc::new(move |publisher| signer.sign(name, publisher, None, clock.now()));
        Self { link: Arc::new(Link { consumer: name, directory, authorize }) }
    }

    /// Calls `each` for every event of type `E` from the beginning of the outbox on, until `shutdown`; after a broken
    /// connection it goes on where it was, or from the beginning if the publisher's database was made anew.
    pub async fn every<E: Event>(&self, mut each: impl FnMut(&Envelope) + Send, shutdown: CancellationToken) {
        let (mut epoch, mut after) = (Uuid::nil(), 0);
        let mut waits = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        while !shutdown.is_cancelled() {
            let watched =
                self.watch(E::DEF.publisher, vec![E::DEF.name.to_owned()], (&mut epoch, &mut after), &mut each);
            let ended = tokio::select! {
                ended = watched => ended,
                () = shutdown.cancelled() => return,
            };
            if let Err(FeedError::Refused(why)) = ended {
                tracing::warn!(publisher = E::DEF.publisher, %why, "refused; reading from the beginning");
                (epoch, after) = (Uuid::nil(), 0);
            }
            tokio::time::sleep(waits.wait()).await;
        }
    }

    /// Calls `each` for every event of `publisher` after a position, until the connection ends.
    ///
    /// # Errors
    /// Why the connection did not open, or how it ended.
    pub async fn tail(
        &self,
        publisher: &str,
        after: i64,
        mut each: impl FnMut(&Envelope) + Send,
    ) -> Result<(), String> {
        let (mut epoch, mut after) = (Uuid::nil(), after);
        self.watch(publisher, Vec::new(), (&mut epoch, &mut after), &mut each).await.map_err(|e| e.to_string())
    }

    async fn watch(
        &self,
        publisher: &str,
        types: Vec<String>,
        (epoch, after): (&mut Uuid, &mut i64),
        each: &mut (impl FnMut(&Envelope) + Send),
    ) -> Result<(), FeedError> {
        let mut feed = self.link.open(publisher, *epoch, *after, types).await?;
        loop {
            let stretch = feed.next().await?;
            (*epoch, *after) = (stretch.epoch, stretch.upto);
            stretch.events.iter().for_each(&mut *each);
        }
    }
}
