//! A lease that several processes try for: Redis turns rivals away, the database decides.
//!
//! Correct is only the lease in the database ([`Lease`]), whose epoch every protected unit checks. Redis saves rivals the
//! look at the database while somebody is at work, and that is all it is good for: a key that expires, is wiped or comes
//! back lets a rival through to the database, which says no. While Redis is away, all rivals ask the database.

use std::time::Duration;

use crate::jobs::Lease;
use crate::redis::{Redis, Reply, Script, Use};
use crate::store::{Store, StoreError, Tx, WriteError};

/// Removes the key if it is still ours: a holder that was paused must not open the door that its successor closed.
static REMOVE: Script =
    Script::new("if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0");
/// Makes it last longer under the same condition, or puts it back if nobody has it.
static EXTEND: Script = Script::new(
    r"local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1",
);

/// Locks of one service.
#[derive(Clone)]
pub struct Locks {
    store: Store,
    redis: Option<Use>,
}

impl Locks {
    /// Locks in this database, with Redis in front of it if there is one.
    pub fn new(store: Store, redis: Option<&Redis>) -> Self {
        Self { store, redis: redis.map(|redis| redis.for_use("locks")) }
    }

    /// Takes the lock for `life` if nobody has it; none if somebody does. Two processes that live at the same time must
    /// not share an owner name.
    ///
    /// # Errors
    /// The database's. Redis has none: without it the database is asked.
    pub async fn acquire(
        &self,
        name: &str,
        owner: &str,
        life: Duration,
    ) -> Result<Option<Held>, WriteError<StoreError>> {
        if !self.may_try(name, owner, life).await {
            return Ok(None);
        }
        let lease = Lease::acquire(&self.store, name, owner, life).await?;
        let held = |lease| Held { lease, locks: self.clone(), name: name.to_owned(), owner: owner.to_owned() };
        match lease {
            Some(lease) => Ok(Some(held(lease))),
            None => {
                self.open(name, owner).await;
                Ok(None)
            }
        }
    }

    /// Whether Redis knows of nobody else; without an answer everybody may try.
    async fn may_try(&self, name: &str, owner: &str, life: Duration) -> bool {
        let Some(redis) = &self.redis else { return true };
        let set = redis.command("SET", &key(name)).arg(owner).arg("NX").arg("PX").number(crate::redis::millis(life));
        let replies = redis.ask(&[set, redis.command("GET", &key(name))]).await.unwrap_or_default();
        match replies.get(1) {
            Some(Reply::Bytes(holder)) => holder == owner.as_bytes(),
            _ => true,
        }
    }

    async fn open(&self, name: &str, owner: &str) {
        if let Some(redis) = &self.redis {
            // If it does not arrive, the key ends by itself.
            redis.run(&REMOVE, &[&key(name)], &[owner.as_bytes()]).await.ok();
        }
    }
}

fn key(name: &str) -> String {
    format!("lock:{name}")
}

/// A lock that was taken. Whether it is still held is what [`Held::guard`] says, inside a unit, and nothing else.
pub struct Held {
    lease: Lease,
    locks: Locks,
    name: String,
    owner: String,
}

impl Held {
    /// The term; each new holder's is higher. It comes from the database, so a wiped Redis cannot give one out twice.
    pub fn epoch(&self) -> i64 {
        self.lease.epoch()
    }

    /// Lets a unit go on only if nobody took over since; call it with `?` in every unit that the lock protects.
    ///
    /// # Errors
    /// Another holder has it: this one woke up as a zombie, and its work must not count.
    pub async fn guard(&self, tx: &Tx) -> Result<(), StoreError> {
        self.lease.guard(tx).await
    }

    /// Makes it last `life` from now on; false if another holder has it.
    pub async fn renew(&self, life: Duration) -> Result<bool, WriteError<StoreError>> {
        let ours = self.lease.renew(&self.locks.store, life).await?;
        if ours && let Some(redis) = &self.locks.redis {
            let life = crate::redis::millis(life).to_string();
            redis.run(&EXTEND, &[&key(&self.name)], &[self.owner.as_bytes(), life.as_bytes()]).await.ok();
        }
        Ok(ours)
    }

    /// Gives it back, so that nobody has to wait for its end.
    pub async fn release(self) -> Result<(), WriteError<StoreError>> {
        let lease = self.lease.clone();
        let given = self.locks.store.write(move |tx| {
            let lease = lease.clone();
            async move { lease.release(&tx).await }
        });
        given.await?;
        self.locks.open(&self.name, &self.owner).await;
        Ok(())
    }
}
