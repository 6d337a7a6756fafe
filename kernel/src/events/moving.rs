//! Moving a pair of publisher and consumer from one bus to the other: the place on the one is translated to the other.

use std::sync::Arc;

use uuid::Uuid;

use super::inbox::{self, Place};
use super::offsets::{self, OffsetRow};
use super::parking::plain;
use super::{BusHealth, Road};
use crate::store::{Db, Store, StoreError, Tx};
use crate::{params, row, sql};

row! {
    /// How a consumer reads one publisher.
    pub struct Edge {
        /// The publisher.
        pub publisher: String,
        /// `stream` or `kafka`.
        pub road: String,
        /// On the stream the position reached; on Kafka the position below which everything took effect by the stream.
        pub position: i64,
    }
}

/// How often the row of a busy consumer is asked for; each time waits as long as the store lets it.
const ATTEMPTS: u32 = 8;

/// By which road each publisher is read.
pub async fn edges(db: &Db) -> Result<Vec<Edge>, StoreError> {
    let sql = sql!(Edge, "SELECT publisher, road, position FROM bus_position ORDER BY publisher");
    db.all(sql, params![]).await
}

/// Lets a publisher's events come by `to` from now on; false if they did already. `slices` is how many partitions carry them.
///
/// One unit decides: what began on the old road before it and has not committed is fenced off. To Kafka the position
/// stays as the mark below which events are skipped, and the log is read from its beginning. Back to the stream it
/// becomes the lowest position below which every partition was handled; what is streamed again beyond it, the inbox knows.
pub async fn move_edge(
    store: &Store,
    health: &BusHealth,
    publisher: &str,
    to: Road,
    slices: usize,
) -> Result<bool, StoreError> {
    let publisher: Arc<str> = publisher.into();
    let mut attempts = 1;
    loop {
        let publisher = publisher.clone();
        let unit = move |tx: Tx| {
            let publisher = publisher.clone();
            async move { relocate(&tx, &publisher, to, slices).await }
        };
        match store.write(unit).await.map_err(plain) {
            // A consumer at work has the row nearly all the time, and nobody queues for it in order.
            Err(StoreError::LockTimeout) if attempts < ATTEMPTS => attempts += 1,
            Err(error) => return Err(error),
            Ok(moved) => {
                health.look_again();
                return Ok(moved);
            }
        }
    }
}

async fn relocate(tx: &Tx, publisher: &str, to: Road, slices: usize) -> Result<bool, StoreError> {
    inbox::hold(tx, publisher).await?;
    let Some(now) = inbox::road(tx, publisher).await? else {
        let sql = sql!(
            "INSERT INTO bus_position (publisher, epoch, position, road) VALUES ($1, $2, 0, $3) ON CONFLICT (publisher) DO NOTHING"
        );
        return Ok(tx.run(sql, params![publisher, Uuid::nil(), to.word()]).await? == 1);
    };
    if now == to {
        return Ok(false);
    }
    let place = inbox::place(tx, publisher).await?;
    let rows = offsets::forget(tx, publisher).await?;
    let position = match to {
        Road::Kafka => place.position,
        Road::Stream => handled(&place, &rows, slices),
    };
    let sql = sql!("UPDATE bus_position SET road = $2, position = $3 WHERE publisher = $1");
    Ok(tx.run(sql, params![publisher, to.word(), position]).await? == 1)
}

/// The highest position up to which everything was handled. Inside a partition positions only rise.
fn handled(place: &Place, rows: &[OffsetRow], slices: usize) -> i64 {
    if rows.len() < slices {
        return place.position;
    }
    let reached = |row: &OffsetRow| if row.epoch == place.epoch { row.position } else { 0 };
    rows.iter().map(reached).min().unwrap_or(0).max(place.position)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::ids;
    use crate::store::{Engine, Options};

    fn row(part: i64, epoch: Uuid, position: i64) -> OffsetRow {
        let (topic, publisher) = ("a.events".to_owned(), "a".to_owned());
        OffsetRow { topic, part, publisher, epoch, next_offset: 9, position, adopts: false }
    }

    #[test]
    fn a_move_back_goes_no_further_than_the_partition_that_is_furthest_behind() {
        let epoch = ids::fresh();
        let place = Place { epoch, position: 10 };
        assert_eq!(handled(&place, &[row(0, epoch, 40), row(1, epoch, 25)], 2), 25);
        assert_eq!(handled(&place, &[row(0, epoch, 40), row(1, epoch, 0)], 2), 10, "a quiet partition says nothing");
        assert_eq!(handled(&place, &[row(0, epoch, 40)], 2), 10, "a partition without a row may hide events");
        assert_eq!(handled(&place, &[row(0, epoch, 40), row(1, ids::fresh(), 90)], 2), 10, "another outbox's numbers");
    }

    #[tokio::test]
    async fn a_unit_that_began_on_the_old_road_cannot_end_behind_the_move() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::Sqlite { path: folder.path().join("moving.db") };
        let store = Store::open(Options::new(engine, Clock::system()), &[]).await.unwrap();
        let (health, epoch) = (BusHealth::default(), ids::fresh());
        assert!(store.write(move |tx| async move { inbox::take_epoch(&tx, "a", epoch).await }).await.unwrap());
        let advance = |from, to| {
            store.write(
                move |tx: Tx| async move { inbox::advance(&tx, "a", &Place { epoch, position: from }, to).await },
            )
        };
        assert!(advance(0, 5).await.unwrap());
        assert!(move_edge(&store, &health, "a", Road::Kafka, 2).await.unwrap());
        assert!(!move_edge(&store, &health, "a", Road::Kafka, 2).await.unwrap(), "it is there already");
        assert!(!advance(5, 6).await.unwrap());
        assert!(move_edge(&store, &health, "a", Road::Stream, 2).await.unwrap());
        assert!(advance(5, 6).await.unwrap(), "the stream goes on where it was");
        assert_eq!(edges(&store.read()).await.unwrap()[0].position, 6);
    }
}
