//! The tier in Redis. Keys name the outbox that is heard and the server's present life, so that a database made anew or a
//! Redis that came back with yesterday's data begin with nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{MARKER, tiers};
use crate::redis::{Away, Redis, Script, Use, millis};

/// Puts a copy, or with empty text a marker, unless what is there is newer. The value is the version, a line feed, the text.
static PUT: Script = Script::new(
    r"local head = string.match(redis.call('GETRANGE', KEYS[1], 0, 20), '^(%d+)\n')
local known, version = tonumber(head), tonumber(ARGV[1])
if known and known > version then return 0 end
if known == version and (ARGV[2] == '' or redis.call('STRLEN', KEYS[1]) > string.len(head) + 1) then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. '\n' .. ARGV[2], 'PX', ARGV[3])
return 1",
);

pub(super) struct Copies {
    name: &'static str,
    redis: Use,
    /// Markers that Redis did not take: until it has, its copies of these things are older than they seem.
    owed: Mutex<HashMap<Uuid, i64>>,
}

impl Copies {
    pub(super) fn new(name: &'static str, redis: &Redis) -> Self {
        Self { name, redis: redis.for_use("cache"), owed: Mutex::default() }
    }

    fn key(&self, epoch: &Uuid, life: &Arc<str>, what: &str) -> String {
        let short = |text: &str| text.chars().take(12).collect::<String>();
        format!("cache:{}:{}-{}:{what}", self.name, short(&epoch.simple().to_string()), short(life))
    }

    fn key_of(&self, epoch: &Uuid, id: Uuid) -> Option<String> {
        Some(self.key(epoch, &self.redis.life()?, &id.simple().to_string()))
    }

    /// The copy and its version.
    pub(super) async fn get<V: DeserializeOwned>(&self, epoch: &Uuid, id: Uuid) -> Option<(i64, V)> {
        if self.owed.lock().contains_key(&id) {
            return None;
        }
        open(&self.redis.get(&self.key_of(epoch, id)?).await.ok()??)
    }

    /// Puts a copy or a marker. A marker that did not arrive is owed; a copy that did is as good as the marker.
    pub(super) async fn put<V: Serialize>(
        &self,
        epoch: &Uuid,
        id: Uuid,
        version: i64,
        value: Option<&V>,
        life: Duration,
    ) {
        let arrived = self.try_put(epoch, id, version, value, life).await.is_ok();
        let mut owed = self.owed.lock();
        if arrived {
            if owed.get(&id).is_some_and(|owed| *owed <= version) {
                owed.remove(&id);
            }
        } else if value.is_none() {
            let most = owed.entry(id).or_default();
            *most = version.max(*most);
        }
    }

    async fn try_put<V: Serialize>(
        &self,
        epoch: &Uuid,
        id: Uuid,
        version: i64,
        value: Option<&V>,
        life: Duration,
    ) -> Result<(), Away> {
        let key = self.key_of(epoch, id).ok_or(Away)?;
        let text = value.map(serde_json::to_vec).transpose().map_err(|_| Away)?.unwrap_or_default();
        let (version, life) = (version.to_string(), millis(tiers::jittered(life)).to_string());
        self.redis.run(&PUT, &[&key], &[version.as_bytes(), &text, life.as_bytes()]).await.map(drop)
    }

    /// Sends what is owed; says whether nothing is any more.
    pub(super) async fn settle(&self, epoch: &Uuid) -> bool {
        let owed: Vec<(Uuid, i64)> = self.owed.lock().iter().map(|(id, version)| (*id, *version)).collect();
        for (id, version) in owed {
            if !self.redis.is_up() {
                break;
            }
            self.put::<()>(epoch, id, version, None, MARKER).await;
        }
        self.owed.lock().is_empty()
    }

    /// Up to which position of the outbox copies have been dropped, by whoever did so last.
    pub(super) async fn position(&self, epoch: &Uuid) -> Option<i64> {
        let key = self.key(epoch, &self.redis.life()?, "upto");
        String::from_utf8(self.redis.get(&key).await.ok()??).ok()?.parse().ok()
    }

    /// Notes up to which position copies have been dropped, for whoever starts next.
    pub(super) async fn note(&self, epoch: &Uuid, upto: i64, life: Duration) {
        let Some(server) = self.redis.life() else { return };
        let key = self.key(epoch, &server, "upto");
        // It must outlive the copies it speaks of; a lost note only makes the next start begin at the end of the outbox,
        // where copies are at most as old as their life.
        self.redis.put(&[(key, upto.to_string().into_bytes(), life * 10)]).await.ok();
    }
}

/// The version and the thing in a value; none for a marker, and for what no longer reads.
fn open<V: DeserializeOwned>(bytes: &[u8]) -> Option<(i64, V)> {
    let end = bytes.iter().position(|b| *b == b'\n')?;
    let version = std::str::from_utf8(&bytes[..end]).ok()?.parse().ok()?;
    let text = &bytes[end + 1..];
    // A copy that an older or newer program wrote does not read: its owner is asked, and the next copy is ours.
    (!text.is_empty()).then(|| serde_json::from_slice(text).ok()).flatten().map(|value| (version, value))
}
