//! The cases of registries, which the kernel has, on every kind of registry.

mod stands;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use kernel::registry::{Backend, Instance};
use kernel::testing::registry::{CASES, Case as Promise, Fault, Faulty, Stand};
use parking_lot::Mutex;

use crate::case::Case;
use crate::place::Place;

const NOT_ENTERED: &[(&str, &str)] = &[("dns", "instances do not enter themselves in DNS: the platform does")];

pub(crate) fn cases() -> Vec<Case> {
    CASES.iter().map(of).collect()
}

fn of(promise: &'static Promise) -> Case {
    Case {
        name: promise.name,
        shows: promise.shows,
        fault: promise.fault,
        not_on: if promise.of_entries { NOT_ENTERED } else { &[] },
        run: Arc::new(move |place| Box::pin(run(promise, place))),
    }
}

async fn run(promise: &'static Promise, place: Place) -> String {
    let behind: Arc<dyn Stand> = match place.engine.name {
        "own" => Arc::new(stands::Registered::start().await),
        "dns" => Arc::new(stands::Named::start().await),
        "consul" => Arc::new(stands::InConsul::start(place.address("FX_TEST_CONSUL")).await),
        _ => Arc::new(stands::InEtcd::start(place.address("FX_TEST_ETCD")).await),
    };
    let ttl = behind.ttl().as_secs();
    let stand: Arc<dyn Stand> = if place.seeded {
        let faulty = Faulty::new(behind.backend(), promise.notices);
        Arc::new(Spoiled { behind, faulty, fault: promise.notices, left: Mutex::default() })
    } else {
        behind
    };
    let began = Instant::now();
    (promise.run)(stand).await.unwrap_or_else(|why| panic!("{why}"));
    format!("kept, looked at for {:.1} s with a time to live of {ttl} s", began.elapsed().as_secs_f64())
}

/// A registry with a fault before it.
struct Spoiled {
    behind: Arc<dyn Stand>,
    faulty: Faulty,
    /// The same fault of a platform that enters and takes out instances.
    fault: Fault,
    left: Mutex<BTreeSet<Instance>>,
}

impl Stand for Spoiled {
    fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(self.faulty.again(self.behind.backend()))
    }

    fn cut(&self, cut: bool) {
        self.behind.cut(cut);
    }

    fn wipe(&self) -> BoxFuture<'_, ()> {
        self.behind.wipe()
    }

    fn ttl(&self) -> Duration {
        self.behind.ttl()
    }

    fn enter(&self, who: &Instance) {
        let forgotten = match self.fault {
            Fault::DeafToEntries => true,
            Fault::BuriesForGood => self.left.lock().contains(who),
            _ => false,
        };
        if !forgotten {
            self.behind.enter(who);
        }
    }

    fn remove(&self, who: &Instance) {
        self.left.lock().insert(who.clone());
        if self.fault != Fault::WithdrawalLost {
            self.behind.remove(who);
        }
    }
}
