//! A user and a key prefix per member: what one may do with its own keys, and that others' are out of sight.

use std::time::Duration;

use kernel::limit::{SharedLimit, Taken};
use kernel::redis::{Administrator, Kept, Redis, RedisSettings, Reply, provision, user_of};
use kernel::secrets::{Secret, Secrets};
use kernel::task::Tasks;
use kernel::testing::redis::Server;

#[tokio::test]
async fn a_member_has_its_own_keys_and_sees_no_others() {
    let Some(server) = Server::start().await else { return };
    let made = server.provide(&["orders", "ledger"]).await;
    assert_eq!((made.kept, made.default_user_is_on), (Kept::Yes, false));
    assert_eq!((made.users[0].name.as_str(), made.users[0].keys.as_str()), ("orders", "orders:*"));
    let (orders, ledger) = (server.member("orders").await.for_use("a"), server.member("ledger").await.for_use("a"));
    let one = |n: &str| [(n.to_owned(), b"mine".to_vec(), Duration::from_secs(60))];
    orders.put(&one("x")).await.unwrap();
    assert_eq!(orders.get("x").await.unwrap().as_deref(), Some(b"mine".as_slice()));
    assert_eq!(ledger.get("x").await.unwrap(), None, "each has a name of its own for it");
    assert!(server.tell(&["EXISTS", "orders:x"]).await.starts_with(":1"));
    let left: i64 = server.tell(&["PTTL", "orders:x"]).await.lines().next().unwrap()[1..].parse().unwrap();
    assert!((1..=60_000).contains(&left), "it ends by itself");
}

/// Every way in which one member could see, touch or slow down another, and what it may do all the same.
#[tokio::test]
async fn what_reaches_beyond_the_own_prefix_is_refused() {
    let Some(server) = Server::start().await else { return };
    server.provide(&["orders", "ledger"]).await;
    server.tell(&["SET", "ledger:x", "theirs"]).await;
    let password = server.secrets().get("redis-orders").unwrap().reveal_text();
    let refused = [
        "GET ledger:x",
        "SET ledger:x 1",
        "DEL ledger:x",
        "GET orders",
        "RENAME orders:x ledger:x",
        "EVAL return(redis.call('GET','ledger:x')) 0",
        "SCAN 0",
        "KEYS *",
        "RANDOMKEY",
        "DBSIZE",
        "FLUSHALL",
        "FLUSHDB",
        "SWAPDB 0 1",
        "SELECT 1",
        "SCRIPT FLUSH",
        "FUNCTION LIST",
        "FUNCTION FLUSH",
        "CONFIG GET *",
        "ACL LIST",
        "ACL SETUSER orders allkeys",
        "CLIENT LIST",
        "CLIENT KILL TYPE normal",
        "SHUTDOWN NOSAVE",
        "MONITOR",
        "REPLICAOF NO ONE",
        "SAVE",
        "SUBSCRIBE ledger:news",
        "PUBLISH ledger:news 1",
    ];
    for line in refused {
        let words: Vec<&str> = line.split(' ').collect();
        let said = server.tell_as("orders", &password, &words).await;
        assert!(said.contains("NOPERM") || said.contains("can't access"), "{line}: {said}");
    }
    for line in
        ["SET orders:x 1", "PUBLISH orders:news 1", "INFO server", "EVAL return(redis.call('GET','orders:x')) 0"]
    {
        let words: Vec<&str> = line.split(' ').collect();
        let said = server.tell_as("orders", &password, &words).await;
        assert!(!said.starts_with('-'), "{line}: {said}");
    }
    assert!(server.tell(&["GET", "ledger:x"]).await.contains("theirs"));
    let nobody = server.tell_as("default", "", &["GET", "ledger:x"]).await;
    assert!(nobody.contains("NOAUTH"), "who names no user is not let in: {nobody}");
}

#[tokio::test]
async fn what_a_user_was_allowed_before_is_taken_back_and_both_passwords_of_a_rotation_count() {
    let Some(mut server) = Server::start().await else { return };
    server.provide(&["orders"]).await;
    let before = server.secrets().get("redis-orders").unwrap().reveal_text();
    server.tell(&["ACL", "SETUSER", "orders", "allkeys", "+@all"]).await;
    let after = server.secrets().lay_next("redis-orders").await.unwrap().reveal_text();
    server.secrets().promote("redis-orders").await.unwrap();
    server.provide(&["orders"]).await;
    for password in [&before, &after] {
        let said = server.tell_as("orders", password, &["GET", "orders:x"]).await;
        assert!(!said.starts_with('-'), "{said}");
    }
    assert!(server.tell_as("orders", &after, &["GET", "ledger:x"]).await.contains("NOPERM"));
    assert!(server.tell_as("orders", "guessed", &["GET", "orders:x"]).await.contains("NOAUTH"));
    // Users are on its disk: a restart brings them back.
    server.kill();
    server.start_again().await;
    assert!(!server.tell_as("orders", &after, &["GET", "orders:x"]).await.starts_with('-'));
}

