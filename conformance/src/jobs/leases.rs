//! Only one instance works: leases are taken over, given back, and guard what their holders do.

use kernel::jobs::{self, Job, JobError, LIFE, Lease};
use kernel::sql;
use tokio::sync::mpsc::unbounded_channel;

use super::{Ground, Instance, ORG, WOKEN, telling, timers_left};
use crate::place::Place;
use crate::store::tamper;

pub(super) async fn takeover(place: Place) -> String {
    let ground = Ground::new(&place);
    let (first, second) = (ground.open().await, ground.open().await);
    let (told, mut runs) = unbounded_channel();
    let stuck = |who: &'static str| {
        let told = told.clone();
        Job::new("pay", WOKEN, move || {
            let told = told.clone();
            async move {
                told.send((who, jobs::held().ok_or_else(|| JobError::new("no lease"))?.epoch()))?;
                std::future::pending().await
            }
        })
    };
    let a = Instance::start(&first, "a", vec![stuck("a")], vec![]);
    assert_eq!(ground.next(&mut runs).await, ("a", 1));
    let b = Instance::start(&second, "b", vec![stuck("b")], vec![]);
    if place.seeded {
        ground.clock.advance(LIFE);
    }
    let refused = Lease::acquire(&second, "job pay", "c", LIFE).await.expect("the database works");
    assert_eq!(refused, None);
    a.kill().await;
    assert!(runs.is_empty(), "the lease of the dead holder still runs");
    ground.clock.advance(LIFE);
    assert_eq!(ground.next(&mut runs).await, ("b", 2));
    b.kill().await;
    "taken over with epoch 2, after the lease of the dead one".to_owned()
}

pub(super) async fn given_back(place: Place) -> String {
    let ground = Ground::new(&place);
    let store = ground.open().await;
    let (told, mut runs) = unbounded_channel();
    for owner in ["a", "b"] {
        let instance = Instance::start(&store, owner, vec![telling("pay", WOKEN, &told)], vec![]);
        ground.next(&mut runs).await;
        if place.seeded {
            instance.kill().await;
        } else {
            instance.stop().await;
        }
    }
    "2 instances in turn, 0 s waited for a lease".to_owned()
}

pub(super) async fn zombie(place: Place) -> String {
    let ground = Ground::new(&place);
    let store = ground.open().await;
    let old = Lease::acquire(&store, "jobs", "a", LIFE).await.expect("the database works").expect("the database works");
    ground.clock.advance(LIFE);
    let new = Lease::acquire(&store, "jobs", "b", LIFE).await.expect("the database works").expect("the database works");
    assert_eq!((old.epoch(), new.epoch()), (1, 2));
    if place.seeded {
        tamper(&store, sql!("UPDATE lease SET owner = 'a', epoch = 1")).await;
    }
    let guarded = |lease: Lease| {
        store.write(move |tx| {
            let lease = lease.clone();
            async move {
                tx.set_timer(ORG, ORG, "accept", tx.now()).await?;
                lease.guard(&tx).await
            }
        })
    };
    assert!(guarded(old.clone()).await.expect_err("it is refused").to_string().contains("another holder"));
    assert_eq!(timers_left(&store).await, 0);
    assert!(!old.renew(&store, LIFE).await.expect("the database works"));
    assert!(
        !store
            .write({
                let old = old.clone();
                move |tx| {
                    let old = old.clone();
                    async move { old.release(&tx).await }
                }
            })
            .await
            .expect("the database works")
    );
    guarded(new.clone()).await.expect("the database works");
    assert_eq!(timers_left(&store).await, 1);
    assert_eq!(Lease::acquire(&store, "jobs", "a", LIFE).await.expect("the database works"), None);
    "epoch 1 refused 3 times, epoch 2 at work".to_owned()
}

pub(super) async fn own_lease(place: Place) -> String {
    let ground = Ground::new(&place);
    let store = ground.open().await;
    let before =
        Lease::acquire(&store, "jobs", "a", LIFE).await.expect("the database works").expect("the database works");
    let owner = if place.seeded { "another" } else { "a" };
    let after =
        Lease::acquire(&store, "jobs", owner, LIFE).await.expect("the database works").expect("the database works");
    assert_eq!((before.epoch(), after.epoch()), (1, 2));
    assert!(!before.renew(&store, LIFE).await.expect("the database works"));
    "epoch 2 at once, epoch 1 over".to_owned()
}
