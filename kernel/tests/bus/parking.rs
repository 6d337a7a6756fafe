//! Poison beyond what the cases of the bus show: panics, events that were not declared, a redrive beside the consumer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kernel::events::{Fault, Reaction, Received, parked, parked_count, redrive};
use kernel::ids;
use kernel::store::{Options, Store, Tx};
use kernel::testing::bus;
use kernel::testing::station::Station;
use uuid::Uuid;

use crate::{CHANGED, City, STEPS, alpha, any_port, beta, changed, check, count_effects, note_effect, until};

/// A reaction with moods: what the event's note says happens until it is cured.
fn moody(cured: &Arc<AtomicBool>) -> Reaction {
    let cured = cured.clone();
    Reaction::new(move |tx: Tx, event: Received<alpha::ThingChanged>| {
        let cured = cured.load(Ordering::SeqCst);
        async move {
            note_effect(&tx, &event).await?;
            match event.note.as_str() {
                _ if cured => Ok(()),
                "poison" => Err(Fault::Park("poisoned".into())),
                "panic" => panic!("it hurts"),
                "unclaimed" => Ok(tx.emit(beta::CopyMade(event.event.0.clone()))?),
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