#[tokio::test]
async fn a_wrong_administrator_is_told_what_to_do() {
    let Some(server) = Server::start().await else { return };
    server.provide(&["orders"]).await;
    let wrong = Administrator { user: "admin".to_owned(), password: Some(Secret::new(b"guessed")) };
    let why = provision(&server.settings(), &wrong, server.secrets(), &["orders"]).await.unwrap_err().to_string();
    assert!(why.contains("admin") && !why.contains("guessed"), "{why}");
    let mere = Administrator { user: "orders".to_owned(), password: server.secrets().get("redis-orders").ok() };
    let why = provision(&server.settings(), &mere, server.secrets(), &["orders"]).await.unwrap_err().to_string();
    assert!(why.contains("the administrator needs the right to use ACL"), "{why}");
}

#[tokio::test]
async fn a_member_without_its_user_goes_on_without_and_says_how_to_make_one() {
    let Some(server) = Server::start().await else { return };
    let tasks = Tasks::new();
    let password = server.secrets().get("redis-orders").unwrap();
    let redis = Redis::open_as(&server.settings(), "orders", &password, &tasks).await.unwrap();
    assert!(!redis.is_up());
    assert!(redis.stand().contains("`migrate`"), "{}", redis.stand());
    server.provide(&["orders"]).await;
    crate::until("the user is tried again", async || redis.is_up()).await;
    assert_eq!(redis.stand(), "answers");
}

#[tokio::test]
async fn cities_that_share_a_redis_differ_by_their_prefix() {
    let Some(server) = Server::start().await else { return };
    let settings = RedisSettings { prefix: "berlin-".to_owned(), ..server.settings() };
    provision(&settings, &Server::administrator(), server.secrets(), &["orders"]).await.unwrap();
    assert_eq!(user_of(&settings, "orders"), "berlin-orders");
    let tasks = Tasks::new();
    let redis = Redis::open(&settings, "orders", server.secrets(), &tasks).await.unwrap().unwrap();
    let used = redis.for_use("a");
    let replies = used.ask(&[used.command("SET", "x").arg("1"), used.command("GET", "x")]).await.unwrap();
    assert_eq!(replies[1], Reply::Bytes(b"1".to_vec()));
    assert!(server.tell(&["EXISTS", "berlin-orders:x"]).await.starts_with(":1"));
}

/// The Redis that the test run names, if it does: another version than the one on this machine, or Valkey.
#[tokio::test]
async fn the_redis_of_the_test_run_takes_our_users() {
    let Some((settings, administrator)) = named() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (secrets, tasks) = (Secrets::open(folder.path()).unwrap(), Tasks::new());
    let made = provision(&settings, &administrator, &secrets, &["orders", "ledger"]).await.unwrap();
    assert!(made.default_user_is_on, "it is the administrator here, and others use it");
    let open = async |member| Redis::open(&settings, member, &secrets, &tasks).await.unwrap().unwrap().for_use("a");
    let (orders, ledger) = (open("orders").await, open("ledger").await);
    orders.put(&[("x".to_owned(), b"mine".to_vec(), Duration::from_secs(60))]).await.unwrap();
    assert_eq!(orders.get("x").await.unwrap().as_deref(), Some(b"mine".as_slice()));
    assert_eq!(ledger.get("x").await.unwrap(), None);
    let limit = SharedLimit::<String>::new(
        &Redis::open(&settings, "orders", &secrets, &tasks).await.unwrap().unwrap(),
        "a",
        2,
        Duration::from_secs(1000),
    );
    let taken = [limit.take(&"k".into()).await, limit.take(&"k".into()).await, limit.take(&"k".into()).await];
    assert!(matches!(taken, [Ok(Taken::One { .. }), Ok(Taken::One { .. }), Ok(Taken::NotBefore(_))]), "{taken:?}");
}

/// `redis://:PASSWORD@HOST:PORT`, where the default user may do everything; keys begin with something of this test's own.
#[expect(clippy::disallowed_methods, reason = "where the engines are is told by the environment of the test run")]
fn named() -> Option<(RedisSettings, Administrator)> {
    let told = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let Some(url) = told("FX_TEST_REDIS") else {
        assert_ne!(told("FX_TEST_REQUIRE_ENGINES").as_deref(), Some("1"), "FX_TEST_REDIS is not set");
        println!("skipped: FX_TEST_REDIS is not set");
        return None;
    };
    let (password, address) = url.strip_prefix("redis://:")?.rsplit_once('@')?;
    let prefix = format!("t{}-", kernel::ids::fresh().simple());
    let settings = RedisSettings { url: format!("redis://{address}"), prefix, ..RedisSettings::default() };
    Some((settings, Administrator { user: "default".to_owned(), password: Some(Secret::new(password.as_bytes())) }))
}
