//! What goes wrong parks, refuses or waits, and never skips, doubles or reorders.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use uuid::Uuid;

use super::stage::{
    ORG, Odd, Stage, ThingTouched, change, changed, check, effects, emit, handled, moody, noting, odd, parked, tamper,
};
use crate::events::{self, Flow, Reaction, adopt_epoch, drop_parked, redrive};
use crate::ids;
use crate::sql;
use crate::store::Store;
use crate::testing::station::Station;

async fn is_refused(station: &Station, because: &str) -> bool {
    let health = station.health.publishers();
    matches!(health.get("alpha").map(|h| &h.flow), Some(Flow::Refused(why)) if why.contains(because))
}

pub(super) async fn gap(stage: &Stage) -> String {
    let alpha = stage.publisher("alpha").await;
    let beta = stage.consumer("beta", vec![noting()]).await;
    for _ in 0..5 {
        changed(&alpha.store, ids::fresh(), "").await;
    }
    stage.until("all came", async || effects(&beta.store).await == 5).await;
    if !stage.seeded {
        tamper(&beta.store, || sql!("UPDATE bus_position SET position = position + 1000000")).await;
        tamper(&beta.store, || sql!("UPDATE kafka_offset SET next_offset = next_offset + 1000000")).await;
    }
    beta.health.look_again();
    stage.until("it is refused", async || is_refused(&beta, "set back").await).await;
    changed(&alpha.store, ids::fresh(), "").await;
    assert_eq!(effects(&beta.store).await, 5, "nothing is guessed");
    assert!(events::replay(&beta.store, &beta.health, "alpha", 1, false).await.expect("the database answers"));
    stage.until("the last came", async || effects(&beta.store).await == 6).await;
    check(&alpha.store, &beta.store).await;
    beta.stop().await;
    alpha.stop().await;
    "refused, then mended by a replay".to_owned()
}

pub(super) async fn anew(stage: &Stage) -> String {
    let alpha = stage.publisher("alpha").await;
    let beta = stage.consumer("beta", vec![noting()]).await;
    changed(&alpha.store, ids::fresh(), "").await;
    stage.until("the first came", async || effects(&beta.store).await == 1).await;
    alpha.stop().await;
    let alpha = stage.publisher(if stage.seeded { "alpha" } else { "alpha_anew" }).await;
    for _ in 0..8 {
        changed(&alpha.store, ids::fresh(), "").await;
    }
    stage.until("it is refused", async || is_refused(&beta, "made anew").await).await;
    assert_eq!(effects(&beta.store).await, 1, "nothing is guessed");
    assert!(adopt_epoch(&beta.store, &beta.health, "alpha").await.expect("the database answers"));
    stage.until("the new ones came", async || effects(&beta.store).await == 9).await;
    beta.stop().await;
    alpha.stop().await;
    "refused, then accepted by hand".to_owned()
}

struct Ward {
    alpha: Station,
    gamma: Station,
    cured: Arc<AtomicBool>,
    reactions: Vec<Reaction>,
}

impl Ward {
    async fn open(stage: &Stage) -> Self {
        let alpha = stage.publisher("alpha").await;
        let cured = Arc::new(AtomicBool::new(false));
        let reactions = vec![moody(&cured)];
        let gamma = stage.consumer("gamma", reactions.clone()).await;
        Self { alpha, gamma, cured, reactions }
    }

    /// A thing whose second version is poison, with five behind it, and a healthy thing beside it.
    async fn poisoned(&self, stage: &Stage) -> (Uuid, Uuid) {
        let (ill, well) = (ids::fresh(), ids::fresh());
        changed(&self.alpha.store, ill, "").await;
        changed(&self.alpha.store, ill, "poison").await;
        for _ in 0..5 {
            changed(&self.alpha.store, ill, "").await;
            changed(&self.alpha.store, well, "").await;
        }
        stage.until("the others flow on", async || handled(&self.gamma.store, well).await.len() == 5).await;
        stage.until("six wait", async || parked(&self.gamma.store).await == 6).await;
        (ill, well)
    }

    async fn close(self) {
        check(&self.alpha.store, &self.gamma.store).await;
        self.gamma.stop().await;
        self.alpha.stop().await;
    }
}

pub(super) async fn parking(stage: &Stage) -> String {
    let ward = Ward::open(stage).await;
    // A consumer that swallows what it cannot handle.
    ward.cured.store(stage.seeded, Ordering::SeqCst);
    let (ill, _) = ward.poisoned(stage).await;
    assert_eq!(handled(&ward.gamma.store, ill).await, [1]);
    assert_eq!(effects(&ward.gamma.store).await, 6, "what was parked left nothing behind");
    ward.close().await;
    "6 parked, 6 others flowed".to_owned()
}

