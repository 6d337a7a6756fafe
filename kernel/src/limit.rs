//! A limit that several processes share: GCRA in Redis by the server's clock, with tokens taken in small blocks.
//!
//! One step in Redis takes one token and, while the bucket is at least half full, a block more that is spent here without
//! asking again. Blocks come out of the bucket, so two processes together never let through more than one of them alone
//! would: a burst and what has become free since. Each further process may add its block once, a sixteenth of a burst.

use std::fmt::Display;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use moka::sync::Cache;

use crate::redis::{Away, Redis, Script, Use};

/// What part of a burst one process may hold for a key.
const BLOCK_SHARE: u32 = 16;
/// Processes whose blocks are taken off the bucket in advance.
const PROCESSES: u32 = 2;
/// Keys whose tokens are held here, and for how long after they were last used. What is forgotten is lost to its key only.
const HELD: u64 = 100_000;
const IDLE: Duration = Duration::from_secs(60);

/// Takes 1 to ARGV[3] tokens. The arrival time of the bucket's last token, in microseconds, is all that is stored. A clock
/// that was set back leaves it ahead by more than a burst, which would lock the key out, so it is capped.
static TAKE: Script = Script::new(
    r"local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local each, depth, want = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local arrival = tonumber(redis.call('GET', KEYS[1]) or now)
arrival = math.min(math.max(arrival, now), now + each * depth)
local free = math.floor((depth * each - (arrival - now)) / each)
if free < 1 then return {0, 0, arrival - now - (depth - 1) * each} end
local taken = 1
if free * 2 >= depth then taken = math.min(want, free) end
arrival = arrival + taken * each
redis.call('SET', KEYS[1], string.format('%.0f', arrival), 'PX', math.ceil((arrival - now) / 1000) + 1)
return {taken, free - taken, 0}",
);

/// What came of asking for a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Here it is, and about so many are left.
    One {
        /// What is left, as far as this process knows.
        left: u32,
    },
    /// There is none before this much time has passed.
    NotBefore(Duration),
}

/// A limit by key, shared with every process that uses the same name in the same Redis.
pub struct SharedLimit<K: Hash + Eq> {
    redis: Use,
    name: &'static str,
    each_us: String,
    depth: String,
    block: u32,
    held: Cache<K, Arc<Held>>,
}

#[derive(Default)]
struct Held {
    tokens: AtomicU32,
    /// What the bucket had left when it was asked last.
    left: AtomicU32,
    /// Somebody is fetching a block; whoever comes meanwhile takes one token for itself, or blocks would add up.
    fetching: AtomicBool,
}

impl Held {
    fn spend(&self) -> bool {
        let less = |tokens: u32| tokens.checked_sub(1);
        self.tokens.load(Ordering::Relaxed) > 0
            && self.tokens.try_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok()
    }

    fn total(&self) -> u32 {
        self.tokens.load(Ordering::Relaxed).saturating_add(self.left.load(Ordering::Relaxed))
    }
}

/// Ends the fetching of a block however it ends.
struct Fetching<'a>(&'a Held);

impl Drop for Fetching<'_> {
    fn drop(&mut self) {
        self.0.fetching.store(false, Ordering::Release);
    }
}

impl<K: Hash + Eq + Clone + Display + Send + Sync + 'static> SharedLimit<K> {
    /// A limit of `burst` tokens per key, all of which come back within `per`.
    pub fn new(redis: &Redis, name: &'static str, burst: u32, per: Duration) -> Self {
        let burst = burst.max(1);
        let block = burst / BLOCK_SHARE;
        // Rounded up: a token that comes back a microsecond late is better than one too many.
        let each_us = per.as_micros().div_ceil(u128::from(burst)).max(1);
        Self {
            redis: redis.for_use("limits"),
            name,
            each_us: each_us.to_string(),
            depth: (burst - PROCESSES * block).to_string(),
            block,
            held: Cache::builder().max_capacity(HELD).time_to_idle(IDLE).build(),
        }
    }

    /// Takes a token of this key.
    ///
    /// # Errors
    /// Redis is away and nothing is held: count here, until it is back.
    pub async fn take(&self, key: &K) -> Result<Taken, Away> {
        let known = self.held.get(key);
        if let Some(held) = &known
            && held.spend()
        {
            return Ok(Taken::One { left: held.total() });
        }
        // No key is remembered for an absent Redis.
        if !self.redis.is_up() {
            return self.ask(key, 1).await.map(|(_, taken)| taken);
        }
        let held = known.unwrap_or_else(|| self.held.get_with_by_ref(key, Arc::default));
        let alone = !held.fetching.swap(true, Ordering::AcqRel);
        let _fetching = alone.then(|| Fetching(&held));
        let (more, taken) = self.ask(key, if alone { 1 + self.block } else { 1 }).await?;
        if let Taken::One { left } = taken {
            held.left.store(left, Ordering::Relaxed);
            held.tokens.fetch_add(more, Ordering::Relaxed);
            return Ok(Taken::One { left: held.total() });
        }
        Ok(taken)
    }

    /// How many tokens came beyond the one, and what came of that.
    async fn ask(&self, key: &K, want: u32) -> Result<(u32, Taken), Away> {
        let key = format!("limit:{}:{key}", self.name);
        let args = [self.each_us.as_bytes(), self.depth.as_bytes(), &want.to_string().into_bytes()];
        let reply = self.redis.run(&TAKE, &[&key], &args).await?.numbers();
        let at = |place: usize| reply.get(place).copied().unwrap_or_default();
        let count = |place| u32::try_from(at(place)).unwrap_or_default();
        match count(0) {
            0 => Ok((0, Taken::NotBefore(Duration::from_micros(u64::try_from(at(2)).unwrap_or_default().max(1))))),
            taken => Ok((taken - 1, Taken::One { left: count(1) })),
        }
    }
}
