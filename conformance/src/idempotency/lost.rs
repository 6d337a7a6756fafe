//! The answer to COMMIT is lost: the caller hears of trouble, asks again with the same key, and learns what happened.

use kernel::store::{Engine, Server};
use kernel::testing::proxy::Proxy;

use super::door::Ask;
use super::till::Build;
use super::{Complaints, Shop, engine, verdict};
use crate::place::Place;

async fn lose_answers(shop: &Shop, proxy: &Proxy, keys: usize) -> Vec<String> {
    let mut found = Complaints::default();
    for number in 0..keys {
        let mark = format!("lost-{number}");
        shop.door.ask(&Ask::keyed(&format!("warm-{number}"))).await;
        proxy.cut_after_commit();
        // Jobs and relay commit too, and the cut may hit one of theirs: then this request was simply served.
        let first = shop.door.ask(&Ask::keyed(&mark)).await;
        found.unless(matches!(first.status, 201 | 503), || format!("neither served nor told to try again: {first:?}"));
        let again = shop.door.ask(&Ask::keyed(&mark)).await;
        found.unless(again.status == 201 && again.replayed, || format!("the stored answer did not come: {again:?}"));
        let effects = shop.door.tally().await.of(&mark);
        found.unless(effects == 1, || format!("{mark}: {effects} effects"));
    }
    found.0
}

async fn shop(build: Build, url: &str) -> (Shop, Proxy) {
    let folder = tempfile::tempdir().expect("an address of a server");
    let Engine::Postgres(server) = engine(folder.path(), Some(url)) else { panic!("not a server") };
    let (user, rest) = server.url.rsplit_once('@').expect("an address of a server");
    let (place, database) = rest.split_once('/').expect("an address of a server");
    let proxy = Proxy::to(place.to_owned()).await;
    let url = format!("{user}@{}/{database}", proxy.address);
    (Shop::open_on(build, Engine::Postgres(Server { url, ..server }), folder).await, proxy)
}

pub(super) async fn resolved(place: Place) -> String {
    let url = place.postgres().expect("this case is about a server");
    let (shop, proxy) = shop(if place.seeded { Build::Keyless } else { Build::Sound }, url).await;
    let found = lose_answers(&shop, &proxy, if place.seeded { 2 } else { 6 }).await;
    shop.close().await;
    verdict(&place, &found, "the stored answer did not come", "6 answers lost, 6 found, 1 effect each".to_owned())
}