pub(super) async fn redriving(stage: &Stage) -> String {
    let ward = Ward::open(stage).await;
    let (ill, well) = ward.poisoned(stage).await;
    let drive = async |of| redrive(&ward.gamma.store, &ward.reactions, of).await.expect("the database answers");
    let still = drive(None).await;
    assert_eq!((still.handled, still.stopped), (0, vec![(ill, "poisoned".to_owned())]));
    ward.cured.store(true, Ordering::SeqCst);
    if stage.seeded {
        tamper(&ward.gamma.store, || sql!("DELETE FROM parked WHERE aggregate_version = 3")).await;
    }
    assert_eq!(drive(Some(well)).await.handled, 0);
    drive(Some(ill)).await;
    changed(&ward.alpha.store, ill, "").await;
    stage.until("it flows again", async || handled(&ward.gamma.store, ill).await == [1, 2, 3, 4, 5, 6, 7, 8]).await;
    ward.close().await;
    "6 driven again in their order".to_owned()
}

async fn first_parked(store: &Store) -> events::ParkedRow {
    events::parked(&store.read(), 1).await.expect("the database answers").remove(0)
}

pub(super) async fn dropping(stage: &Stage) -> String {
    let ward = Ward::open(stage).await;
    let ill = ids::fresh();
    changed(&ward.alpha.store, ill, "poison").await;
    changed(&ward.alpha.store, ill, "").await;
    stage.until("both wait", async || parked(&ward.gamma.store).await == 2).await;
    let first = first_parked(&ward.gamma.store).await.event_id;
    if !stage.seeded {
        let dropped = drop_parked(&ward.gamma.store, first, "made by a bug").await;
        assert!(dropped.expect("the database answers"));
    }
    let done = redrive(&ward.gamma.store, &ward.reactions, None).await.expect("the database answers");
    assert_eq!((done.handled, done.stopped.len()), (1, 0));
    assert_eq!(handled(&ward.gamma.store, ill).await, [2]);
    ward.close().await;
    "1 dropped, 1 behind it driven".to_owned()
}

pub(super) async fn patience(stage: &Stage) -> String {
    let ward = Ward::open(stage).await;
    ward.cured.store(stage.seeded, Ordering::SeqCst);
    let (shaky, never) = (ids::fresh(), ids::fresh());
    changed(&ward.alpha.store, shaky, "shaky").await;
    changed(&ward.alpha.store, never, "never").await;
    stage.until("the lasting one is parked", async || parked(&ward.gamma.store).await == 1).await;
    stage.until("the passing one is handled", async || handled(&ward.gamma.store, shaky).await == [1]).await;
    let reason = first_parked(&ward.gamma.store).await.reason;
    assert_eq!(reason, format!("not yet (tried {} times)", super::stage::TRIES));
    ward.close().await;
    "handled after 3 failures, parked after 5".to_owned()
}

async fn parks_with(stage: &Stage, reason: &str, wrap: fn(super::stage::Thing) -> odd::ThingChanged) {
    let ward = Ward::open(stage).await;
    let (ill, well) = (ids::fresh(), ids::fresh());
    emit(&ward.alpha.store, ill, "", wrap).await;
    change::<ThingTouched>(&ward.alpha.store, well, "").await;
    changed(&ward.alpha.store, well, "").await;
    changed(&ward.alpha.store, ill, "").await;
    stage.until("the good one is handled", async || handled(&ward.gamma.store, well).await == [2]).await;
    stage.until("both of the bad thing wait", async || parked(&ward.gamma.store).await == 2).await;
    let told = first_parked(&ward.gamma.store).await.reason;
    assert!(told.contains(reason), "{told}");
    ward.close().await;
}

fn odd(thing: super::stage::Thing, note: Value, told_org: Uuid) -> odd::ThingChanged {
    odd::ThingChanged(Odd { org: thing.org, id: thing.id, version: thing.version, note, told_org })
}

pub(super) async fn schema(stage: &Stage) -> String {
    // A number where a text is declared; the seeded one is a text.
    let wrap: fn(super::stage::Thing) -> odd::ThingChanged = if stage.seeded {
        |thing| odd(thing, Value::from("a text"), ORG)
    } else {
        |thing| odd(thing, Value::from(5), ORG)
    };
    parks_with(stage, "does not read as thing.changed", wrap).await;
    "parked with its reason, the unknown type ignored".to_owned()
}

pub(super) async fn organisation(stage: &Stage) -> String {
    let wrap: fn(super::stage::Thing) -> odd::ThingChanged = if stage.seeded {
        |thing| odd(thing, Value::from(""), ORG)
    } else {
        |thing| odd(thing, Value::from(""), Uuid::from_u128(8))
    };
    parks_with(stage, "organisation", wrap).await;
    "parked with its reason".to_owned()
}
