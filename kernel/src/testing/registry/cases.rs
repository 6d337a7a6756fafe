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
    ($($of:ident $name:ident notices $fault:ident;)*) => {
        /// All promises.
        pub const CASES: &[Case] = &[$(Case {
            name: stringify!($name),
            of_entries: $of,
            notices: Fault::$fault,
            run: |stand| -> BoxFuture<'static, Verdict> { Box::pin($name(stand)) },
        }),*];
    };
}

const ENTRIES: bool = true;
const LISTS: bool = false;

cases! {
    LISTS a_started_instance_is_listed notices DeafToEntries;
    LISTS two_instances_are_both_listed notices KnowsOnlyOne;
    LISTS instances_of_other_services_are_not_listed notices MixesServices;
    LISTS a_stopped_instance_leaves_before_its_time_to_live notices WithdrawalLost;
    LISTS a_change_wakes_whoever_watches notices SleepsThrough;
    LISTS an_unchanged_list_answers_no_watch_at_once notices NeverWaits;
    LISTS the_last_list_is_kept_while_the_backend_is_away_and_that_is_said notices ForgetsWhenAway;
    LISTS what_changed_while_the_backend_was_away_is_seen_when_it_is_back notices NeverComesBack;
    LISTS an_instance_that_comes_back_at_its_old_address_is_listed_again notices BuriesForGood;
    ENTRIES a_killed_instance_leaves_within_its_time_to_live notices Immortal;
    ENTRIES a_living_instance_outlives_its_time_to_live notices HeartbeatLost;
    ENTRIES an_instance_that_was_killed_and_is_back_at_once_is_not_taken_off_by_its_past notices OldLifeEndsNew;
    ENTRIES an_instance_that_is_not_ready_leaves_and_comes_back notices WithdrawalLost;
    ENTRIES a_backend_that_lost_everything_is_filled_again_without_a_gap notices HeartbeatLost;
    ENTRIES withdrawing_what_is_not_there_is_no_trouble notices ChokesOnNothing;
    LISTS a_wrong_address_is_named_with_the_setting notices Mumbles;
}

async fn a_started_instance_is_listed(stand: Given) -> Verdict {
    let city = City::new(&stand);
    let _one = city.ready(7001);
    city.lists(&[7001]).await
}

async fn two_instances_are_both_listed(stand: Given) -> Verdict {
    let city = City::new(&stand);
    let (_one, _two) = (city.ready(7001), city.ready(7002));
    city.lists(&[7001, 7002]).await
}

async fn instances_of_other_services_are_not_listed(stand: Given) -> Verdict {
    let (city, other) = (City::new(&stand), City::new(&stand));
    let (_one, _two) = (city.ready(7001), other.ready(7002));
    city.lists(&[7001]).await?;
    other.lists(&[7002]).await?;
    city.keeps(&[7001], city.ttl() / 2).await
}

async fn a_stopped_instance_leaves_before_its_time_to_live(stand: Given) -> Verdict {
    let city = City::new(&stand);
    let (_one, two) = (city.ready(7001), city.ready(7002));
    city.lists(&[7001, 7002]).await?;
    // Right after a heartbeat, so that dying of silence would take the whole time to live.
    stand.backend().announce(&two.who, Duration::from_secs(60)).await.map_err(|e| e.to_string())?;
    two.stop().await;
    city.lists_within(&[7001], NEWS).await
}

async fn a_change_wakes_whoever_watches(stand: Given) -> Verdict {
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

async fn an_unchanged_list_answers_no_watch_at_once(stand: Given) -> Verdict {
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

async fn the_last_list_is_kept_while_the_backend_is_away_and_that_is_said(stand: Given) -> Verdict {
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

async fn what_changed_while_the_backend_was_away_is_seen_when_it_is_back(stand: Given) -> Verdict {
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

async fn an_instance_that_comes_back_at_its_old_address_is_listed_again(stand: Given) -> Verdict {
    let city = City::new(&stand);
    let one = city.ready(7001);
    city.lists(&[7001]).await?;
    one.stop().await;
    city.lists(&[]).await?;
    let _again = city.ready(7001);
    city.lists(&[7001]).await
}

async fn a_killed_instance_leaves_within_its_time_to_live(stand: Given) -> Verdict {
    let city = City::new(&stand);
    let (_one, two) = (city.ready(7001), city.ready(7002));
    city.lists(&[7001, 7002]).await?;
    two.kill();
    city.lists_within(&[7001], city.ttl() + NEWS).await
}

async fn a_living_instance_outlives_its_time_to_live(stand: Given) -> Verdict {
    let city = City::new(&stand);
    let _one = city.ready(7001);
    city.lists(&[7001]).await?;
    city.keeps(&[7001], city.ttl() * 3).await
}

async fn an_instance_that_was_killed_and_is_back_at_once_is_not_taken_off_by_its_past(stand: Given) -> Verdict {
    let city = City::new(&stand);
    let one = city.ready(7001);
    city.lists(&[7001]).await?;
    one.kill();
    let _again = city.ready(7001);
    city.keeps(&[7001], city.ttl() * 2).await
}

async fn an_instance_that_is_not_ready_leaves_and_comes_back(stand: Given) -> Verdict {
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

async fn a_backend_that_lost_everything_is_filled_again_without_a_gap(stand: Given) -> Verdict {
    let city = City::new(&stand);
    let (_one, _two) = (city.ready(7001), city.ready(7002));
    city.lists(&[7001, 7002]).await?;
    stand.wipe().await;
    city.keeps(&[7001, 7002], city.ttl() * 3).await
}

async fn withdrawing_what_is_not_there_is_no_trouble(stand: Given) -> Verdict {
    let never = Instance::new("case-nobody", ([127, 0, 0, 1], 7009).into());
    stand.backend().withdraw(&never).await.map_err(|e| e.to_string())
}

async fn a_wrong_address_is_named_with_the_setting(stand: Given) -> Verdict {
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
