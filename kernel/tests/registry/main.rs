//! What a registry promises, on every backend at hand: our own registrar and DNS always, Consul and etcd where
//! `FX_TEST_CONSUL` and `FX_TEST_ETCD` name one. And every case against a backend with a planted fault.

mod stands;
mod traps;

use std::sync::Arc;

use futures::StreamExt as _;
use kernel::registry::Backend;
use kernel::testing::registry::{CASES, Case, Faulty, Stand};

/// Cases wait more than they work.
const AT_ONCE: usize = 8;

async fn keeps_every_promise(stand: Arc<dyn Stand>, what: &str) {
    let takes_entries = stand.backend().takes_entries();
    let (apart, together): (Vec<&Case>, Vec<&Case>) =
        CASES.iter().filter(|case| takes_entries || !case.of_entries).partition(|case| disturbs(case));
    let run = |case: &'static Case| {
        let stand = stand.clone();
        async move { (case.run)(stand).await.map_err(|why| format!("{}: {why}", case.name)) }
    };
    let mut broken: Vec<String> = Vec::new();
    let mut running = futures::stream::iter(together).map(run).buffer_unordered(AT_ONCE);
    while let Some(verdict) = running.next().await {
        broken.extend(verdict.err());
    }
    for case in apart {
        broken.extend(run(case).await.err());
    }
    assert!(broken.is_empty(), "{what}:\n{}", broken.join("\n"));
}

/// Cases that cut the wire or empty the backend would disturb others.
fn disturbs(case: &Case) -> bool {
    ["away", "lost_everything", "wrong_address"].iter().any(|word| case.name.contains(word))
}

#[tokio::test]
async fn our_own_registrar_keeps_every_promise() {
    keeps_every_promise(Arc::new(stands::Registered::start().await), "own").await;
}

#[tokio::test]
async fn dns_keeps_every_promise_about_lists() {
    keeps_every_promise(Arc::new(stands::Named::start().await), "dns").await;
}

#[tokio::test]
async fn consul_keeps_every_promise() {
    let Some(url) = stands::told("FX_TEST_CONSUL", "Consul") else { return };
    keeps_every_promise(Arc::new(stands::InConsul::start(&url).await), "consul").await;
}

#[tokio::test]
async fn etcd_keeps_every_promise() {
    let Some(url) = stands::told("FX_TEST_ETCD", "etcd") else { return };
    keeps_every_promise(Arc::new(stands::InEtcd::start(&url).await), "etcd").await;
}

/// A registrar of its own with a fault before it.
struct Spoiled {
    behind: stands::Registered,
    faulty: Faulty,
}

impl Stand for Spoiled {
    fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(self.faulty.again(self.behind.backend()))
    }
    fn cut(&self, cut: bool) {
        self.behind.cut(cut);
    }
    fn wipe(&self) -> futures::future::BoxFuture<'_, ()> {
        self.behind.wipe()
    }
}

#[tokio::test]
async fn every_case_notices_its_fault() {
    let verdicts = CASES.iter().map(|case| async move {
        let behind = stands::Registered::start().await;
        let faulty = Faulty::new(behind.backend(), case.notices);
        let verdict = (case.run)(Arc::new(Spoiled { behind, faulty })).await;
        verdict.is_ok().then(|| format!("{} does not notice {:?}", case.name, case.notices))
    });
    let blind: Vec<Option<String>> = futures::stream::iter(verdicts).buffer_unordered(CASES.len()).collect().await;
    let blind: Vec<String> = blind.into_iter().flatten().collect();
    assert!(blind.is_empty(), "{}", blind.join("\n"));
}
