//! Revocations that gateways share through Redis: one that has just started, or whose line to the auth service is cut,
//! knows what the others know.
//!
//! The truth is what the auth service publishes; every gateway follows that by itself. While Redis is away each goes on with
//! what it hears. A Redis that was wiped or comes back as it was a while ago is told everything anew by all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kernel::redis::{Away, Redis, Script, Use};
use uuid::Uuid;

use crate::revocations::{Revocations, Revoked};

/// Between two looks at what others have heard; well below the ten seconds in which a revocation has to work everywhere.
const EVERY: Duration = Duration::from_secs(2);
/// Revocations told or fetched in one step.
const AT_ONCE: usize = 500;

/// Adds what is new, numbers it in the order it came, and gives what came after the number ARGV[1]. The first ones go once
/// their time is over: they are the oldest, or nearly.
static SYNC: Script = Script::new(
    r"for place = 2, #ARGV do
  if not redis.call('ZSCORE', KEYS[1], ARGV[place]) then
    redis.call('ZADD', KEYS[1], redis.call('INCR', KEYS[2]), ARGV[place])
  end
end
local now = tonumber(redis.call('TIME')[1])
for _, old in ipairs(redis.call('ZRANGE', KEYS[1], 0, 99)) do
  if tonumber(string.match(old, '%d+$')) >= now then break end
  redis.call('ZREM', KEYS[1], old)
end
return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, 500)",
);

/// How far this gateway is with one life of Redis.
struct Step {
    life: Arc<str>,
    seen: i64,
}

pub(crate) struct SharedRevocations {
    redis: Use,
    known: Revocations,
    asked: AtomicBool,
}

impl SharedRevocations {
    pub(crate) fn new(redis: &Redis, known: Revocations) -> Self {
        // From here on what is told is kept for the others.
        known.news();
        Self { redis: redis.for_use("revocations"), known, asked: AtomicBool::new(false) }
    }

    /// Whether the others' were asked for once, whatever came of it.
    pub(crate) fn has_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// Tells and hears, for ever.
    pub(crate) async fn keep_in_step(&self) {
        let mut step = None;
        loop {
            let news = self.known.news();
            step = self.exchange(step, news).await;
            self.asked.store(true, Ordering::Release);
            tokio::select! {
                () = self.known.told() => {}
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    /// One exchange. Nothing is remembered of one that failed, so that the next one tells everything.
    async fn exchange(&self, step: Option<Step>, news: Vec<Revoked>) -> Option<Step> {
        let life = self.redis.life()?;
        let same = step.filter(|step| step.life == life);
        let (mut seen, tell) = match same {
            Some(step) => (step.seen, news),
            None => (0, self.known.all()),
        };
        for some in tell.chunks(AT_ONCE) {
            seen = self.sync(seen, some).await.ok()?.0;
        }
        loop {
            let (upto, count) = self.sync(seen, &[]).await.ok()?;
            seen = upto;
            if count < AT_ONCE {
                return Some(Step { life, seen });
            }
        }
    }

    /// Tells some and takes over what came after `seen`: how far that was, and how many.
    async fn sync(&self, seen: i64, tell: &[Revoked]) -> Result<(i64, usize), Away> {
        let words = std::iter::once(seen.to_string()).chain(tell.iter().map(written));
        let words: Vec<String> = words.collect();
        let args: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
        let reply = self.redis.run(&SYNC, &["revoked", "revoked:count"], &args).await?.texts();
        let mut upto = seen;
        for pair in reply.chunks_exact(2) {
            if let Some(revoked) = read(&pair[0]) {
                self.known.learn(revoked);
            }
            upto = pair[1].parse().unwrap_or(upto);
        }
        Ok((upto, reply.len() / 2))
    }
}

/// As it lies in Redis; the time until which it counts comes last.
fn written(revoked: &Revoked) -> String {
    match revoked {
        Revoked::Session { id, until } => format!("session:{}:{until}", id.simple()),
        Revoked::User { id, before, until } => format!("user:{}:{before}:{until}", id.simple()),
    }
}

fn read(text: &str) -> Option<Revoked> {
    let parts: Vec<&str> = text.split(':').collect();
    match parts[..] {
        ["session", id, until] => Some(Revoked::Session { id: Uuid::parse_str(id).ok()?, until: until.parse().ok()? }),
        ["user", id, before, until] => Some(Revoked::User {
            id: Uuid::parse_str(id).ok()?,
            before: before.parse().ok()?,
            until: until.parse().ok()?,
        }),
        _ => None,
    }
}
