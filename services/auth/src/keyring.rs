//! The signing keys of this city: made and forgotten by plan, sealed at rest, opened once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kernel::clock::Timestamp;
use kernel::http::Fail;
use kernel::store::Store;

use crate::keys::{Jwk, Life, Plan, Rules, SigningKey, plan, signs_now};
use crate::seal::Sealer;
use crate::store::{self, KeyRow, PLATFORM};

const PURPOSE: &str = "signing key";

/// Gives out the key that signs now.
pub(crate) struct Keyring {
    rules: Rules,
    /// The current secret first, then the one before.
    sealers: Vec<Sealer>,
    opened: Mutex<HashMap<String, Arc<SigningKey>>>,
    /// One at a time makes keys: it takes a while, and a second one would make them twice.
    making: tokio::sync::Mutex<()>,
}

impl Keyring {
    /// A keyring that seals with this secret.
    pub(crate) fn new(secret: &[u8], previous: Option<&[u8]>, rules: Rules) -> Self {
        let sealers = std::iter::once(secret).chain(previous).map(|secret| Sealer::new(secret, PURPOSE)).collect();
        Self { rules, sealers, opened: Mutex::default(), making: tokio::sync::Mutex::new(()) }
    }

    /// Every key that a token may be signed with, for verifiers. Never empty, or a verifier would cache nothing.
    pub(crate) async fn published(&self, store: &Store) -> Result<Vec<Jwk>, Fail> {
        let rows = self.living(store).await?;
        Ok(rows.iter().map(|row| Jwk::new(&row.kid, &row.modulus, &row.exponent)).collect())
    }

    /// The key to sign with now.
    pub(crate) async fn current(&self, store: &Store) -> Result<Arc<SigningKey>, Fail> {
        let rows = self.living(store).await?;
        let lives = lives(&rows);
        let current =
            signs_now(&lives, store.clock().now()).and_then(|life| rows.iter().find(|row| row.kid == life.kid));
        self.open(current.ok_or_else(|| Fail::Fault("there is no signing key".to_owned()))?)
    }

    /// Makes the keys that are due and forgets those that nobody needs.
    pub(crate) async fn tend(&self, store: &Store) -> Result<(), Fail> {
        let _only_one = self.making.lock().await;
        let now = store.clock().now();
        let todo = plan(&lives(&store::keys(&store.read()).await?), now, &self.rules);
        if todo == Plan::default() {
            return Ok(());
        }
        let mut made = Vec::new();
        for signs_from in &todo.make {
            made.push(self.make(now, *signs_from).await?);
        }
        let rules = self.rules;
        let changed = store.write(move |tx| {
            let (todo, made) = (todo.clone(), made.clone());
            async move {
                // Another instance may have been faster; then its keys are as good.
                if plan(&lives(&store::keys(&tx).await?), now, &rules) != todo {
                    return Ok(false);
                }
                tx.insert_all(&made).await?;
                store::forget_keys(&tx, &todo.forget).await?;
                Ok::<_, Fail>(true)
            }
        });
        if changed.await? {
            tracing::info!("signing keys changed");
        }
        Ok(())
    }

    async fn living(&self, store: &Store) -> Result<Vec<KeyRow>, Fail> {
        let rows = store::keys(&store.read()).await?;
        if signs_now(&lives(&rows), store.clock().now()).is_some() {
            return Ok(rows);
        }
        self.tend(store).await?;
        Ok(store::keys(&store.read()).await?)
    }

    async fn make(&self, now: Timestamp, signs_from: Timestamp) -> Result<KeyRow, Fail> {
        let made = tokio::task::spawn_blocking(SigningKey::generate).await;
        let key = made.map_err(|e| Fail::Fault(format!("making a key ended early: {e}")))?.map_err(Fail::Fault)?;
        let (modulus, exponent) = key.public().map_err(Fail::Fault)?;
        let private_key = self.sealers[0].seal(&key.pkcs8().map_err(Fail::Fault)?);
        Ok(KeyRow { org_id: PLATFORM, kid: key.kid, private_key, modulus, exponent, published_at: now, signs_from })
    }

    fn open(&self, row: &KeyRow) -> Result<Arc<SigningKey>, Fail> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = opened.get(&row.kid) {
            return Ok(key.clone());
        }
        let der = self.sealers.iter().find_map(|sealer| sealer.open(&row.private_key));
        let der = der.ok_or_else(|| Fail::Fault(format!("signing key {} was sealed under another secret", row.kid)))?;
        let key = Arc::new(SigningKey::from_pkcs8(&row.kid, &der).map_err(Fail::Fault)?);
        // Only the signing key is ever opened, so what was opened before has had its time.
        opened.clear();
        opened.insert(row.kid.clone(), key.clone());
        Ok(key)
    }
}

fn lives(rows: &[KeyRow]) -> Vec<Life> {
    rows.iter().map(|row| Life { kid: row.kid.clone(), signs_from: row.signs_from }).collect()
}
