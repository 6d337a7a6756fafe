//! The keys that tokens are signed with: fetched from the auth service, kept when it is away.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::Method;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use kernel::clock::Clock;
use kernel::http::assertion::Signer;
use kernel::http::server::{Limits, read_body};

use crate::line::{self, Asked};
use crate::outbound::Content;
use crate::upstream::{Instance, Upstream};

/// Between two fetches that unknown keys set off, in seconds; a flood of made-up keys fetches no more often.
const COOL_DOWN: i64 = 30;
/// The same while we have no key at all.
const EAGER: i64 = 1;
const FETCH_TIMEOUT: Duration = Duration::from_secs(2);

/// A key and the one algorithm it is for: what a token's head says decides nothing.
pub(crate) struct Key {
    pub(crate) algorithm: Algorithm,
    pub(crate) key: DecodingKey,
}

/// The keys of one fetch.
#[derive(Default)]
pub(crate) struct KeySet {
    /// Grows with every change, so that a token checked with an older set is checked again.
    pub(crate) generation: u64,
    keys: HashMap<String, Key>,
}

impl KeySet {
    pub(crate) fn get(&self, id: &str) -> Option<&Key> {
        self.keys.get(id)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// The current keys and where they come from.
pub(crate) struct Keys {
    current: ArcSwap<KeySet>,
    text: parking_lot::Mutex<Bytes>,
    fetching: tokio::sync::Mutex<()>,
    fetched_at: AtomicI64,
    auth: Arc<Upstream>,
    connect: Duration,
    signer: Signer,
    clock: Clock,
}

impl Keys {
    pub(crate) fn new(auth: Arc<Upstream>, connect: Duration, signer: Signer, clock: Clock) -> Self {
        Self {
            current: ArcSwap::default(),
            text: parking_lot::Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
            fetched_at: AtomicI64::new(i64::MIN),
            auth,
            connect,
            signer,
            clock,
        }
    }

    pub(crate) fn current(&self) -> Arc<KeySet> {
        self.current.load_full()
    }

    /// Which set it is; cheaper than the set.
    pub(crate) fn generation(&self) -> u64 {
        self.current.load().generation
    }

    /// The set after one attempt to learn an unknown key; many who ask at once share it.
    pub(crate) async fn learn(&self, id: &str) -> Arc<KeySet> {
        let _one = self.fetching.lock().await;
        let known = self.current();
        let pause = if known.is_empty() { EAGER } else { COOL_DOWN };
        let last = self.fetched_at.load(Ordering::Acquire);
        if known.get(id).is_some() || self.clock.now().seconds().saturating_sub(last) < pause {
            return known;
        }
        self.fetch().await;
        self.current()
    }

    /// Fetches the set anew; an error keeps the old one.
    pub(crate) async fn refresh(&self) {
        let _one = self.fetching.lock().await;
        self.fetch().await;
    }

    async fn fetch(&self) {
        self.fetched_at.store(self.clock.now().seconds(), Ordering::Release);
        for instance in self.auth.instances() {
            let fetched = tokio::time::timeout(FETCH_TIMEOUT, self.fetch_from(&instance)).await;
            if let Ok(Some(text)) = fetched {
                self.adopt(text);
                return;
            }
            tracing::warn!(instance = %instance.address, "could not fetch the signing keys");
        }
    }

    async fn fetch_from(&self, instance: &Arc<Instance>) -> Option<Bytes> {
        let headers = self.signer.sign("gateway", &self.auth.service, None, self.clock.now());
        let asked = Asked { method: &Method::GET, target: "/.well-known/jwks.json", headers: &headers, ours: &[] };
        let response = line::ask(instance, &asked, &mut Content::Kept(Bytes::new()), self.connect).await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        read_body(response.into_body(), &Limits::default()).await.ok()
    }

    fn adopt(&self, text: Bytes) {
        let mut last = self.text.lock();
        if *last == text {
            return;
        }
        let Some(keys) = parse(&text) else {
            tracing::warn!("the signing keys are not a key set; keeping the old ones");
            return;
        };
        let generation = self.current.load().generation + 1;
        tracing::info!(keys = keys.len(), generation, "signing keys changed");
        self.current.store(Arc::new(KeySet { generation, keys }));
        *last = text;
    }
}

fn parse(text: &[u8]) -> Option<HashMap<String, Key>> {
    #[derive(serde::Deserialize)]
    struct Set {
        // One key we cannot read must not cost us those we can.
        keys: Vec<serde_json::Value>,
    }
    let set: Set = serde_json::from_slice(text).ok()?;
    let usable = set.keys.into_iter().filter_map(|key| usable(&serde_json::from_value(key).ok()?));
    let keys: HashMap<String, Key> = usable.collect();
    (!keys.is_empty()).then_some(keys)
}

fn usable(jwk: &Jwk) -> Option<(String, Key)> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(ec) if ec.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(_) => (Algorithm::EdDSA, KeyAlgorithm::EdDSA),
        _ => return None,
    };
    let for_signing = jwk.common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
    let as_expected = jwk.common.key_algorithm.is_none_or(|named| named == algorithm.1);
    if !for_signing || !as_expected {
        return None;
    }
    let key = DecodingKey::from_jwk(jwk).ok()?;
    Some((jwk.common.key_id.clone()?, Key { algorithm: algorithm.0, key }))
}
