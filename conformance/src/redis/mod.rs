//! What processes share through Redis, each case with a server of its own that it may wipe, freeze and kill.

mod away;
mod limits;
mod locks;

use std::time::Duration;

use kernel::redis::Redis;
use kernel::testing::redis::Server;

use crate::case::{Case, case};

/// How long anything may take before it counts as never.
const NEVER: Duration = Duration::from_secs(20);

pub(crate) fn of_redis() -> Vec<Case> {
    vec![
        case!("redis.stopped", "while it is stopped calls fail at once, and it is found when it is back",
            fault "a Redis that runs on", away::stopped),
        case!("redis.frozen", "frozen by SIGSTOP it costs a few answers of waiting, and then nothing",
            fault "a Redis that is not frozen", away::frozen),
        case!("redis.late", "one late answer is no outage, and is not taken for that of another question",
            fault "three late answers in a row", away::late),
        case!("redis.slow", "one that is always slow is left alone",
            fault "a line that is quick", away::slow),
        case!("redis.load", "wiped, frozen and killed under load, no call hangs or gets another's answer",
            fault "two callers who use one key", away::load),
    ]
}

pub(crate) fn of_limits() -> Vec<Case> {
    vec![
        case!("limits.together", "two processes together let through no more than one limit",
            fault "a limit of the second process's own", limits::together),
        case!("limits.blocks", "what processes hold in advance is taken off the common bucket",
            fault "a limit of the second process's own", limits::blocks),
        case!("limits.quiet", "far below the limit most requests ask nobody",
            fault "a process that holds nothing in advance", limits::quiet),
        case!("limits.clock", "the time of a limit is that of Redis, and a wrong clock locks nobody out",
            fault "a time by another clock", limits::clock),
        case!("limits.away", "while Redis is away the limit says so, and a wipe only forgives",
            fault "a Redis that is not away", limits::away),
    ]
}

pub(crate) fn of_locks() -> Vec<Case> {
    vec![
        case!("locks.rivals", "one holds a lock, and rivals are turned away by Redis",
            fault "a Redis that forgot the holder", locks::rivals),
        case!("locks.without", "with Redis wiped or away, the database turns rivals away",
            fault "a lease in the database that is over", locks::without),
        case!("locks.zombie", "a holder that wakes up too late is fenced, whatever Redis says",
            fault "an epoch that goes back", locks::zombie),
    ]
}

pub(crate) async fn server() -> Server {
    Server::start().await.expect("whoever plays has looked whether there is a Redis")
}

/// Everything it counts, as text.
fn counted(redis: &Redis) -> impl Fn() -> String {
    let mut registry = prometheus_client::registry::Registry::default();
    redis.register(&mut registry);
    move || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("figures become text");
        text
    }
}

/// The number behind the first line that begins so; none counts as zero.
fn figure(text: &str, start: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(start));
    line.and_then(|rest| rest.trim().parse().ok()).unwrap_or(0)
}
