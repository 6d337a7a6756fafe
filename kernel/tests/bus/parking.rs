//! Poison: it parks alone with its successors, everybody else flows on, and a redrive keeps the order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use kernel::events::{Fault, Reaction, Received, drop_parked, parked, parked_count, redrive};
use kernel::ids;
use kernel::store::{Options, Store, Tx};
use kernel::testing::bus;
use kernel::testing::station::Station;
use uuid::Uuid;

use crate::{CHANGED, City, STEPS, alpha, any_port, beta, changed, check, count_effects, note_effect, until};

/// A reaction with moods: what the event's note says happens until it is cured.
fn moody(cured: &Arc<AtomicBool>) -> Reaction {
    let (cured, shaken) = (cured.clone(), Arc::new(AtomicU32::new(0)));
    Reaction::new(move |tx: Tx, event: Received<alpha::ThingChanged>| {
        let (cured, shaken) = (cured.load(Ordering::SeqCst), shaken.clone());
        async move {
            note_effect(&tx, &event).await?;
            match event.note.as_str() {
                _ if cured => Ok(()),
                "poison" => Err(Fault::Park("poisoned".into())),
                "panic" => panic!("it hurts"),
                "unclaimed" => Ok(tx.emit(beta::CopyMade(event.event.0.clone()))?),
                "never" => Err(Fault::Retry("not yet".into())),
                "shaky" if shaken.fetch_add(1, Ordering::SeqCst) < 3 => Err(Fault::Retry("not yet".into())),
                _ => Ok(()),
            }
        }
    })
}

struct Scene {
    city: City,
    alpha: Station,
    gamma: Station,
    reactions: Vec<Reaction>,
    cured: Arc<AtomicBool>,
}

impl Scene {
    async fn on_each_engine() -> Vec<Self> {
        let mut scenes = Vec::new();
        for city in City::on_each_engine() {
            let alpha = city.start("alpha", "alpha").await;
            // Gamma claims no event, so that publishing one is refused.
            let options = Options { claims: Vec::new(), ..city.options("gamma") };
            let mut gamma = Station::start("gamma", options, STEPS, any_port()).await.unwrap();
            let cured = Arc::new(AtomicBool::new(false));
            let reactions = vec![moody(&cured)];
            gamma.hear(&city.directory, reactions.clone(), 5);
            scenes.push(Self { city, alpha, gamma, reactions, cured });
        }
        scenes
    }

    async fn handled(&self, thing: Uuid) -> Vec<i64> {
        let applied = bus::applied(&self.gamma.store, "alpha").await.unwrap();
        applied.iter().filter(|f| f.aggregate_id == thing).map(|f| f.aggregate_version).collect()
    }

    async fn parked(&self) -> i64 {
        parked_count(&self.gamma.store.read()).await.unwrap().get("alpha").copied().unwrap_or(0)
    }

    async fn end(self) {
        check(&self.alpha.store, "alpha", &self.gamma.store, &[CHANGED]).await;
        self.gamma.stop().await;
        self.alpha.stop().await;
        drop(self.city);
    }
}

