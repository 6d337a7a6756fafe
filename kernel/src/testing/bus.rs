//! Checkers of what the bus promises: nothing lost and nothing made up, versions in order, any delivery ends alike.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use uuid::Uuid;

use crate::events::{Envelope, Reaction, apply};
use crate::store::{List, Store, StoreError, Tx, any};
use crate::{params, row, sql};

row! {
    /// One version of one thing, as some table tells of it.
    pub struct Fact {
        /// The kind of thing.
        pub aggregate_type: String,
        /// The thing.
        pub aggregate_id: Uuid,
        /// Its version.
        pub aggregate_version: i64,
        /// The event that told of it.
        pub id: Uuid,
    }
}

/// How two sets of events differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Published and not received.
    pub lost: Vec<Uuid>,
    /// Received and never published.
    pub phantom: Vec<Uuid>,
    /// Received more than once.
    pub doubled: Vec<Uuid>,
}

/// What a publisher's outbox says was published, of these types.
pub async fn published(store: &Store, types: &[String]) -> Result<Vec<Fact>, StoreError> {
    List::new("SELECT aggregate_type, aggregate_id, aggregate_version, id FROM outbox")
        .and("event_type = ANY({})", any(types))
        .fetch(&store.read(), "seq", i64::MAX)
        .await
}

/// What took effect in a consumer, in the order it did.
pub async fn applied(store: &Store, publisher: &str) -> Result<Vec<Fact>, StoreError> {
    let sql = sql!(
        Fact,
        "SELECT aggregate_type, aggregate_id, aggregate_version, event_id AS id FROM inbox WHERE publisher = $1 AND dropped IS NULL ORDER BY seq"
    );
    store.read().all(sql, params![publisher]).await
}

/// What a consumer has in its hands: taken effect, dropped or parked.
pub async fn received(store: &Store, publisher: &str) -> Result<Vec<Fact>, StoreError> {
    let sql = sql!(
        Fact,
        "SELECT aggregate_type, aggregate_id, aggregate_version, event_id AS id FROM inbox WHERE publisher = $1 UNION ALL SELECT '' AS aggregate_type, aggregate_id, aggregate_version, event_id AS id FROM parked WHERE publisher = $1"
    );
    store.read().all(sql, params![publisher]).await
}

/// Every published event was received exactly once, and no other.
pub fn compare(published: &[Fact], received: &[Fact]) -> Difference {
    let key = |f: &Fact| (f.aggregate_id, f.aggregate_version, f.id);
    let sent: BTreeSet<_> = published.iter().map(key).collect();
    let mut got = BTreeMap::<_, usize>::new();
    for fact in received {
        *got.entry(key(fact)).or_default() += 1;
    }
    Difference {
        lost: sent.iter().filter(|k| !got.contains_key(*k)).map(|k| k.2).collect(),
        phantom: got.keys().filter(|k| !sent.contains(*k)).map(|k| k.2).collect(),
        doubled: got.iter().filter(|(_, count)| **count > 1).map(|(k, _)| k.2).collect(),
    }
}

/// The effects on each thing came in the order of its versions. Gives each place where they did not.
pub fn disorder(applied: &[Fact]) -> Vec<String> {
    let mut last = BTreeMap::new();
    let mut found = Vec::new();
    for fact in applied {
        let thing = (&fact.aggregate_type, fact.aggregate_id);
        if let Some(before) = last.insert(thing, fact.aggregate_version)
            && before >= fact.aggregate_version
        {
            let (kind, id) = thing;
            found.push(format!("{kind} {id}: version {} after {before}", fact.aggregate_version));
        }
    }
    found
}

/// A log shuffled, with some of its events repeated; the same seed gives the same.
pub fn shuffled(log: &[Envelope], seed: u64) -> Vec<Envelope> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut out = log.to_vec();
    for event in log {
        for _ in 0..random.random_range(0..3) {
            out.push(event.clone());
        }
    }
    out.shuffle(&mut random);
    out
}

