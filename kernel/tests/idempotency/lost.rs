//! The answer to COMMIT is lost: the caller hears of trouble, asks again with the same key, and learns what happened.

use kernel::store::{Engine, Server};
use kernel::testing::proxy::Proxy;

use crate::door::Ask;
use crate::till::Build;
use crate::{Complaints, Shop, engine, engines};

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
    let folder = tempfile::tempdir().unwrap();
    let Engine::Postgres(server) = engine(folder.path(), Some(url)) else { panic!("not a server") };
    let (user, rest) = server.url.rsplit_once('@').unwrap();
    let (place, database) = rest.split_once('/').unwrap();
    let proxy = Proxy::to(place.to_owned()).await;
    let url = format!("{user}@{}/{database}", proxy.address);
    (Shop::open_on(build, Engine::Postgres(Server { url, ..server }), folder).await, proxy)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_commit_is_resolved_by_the_key() {
    let Some(url) = engines().into_iter().flatten().next() else { return };
    let (sound, proxy) = shop(Build::Sound, &url).await;
    assert_eq!(lose_answers(&sound, &proxy, 6).await, [""; 0]);
    sound.close().await;
    let (keyless, proxy) = shop(Build::Keyless, &url).await;
    assert_ne!(
        lose_answers(&keyless, &proxy, 2).await,
        [""; 0],
        "the check does not notice that nothing is remembered"
    );
    keyless.close().await;
}
