//! The cases.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::{Instant, sleep};

use super::{Case, City, Fault, Stand, Verdict};
use crate::registry::{Instance, Mark, Rotation};

/// Beyond a time to live: the round of a backend that looks for the dead, and the way of the news.
const NEWS: Duration = Duration::from_secs(3);

type Given = Arc<dyn Stand>;

macro_rules! cases {
    ($($of:ident $name:literal $run:ident notices $fault:ident, $shows:literal, $planted:literal;)*) => {
        /// All promises.
        pub const CASES: &[Case] = &[$(Case {
            name: $name,
            shows: $shows,
            of_entries: $of,
            notices: Fault::$fault,
            fault: $planted,
            run: |stand| -> BoxFuture<'static, Verdict> { Box::pin($run(stand)) },
        }),*];
    };
}

const ENTRIES: bool = true;
const LISTS: bool = false;

cases! {
    LISTS "registry.listed" listed notices DeafToEntries,
        "a started instance is listed", "nobody is entered";
    LISTS "registry.both" both notices KnowsOnlyOne,
        "two instances are both listed", "only the first of several is listed";
    LISTS "registry.apart" apart notices MixesServices,
        "instances of other services are not listed", "instances of other services are listed as well";
    LISTS "registry.leave" leave notices WithdrawalLost,
        "a stopped instance leaves before its time to live", "whoever leaves stays";
    LISTS "registry.watch" watch notices SleepsThrough,
        "a change wakes whoever watches", "nobody who watches is woken";
    LISTS "registry.quiet" quiet notices NeverWaits,
        "an unchanged list answers no watch at once", "every watch is answered at once";
    LISTS "registry.away" away notices ForgetsWhenAway,
        "the last list is kept while the backend is away, and that is said", "an error looks like an empty list";
    LISTS "registry.back" back notices NeverComesBack,
        "what changed while the backend was away is seen when it is back", "after the first error there are only errors";
    LISTS "registry.return" returned notices BuriesForGood,
        "an instance that comes back at its old address is listed again", "whoever has left may not come back";
    ENTRIES "registry.expiry" expiry notices Immortal,
        "a killed instance leaves within its time to live", "nobody ever dies";
    ENTRIES "registry.heartbeat" heartbeat notices HeartbeatLost,
        "a living instance outlives its time to live", "only the first announcement arrives";
    ENTRIES "registry.past" past notices OldLifeEndsNew,
        "an instance that was killed and is back at once is not taken off by its past", "the end of an old life ends the new one";
    ENTRIES "registry.ready" ready notices BuriesForGood,
        "an instance that is not ready leaves, and comes back", "whoever has left may not come back";
    ENTRIES "registry.wiped" wiped notices HeartbeatLost,
        "a backend that lost everything is filled again without a gap", "only the first announcement arrives";
    ENTRIES "registry.nobody" nobody notices ChokesOnNothing,
        "withdrawing what is not there is no trouble", "withdrawing what is not there is refused";
    LISTS "registry.address" address notices Mumbles,
        "a wrong address is named with the setting", "an error says nothing";
}

async fn listed(stand: Given) -> Verdict {
    let city = City::new(&stand);
    let _one = city.ready(7001);
    city.lists(&[7001]).await
}

async fn both(stand: Given) -> Verdict {
    let city = City::new(&stand);
    let (_one, _two) = (city.ready(7001), city.ready(7002));
    city.lists(&[7001, 7002]).await
}

async fn apart(stand: Given) -> Verdict {
    let (city, other) = (City::new(&stand), City::new(&stand));
    let (_one, _two) = (city.ready(7001), other.ready(7002));
    city.lists(&[7001]).await?;
    other.lists(&[7002]).await?;
    city.keeps(&[7001], city.ttl() / 2).await
}

async fn leave(stand: Given) -> Verdict {
    let city = City::new(&stand);
    let (_one, two) = (city.ready(7001), city.ready(7002));
    city.lists(&[7001, 7002]).await?;
    // Right after a heartbeat, so that dying of silence would take the whole time to live.
    stand.backend().announce(&two.who, Duration::from_secs(60)).await.map_err(|e| e.to_string())?;
    two.stop().await;
    city.lists_within(&[7001], NEWS).await
}

async fn watch(stand: Given) -> Verdict {
    let (city, backend) = (City::new(&stand), stand.backend());
    let _one = city.ready(7001);
    city.lists(&[7001]).await?;
    let seen = backend.watch(&city.service, Mark::default()).await.map_err(|e| e.to_string())?;
    let (began, service) = (Instant::now(), city.service.clone());
    let watch = async move { backend.watch(&service, seen.mark).await };
    let change = async {
        sleep(Duration::from_millis(300)).await;
        city.ready(7002)
    };
    let (woken, _two) = tokio::join!(watch, change);
    let instances = woken.map_err(|e| e.to_string())?.instances.len();
    // A watch that is not woken ends after 30 s by itself.
    match (instances, began.elapsed()) {
        (2, took) if took < Duration::from_secs(15) => Ok(()),
        (count, took) => Err(format!("the watch gave {count} instances after {took:?}")),
    }
}