/// Delivers events as they come, cut into units of odd sizes, past any position: the inbox alone guards.
pub async fn deliver(store: &Store, reactions: &[Reaction], events: &[Envelope]) -> Result<(), String> {
    let reactions: Arc<[Reaction]> = reactions.into();
    for unit in events.chunks(7) {
        let shared = Arc::new((reactions.clone(), unit.to_vec()));
        let unit = move |tx: Tx| {
            let shared = shared.clone();
            async move { apply::handle(&tx, &shared.0, &shared.1).await }
        };
        store.write(unit).await.map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// A table's content, independent of the order of its rows.
pub fn fingerprint<R: std::fmt::Debug>(rows: &[R]) -> String {
    let mut lines: Vec<String> = rows.iter().map(|row| format!("{row:?}")).collect();
    lines.sort();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, lines.join("\n").as_bytes());
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

row! {
    /// A row of a projection.
    pub struct Copy {
        /// The organisation.
        pub org_id: Uuid,
        /// The aggregate's name.
        pub source: String,
        /// The thing.
        pub entity_id: Uuid,
        /// Its state.
        pub data: String,
        /// Its version.
        pub version: i64,
        /// The event that told of it.
        pub last_event_id: Uuid,
        /// When that happened.
        pub last_updated_at: crate::clock::Timestamp,
    }
}

/// Every row of a service's projections.
pub async fn copies(store: &Store) -> Result<Vec<Copy>, StoreError> {
    let sql = sql!(
        Copy,
        "SELECT org_id, source, entity_id, data, version, last_event_id, last_updated_at FROM projection ORDER BY source, org_id, entity_id"
    );
    store.read().all(sql, params![]).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(thing: u128, version: i64, id: u128) -> Fact {
        let (aggregate_id, id) = (Uuid::from_u128(thing), Uuid::from_u128(id));
        Fact { aggregate_type: "thing".into(), aggregate_id, aggregate_version: version, id }
    }

    #[test]
    fn a_lost_a_made_up_and_a_doubled_event_are_each_found() {
        let sent = [fact(1, 1, 10), fact(1, 2, 11), fact(2, 1, 12)];
        assert_eq!(compare(&sent, &sent), Difference::default());
        let got = [fact(1, 1, 10), fact(2, 1, 12), fact(2, 1, 12), fact(3, 1, 99)];
        let found = compare(&sent, &got);
        let ids = |ids: &[u128]| ids.iter().map(|id| Uuid::from_u128(*id)).collect::<Vec<_>>();
        let wanted = Difference { lost: ids(&[11]), phantom: ids(&[99]), doubled: ids(&[12]) };
        assert_eq!(found, wanted);
    }

    #[test]
    fn an_event_under_another_version_is_lost_and_made_up() {
        let found = compare(&[fact(1, 1, 10)], &[fact(1, 2, 10)]);
        assert_eq!((found.lost.len(), found.phantom.len()), (1, 1));
    }

    #[test]
    fn versions_out_of_order_are_found_and_gaps_are_not_disorder() {
        assert_eq!(disorder(&[fact(1, 1, 1), fact(2, 7, 2), fact(1, 3, 3)]), Vec::<String>::new());
        assert_eq!(disorder(&[fact(1, 2, 1), fact(1, 1, 2)]).len(), 1);
        assert_eq!(disorder(&[fact(1, 2, 1), fact(1, 2, 2)]).len(), 1);
    }

    #[test]
    fn a_fingerprint_ignores_the_order_of_rows_and_nothing_else() {
        assert_eq!(fingerprint(&[fact(1, 1, 1), fact(2, 1, 2)]), fingerprint(&[fact(2, 1, 2), fact(1, 1, 1)]));
        assert_ne!(fingerprint(&[fact(1, 1, 1)]), fingerprint(&[fact(1, 2, 1)]));
    }
}
