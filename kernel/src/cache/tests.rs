//! What only the inside of a cache can show; what caches promise stands in `conformance`.

use std::time::Instant;

use crate::testing::library::{Library, NEVER, reads, until, until_reads};
use crate::testing::redis::Server;

/// An event comes while Redis does not take it: its old copy must not be believed when it thaws.
#[tokio::test]
async fn what_redis_did_not_hear_it_is_told_later_and_not_believed_before() {
    let Some(server) = Server::start().await else { return };
    let library = Library::open().await;
    let (near, far) = (server.member("library").await, server.member("library").await);
    let (one, _) = library.reader(Some(&near)).await;
    assert_eq!(library.read(&one).await, "text 1");
    server.freeze();
    let text = library.change().await;
    until_reads(&library, &one, &text).await;
    // A marker in memory would hide what is tested here.
    one.0.memory.clear();
    server.thaw();
    until("Redis is back", || near.is_up() && far.is_up()).await;
    assert_eq!(library.read(&one).await, text, "what lies in Redis is older than it seems");
    let copies = one.0.copies.as_ref().unwrap();
    let epoch = one.0.heard.load_full().unwrap();
    let began = Instant::now();
    while !copies.settle(&epoch).await {
        assert!(began.elapsed() < NEVER);
    }
    let (two, _) = library.reader(Some(&far)).await;
    assert_eq!(library.read(&two).await, text, "whoever starts then is told the truth");
}

/// Redis comes back with what was on its disk a while ago.
#[tokio::test]
async fn copies_of_an_earlier_life_of_redis_do_not_count() {
    let Some(mut server) = Server::start().await else { return };
    let library = Library::open().await;
    let (near, far) = (server.member("library").await, server.member("library").await);
    let (one, _) = library.reader(Some(&near)).await;
    assert_eq!(library.read(&one).await, "text 1");
    server.tell(&["SAVE"]).await;
    let text = library.change().await;
    until_reads(&library, &one, &text).await;
    server.kill();
    server.start_again().await;
    assert!(
        server.tell(&["KEYS", "library:cache:*"]).await.contains("library:cache:pages"),
        "its disk has the old copy"
    );
    until("Redis is back", || near.is_up() && far.is_up()).await;
    let (two, counts) = library.reader(Some(&far)).await;
    assert_eq!(library.read(&two).await, text);
    assert_eq!(reads(&counts, "redis"), 0);
    one.0.memory.clear();
    assert_eq!(library.read(&one).await, text);
}
