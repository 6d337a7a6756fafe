//! The tier in this process: copies and markers by id, bounded in number and time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::ops::compute::Op;
use moka::sync::Cache;
use uuid::Uuid;

use super::{Keep, MARKER, tiers};

struct Entry<V> {
    version: i64,
    /// None is a marker: this version is out there, and an older one must not come back.
    value: Option<Arc<V>>,
}

impl<V> Clone for Entry<V> {
    fn clone(&self) -> Self {
        Self { version: self.version, value: self.value.clone() }
    }
}

/// Copies live as long as the settings say, give or take a little, so that not all are read again at once.
struct Lives(Duration);

impl<V> Expiry<Uuid, Entry<V>> for Lives {
    fn expire_after_create(&self, _: &Uuid, entry: &Entry<V>, _: Instant) -> Option<Duration> {
        Some(if entry.value.is_some() { tiers::jittered(self.0) } else { MARKER })
    }

    fn expire_after_update(&self, id: &Uuid, entry: &Entry<V>, at: Instant, _: Option<Duration>) -> Option<Duration> {
        self.expire_after_create(id, entry, at)
    }
}

pub(super) struct Memory<V>(Cache<Uuid, Entry<V>>);

impl<V: Send + Sync + 'static> Memory<V> {
    pub(super) fn new(keep: Keep) -> Self {
        Self(Cache::builder().max_capacity(keep.entries).expire_after(Lives(keep.life)).build())
    }

    pub(super) fn get(&self, id: &Uuid) -> Option<Arc<V>> {
        self.0.get(id)?.value
    }

    /// Puts a copy or a marker, unless it is there already or what is there is newer. Says whether nothing newer is.
    pub(super) fn put(&self, id: Uuid, version: i64, value: Option<Arc<V>>) -> bool {
        let mut newest = true;
        self.0.entry(id).and_compute_with(|known| {
            let Some(known) = known.map(moka::Entry::into_value) else { return Op::Put(Entry { version, value }) };
            newest = known.version <= version;
            let better = known.version < version || newest && known.value.is_none() && value.is_some();
            if better { Op::Put(Entry { version, value }) } else { Op::Nop }
        });
        newest
    }

    pub(super) fn clear(&self) {
        self.0.invalidate_all();
    }
}
