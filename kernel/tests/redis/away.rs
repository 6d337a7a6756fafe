//! Addresses where no Redis is: the program starts, and says so.

use std::time::Instant;

use kernel::redis::{Redis, RedisSettings};
use kernel::task::Tasks;
use kernel::testing::redis::Server;

#[tokio::test]
async fn an_address_where_nobody_is_or_nobody_answers_lets_the_program_start() {
    let Some(server) = Server::start().await else { return };
    let password = server.secrets().get("redis-orders").unwrap();
    let tasks = Tasks::new();
    let open = async |url: &str| {
        let settings = RedisSettings { url: url.to_owned(), connect_ms: 200, ..RedisSettings::default() };
        Redis::open_as(&settings, "orders", &password, &tasks).await
    };
    let nobody = open("redis://127.0.0.1:1").await.unwrap();
    assert!(!nobody.is_up() && nobody.stand().contains("redis://127.0.0.1:1"), "{}", nobody.stand());
    let deaf = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let begun = Instant::now();
    let unheard = open(&format!("redis://{}", deaf.local_addr().unwrap())).await.unwrap();
    assert!(unheard.stand().contains("redis.connect_ms = 200"), "{}", unheard.stand());
    assert!(begun.elapsed() < crate::NEVER);
    let error = open("http://127.0.0.1:1").await.err().unwrap();
    assert!(error.to_string().contains("redis.url"), "{error}");
}