async fn quiet(stand: Given) -> Verdict {
    let (city, backend) = (City::new(&stand), stand.backend());
    let _one = city.ready(7001);
    city.lists(&[7001]).await?;
    let (mut mark, mut answers, began) = (Mark::default(), 0, Instant::now());
    while began.elapsed() < city.ttl() {
        let watch = backend.watch(&city.service, mark);
        let Ok(seen) = tokio::time::timeout(city.ttl(), watch).await else { break };
        mark = seen.map_err(|e| e.to_string())?.mark;
        answers += 1;
    }
    // A few are allowed: Consul counts other things into the same place.
    if answers < 20 { Ok(()) } else { Err(format!("{answers} answers although nothing changed: readers would spin")) }
}

async fn away(stand: Given) -> Verdict {
    let city = City::new(&stand);
    let _one = city.ready(7001);
    city.lists(&[7001]).await?;
    stand.cut(true);
    let (began, mut kept) = (Instant::now(), Ok(()));
    while kept.is_ok() && (began.elapsed() < city.ttl() * 2 || city.rotation.trouble().is_none()) {
        kept = city.keeps(&[7001], Duration::from_millis(100)).await;
        if began.elapsed() > super::NEVER {
            kept = Err("nothing says that the backend is away".to_owned());
        }
    }
    stand.cut(false);
    kept
}

async fn back(stand: Given) -> Verdict {
    let city = City::new(&stand);
    let (_one, two) = (city.ready(7001), city.ready(7002));
    city.lists(&[7001, 7002]).await?;
    stand.cut(true);
    two.kill();
    let _three = city.ready(7003);
    sleep(city.ttl() * 2).await;
    stand.cut(false);
    city.lists(&[7001, 7003]).await?;
    match city.rotation.trouble() {
        None => Ok(()),
        Some(said) => Err(format!("the backend is back, and this is said: {said}")),
    }
}

async fn returned(stand: Given) -> Verdict {
    let city = City::new(&stand);
    let one = city.ready(7001);
    city.lists(&[7001]).await?;
    one.stop().await;
    city.lists(&[]).await?;
    let _again = city.ready(7001);
    city.lists(&[7001]).await
}

async fn expiry(stand: Given) -> Verdict {
    let city = City::new(&stand);
    let (_one, two) = (city.ready(7001), city.ready(7002));
    city.lists(&[7001, 7002]).await?;
    two.kill();
    city.lists_within(&[7001], city.ttl() + NEWS).await
}

async fn heartbeat(stand: Given) -> Verdict {
    let city = City::new(&stand);
    let _one = city.ready(7001);
    city.lists(&[7001]).await?;
    city.keeps(&[7001], city.ttl() * 3).await
}

async fn past(stand: Given) -> Verdict {
    let city = City::new(&stand);
    let one = city.ready(7001);
    city.lists(&[7001]).await?;
    one.kill();
    let _again = city.ready(7001);
    city.keeps(&[7001], city.ttl() * 2).await
}

async fn ready(stand: Given) -> Verdict {
    let city = City::new(&stand);
    let ready = Arc::new(AtomicBool::new(false));
    let says = ready.clone();
    let one = city.member(7001, move || says.load(Ordering::SeqCst));
    city.keeps(&[], Duration::from_millis(500)).await?;
    ready.store(true, Ordering::SeqCst);
    city.lists(&[7001]).await?;
    ready.store(false, Ordering::SeqCst);
    // It could also die of silence, but not so soon.
    stand.backend().announce(&one.who, Duration::from_secs(60)).await.map_err(|e| e.to_string())?;
    city.lists_within(&[], city.ttl() + NEWS).await?;
    ready.store(true, Ordering::SeqCst);
    city.lists(&[7001]).await
}

async fn wiped(stand: Given) -> Verdict {
    let city = City::new(&stand);
    let (_one, _two) = (city.ready(7001), city.ready(7002));
    city.lists(&[7001, 7002]).await?;
    stand.wipe().await;
    city.keeps(&[7001, 7002], city.ttl() * 3).await
}

async fn nobody(stand: Given) -> Verdict {
    let never = Instance::new("case-nobody", ([127, 0, 0, 1], 7009).into());
    stand.backend().withdraw(&never).await.map_err(|e| e.to_string())
}

async fn address(stand: Given) -> Verdict {
    let city = City::new(&stand);
    stand.cut(true);
    let rotation: &Rotation = &city.rotation;
    let began = Instant::now();
    while rotation.trouble().is_none() && began.elapsed() < super::NEVER {
        sleep(Duration::from_millis(20)).await;
    }
    stand.cut(false);
    match rotation.trouble() {
        Some(said) if said.contains("127.0.0.1:") && said.contains("registry.") => Ok(()),
        said => Err(format!("address and setting are not named: {said:?}")),
    }
}