async fn reason_of(store: &Store, at: usize) -> String {
    parked(&store.read(), 100).await.unwrap()[at].reason.clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_parks_its_thing_only_and_a_redrive_keeps_the_order() {
    for scene in Scene::on_each_engine().await {
        let (ill, well) = (ids::fresh(), ids::fresh());
        changed(&scene.alpha.store, ill, "").await;
        changed(&scene.alpha.store, ill, "poison").await;
        for _ in 0..5 {
            changed(&scene.alpha.store, ill, "").await;
            changed(&scene.alpha.store, well, "").await;
        }
        until("the others flow on", async || scene.handled(well).await.len() == 5).await;
        until("six wait", async || scene.parked().await == 6).await;
        assert_eq!(scene.handled(ill).await, [1]);
        assert_eq!(count_effects(&scene.gamma.store).await, 6, "what was parked left nothing behind");
        let still = redrive(&scene.gamma.store, &scene.reactions, None).await.unwrap();
        assert_eq!((still.handled, still.stopped), (0, vec![(ill, "poisoned".to_owned())]));
        scene.cured.store(true, Ordering::SeqCst);
        let elsewhere = redrive(&scene.gamma.store, &scene.reactions, Some(well)).await.unwrap();
        assert_eq!(elsewhere.handled, 0);
        let done = redrive(&scene.gamma.store, &scene.reactions, Some(ill)).await.unwrap();
        assert_eq!((done.handled, done.stopped.len()), (6, 0));
        changed(&scene.alpha.store, ill, "").await;
        until("it flows again", async || scene.handled(ill).await == [1, 2, 3, 4, 5, 6, 7, 8]).await;
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_and_an_unclaimed_event_park_with_their_reason() {
    for scene in Scene::on_each_engine().await {
        changed(&scene.alpha.store, ids::fresh(), "panic").await;
        until("it is parked", async || scene.parked().await == 1).await;
        changed(&scene.alpha.store, ids::fresh(), "unclaimed").await;
        until("it is parked", async || scene.parked().await == 2).await;
        assert!(reason_of(&scene.gamma.store, 0).await.contains("it hurts"));
        assert!(reason_of(&scene.gamma.store, 1).await.contains("does not claim the event copy.made"));
        assert_eq!(count_effects(&scene.gamma.store).await, 0);
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passing_trouble_is_sat_out_and_one_that_does_not_pass_is_parked() {
    for scene in Scene::on_each_engine().await {
        let (shaky, never) = (ids::fresh(), ids::fresh());
        changed(&scene.alpha.store, shaky, "shaky").await;
        changed(&scene.alpha.store, never, "never").await;
        until("the lasting one is parked", async || scene.parked().await == 1).await;
        assert_eq!(scene.handled(shaky).await, [1]);
        assert_eq!(reason_of(&scene.gamma.store, 0).await, "not yet (tried 5 times)");
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_event_never_takes_effect_and_its_successors_wait_for_a_redrive() {
    for scene in Scene::on_each_engine().await {
        let ill = ids::fresh();
        changed(&scene.alpha.store, ill, "poison").await;
        changed(&scene.alpha.store, ill, "").await;
        until("both wait", async || scene.parked().await == 2).await;
        let first = parked(&scene.gamma.store.read(), 1).await.unwrap().remove(0);
        assert!(drop_parked(&scene.gamma.store, first.event_id, "made by a bug").await.unwrap());
        assert!(!drop_parked(&scene.gamma.store, first.event_id, "twice").await.unwrap());
        let done = redrive(&scene.gamma.store, &scene.reactions, None).await.unwrap();
        assert_eq!((done.handled, done.stopped.len()), (1, 0));
        assert_eq!(scene.handled(ill).await, [2]);
        scene.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redrive_beside_the_running_consumer_keeps_the_order() {
    for scene in Scene::on_each_engine().await {
        let ill = ids::fresh();
        changed(&scene.alpha.store, ill, "poison").await;
        until("it is parked", async || scene.parked().await == 1).await;
        let (store, writing) = (scene.alpha.store.clone(), Arc::new(AtomicBool::new(true)));
        let still = writing.clone();
        let writer = async move {
            for _ in 0..300 {
                changed(&store, ill, "").await;
            }
            still.store(false, Ordering::SeqCst);
        };
        let redriver = async {
            scene.cured.store(true, Ordering::SeqCst);
            while writing.load(Ordering::SeqCst) {
                redrive(&scene.gamma.store, &scene.reactions, None).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(writer, redriver);
        until("all has come", async || {
            redrive(&scene.gamma.store, &scene.reactions, None).await.unwrap();
            scene.handled(ill).await.len() == 301
        })
        .await;
        scene.end().await;
    }
}
