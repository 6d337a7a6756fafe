//! A backend with a planted fault, to show that the cases look.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::registry::{Backend, Instance, Mark, Seen, Trouble};

/// What is wrong with a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nobody is entered.
    DeafToEntries,
    /// Only the first of several instances is listed.
    KnowsOnlyOne,
    /// Instances of other services are listed as well.
    MixesServices,
    /// Whoever leaves stays.
    WithdrawalLost,
    /// Nobody who watches is woken.
    SleepsThrough,
    /// Every watch is answered at once.
    NeverWaits,
    /// An error looks like an empty list.
    ForgetsWhenAway,
    /// After the first error there is nothing but errors.
    NeverComesBack,
    /// Whoever has left may not come back.
    BuriesForGood,
    /// Nobody ever dies.
    Immortal,
    /// Only the first announcement of an instance arrives.
    HeartbeatLost,
    /// The end of an old life ends the new one at the same address.
    OldLifeEndsNew,
    /// To withdraw what is not there is refused.
    ChokesOnNothing,
    /// An error says nothing.
    Mumbles,
}

/// What is shared by all clients of one faulty backend.
#[derive(Debug, Default)]
struct Memory {
    /// Since when each instance has been announced.
    announced: Mutex<BTreeMap<Instance, Instant>>,
    buried: Mutex<BTreeSet<Instance>>,
    seen: Mutex<BTreeSet<(String, SocketAddr)>>,
    broken: AtomicBool,
}

/// A backend behind which the fault sits. Clones share their memory.
#[derive(Clone, Debug)]
pub struct Faulty {
    behind: Arc<dyn Backend>,
    fault: Fault,
    memory: Arc<Memory>,
}

impl Faulty {
    /// `behind` with this fault.
    pub fn new(behind: Arc<dyn Backend>, fault: Fault) -> Self {
        Self { behind, fault, memory: Arc::default() }
    }

    /// The same fault with the same memory, as another process meets it.
    pub fn again(&self, behind: Arc<dyn Backend>) -> Self {
        Self { behind, ..self.clone() }
    }

    /// Whether an announcement gets lost, and the memory of it.
    async fn loses(&self, who: &Instance, ttl: Duration) -> bool {
        let mut new = false;
        let first = *self.memory.announced.lock().entry(who.clone()).or_insert_with(|| {
            new = true;
            Instant::now()
        });
        match self.fault {
            Fault::DeafToEntries => true,
            Fault::HeartbeatLost => !new,
            Fault::BuriesForGood => self.memory.buried.lock().contains(who),
            Fault::OldLifeEndsNew => {
                let over = first.elapsed() > ttl;
                if over {
                    drop(self.behind.withdraw(who).await);
                }
                over
            }
            _ => false,
        }
    }

    async fn look(&self, service: &str, since: Mark) -> Result<Seen, Trouble> {
        let since = if self.fault == Fault::NeverWaits { Mark::default() } else { since };
        if self.fault == Fault::SleepsThrough && since != Mark::default() {
            sleep(Duration::from_secs(30)).await;
        }
        let mut seen = self.behind.watch(service, since).await?;
        let mut ever = self.memory.seen.lock();
        match self.fault {
            Fault::KnowsOnlyOne => seen.instances.truncate(1),
            Fault::Immortal | Fault::MixesServices => {
                ever.extend(seen.instances.iter().map(|at| (service.to_owned(), *at)));
                let all = ever.iter().filter(|(of, _)| self.fault == Fault::MixesServices || of == service);
                seen.instances = all.map(|(_, at)| *at).collect::<BTreeSet<_>>().into_iter().collect();
            }
            _ => {}
        }
        Ok(seen)
    }
}

impl Backend for Faulty {
    fn kind(&self) -> &'static str {
        self.behind.kind()
    }

    fn takes_entries(&self) -> bool {
        self.behind.takes_entries()
    }

    fn announce<'a>(&'a self, who: &'a Instance, ttl: Duration) -> BoxFuture<'a, Result<(), Trouble>> {
        Box::pin(async move {
            if self.loses(who, ttl).await {
                return Ok(());
            }
            self.behind.announce(who, ttl).await
        })
    }

    fn withdraw<'a>(&'a self, who: &'a Instance) -> BoxFuture<'a, Result<(), Trouble>> {
        Box::pin(async move {
            self.memory.buried.lock().insert(who.clone());
            match self.fault {
                Fault::WithdrawalLost => Ok(()),
                Fault::ChokesOnNothing => {
                    let at = String::new();
                    Err(Trouble { kind: self.kind(), at, why: "there is no such instance".to_owned() })
                }
                _ => self.behind.withdraw(who).await,
            }
        })
    }

    fn watch<'a>(&'a self, service: &'a str, since: Mark) -> BoxFuture<'a, Result<Seen, Trouble>> {
        Box::pin(async move {
            if self.fault == Fault::NeverComesBack && self.memory.broken.load(Ordering::SeqCst) {
                return Err(Trouble { kind: self.kind(), at: String::new(), why: "planted".to_owned() });
            }
            let seen = self.look(service, since).await;
            match seen {
                Ok(seen) => Ok(seen),
                Err(_) if self.fault == Fault::ForgetsWhenAway => {
                    sleep(Duration::from_millis(50)).await;
                    Ok(Seen { instances: Vec::new(), mark: since })
                }
                Err(trouble) => {
                    self.memory.broken.store(true, Ordering::SeqCst);
                    let mumbled = Trouble { at: String::new(), why: String::new(), ..trouble.clone() };
                    Err(if self.fault == Fault::Mumbles { mumbled } else { trouble })
                }
            }
        })
    }
}
