//! Fifty requests at once under each of many keys: one sale, one event, one answer a key.

use std::collections::BTreeSet;

use super::door::{Answer, Ask, Door};
use super::till::Build;
use super::{Complaints, held, slow};
use crate::place::Place;

/// Requests at once under one key.
const RIVALS: usize = 50;
/// Keys at once: enough that units of several keys meet in one batch.
const ABREAST: usize = 3;

/// What a storm came to.
#[derive(Debug, Default)]
struct Storm {
    keys: usize,
    requests: usize,
    most_effects: i64,
    least_effects: i64,
    most_answers: usize,
    first_answers: usize,
    statuses: BTreeSet<u16>,
    sales: i64,
    events: i64,
}

impl Storm {
    async fn rage(door: &Door, keys: usize) -> Self {
        let mut storm = Self { keys, ..Self::default() };
        let marks: Vec<String> = (0..keys).map(|number| format!("mark-{number}")).collect();
        for abreast in marks.chunks(ABREAST) {
            let all = futures::future::join_all(abreast.iter().map(|mark| rivals(door, mark)));
            all.await.iter().for_each(|told| storm.count(told));
        }
        let tally = door.tally().await;
        let effects = || marks.iter().map(|mark| tally.of(mark));
        storm.most_effects = effects().max().unwrap_or(0);
        storm.least_effects = effects().min().unwrap_or(0);
        (storm.sales, storm.events) = (effects().sum(), tally.events);
        storm
    }

    fn count(&mut self, told: &[(Answer, usize)]) {
        let answers: BTreeSet<_> = told.iter().map(|(answer, _)| answer.told()).collect();
        self.requests += told.iter().map(|(_, sent)| sent).sum::<usize>();
        self.most_answers = self.most_answers.max(answers.len());
        self.first_answers += told.iter().filter(|(answer, _)| !answer.replayed).count();
        self.statuses.extend(told.iter().map(|(answer, _)| answer.status));
    }

    fn complaints(&self) -> Complaints {
        let mut found = Complaints::default();
        found.unless(self.requests >= self.keys * RIVALS, || "requests were not sent".into());
        found.unless((self.least_effects, self.most_effects) == (1, 1), || {
            format!("effects of a key: {} to {}", self.least_effects, self.most_effects)
        });
        found.unless(self.events == self.sales, || format!("{} sales and {} events", self.sales, self.events));
        found.unless(self.most_answers == 1, || format!("{} answers to one key", self.most_answers));
        found.unless(self.first_answers == self.keys, || format!("{} first answers", self.first_answers));
        found.unless(self.statuses == BTreeSet::from([201]), || format!("statuses {:?}", self.statuses));
        found
    }
}

async fn rivals(door: &Door, mark: &str) -> Vec<(Answer, usize)> {
    let ask = Ask::keyed(mark);
    futures::future::join_all((0..RIVALS).map(|_| door.insist(&ask))).await
}

pub(super) async fn storm(place: Place) -> String {
    let keys = match (place.seeded, slow()) {
        (true, _) => 2,
        (false, true) => 1_000,
        (false, false) => 100,
    };
    let figure = format!("{} requests, {keys} keys, 1 effect and 1 answer each", keys * RIVALS);
    held(&place, Build::Keyless, "effects of a key: 50 to 50", figure, async |shop| {
        Storm::rage(&shop.door, keys).await.complaints().0
    })
    .await
}
