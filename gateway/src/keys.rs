//! The keys that tokens are signed with: fetched from the auth service, kept when it is away.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Method;
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, EllipticCurveKeyParameters, Jwk, KeyAlgorithm, OctetKeyPairParameters,
    PublicKeyUse, RSAKeyParameters,
};
use kernel::clock::Clock;
use kernel::http::assertion::Signer;
use kernel::http::server::{Limits, read_body};
use tokio::time::Instant;

use crate::line::{self, Asked};
use crate::outbound::Content;
use crate::upstream::{Instance, Upstream};

/// Between two fetches that unknown keys set off, in seconds; a flood of made-up keys fetches no more often.
const COOL_DOWN: i64 = 30;
/// The same while we have no key at all.
const EAGER: i64 = 1;
const FETCH_TIMEOUT: Duration = Duration::from_secs(2);

/// A key, made ready once, and the name of the one algorithm it is for: what a token's head says decides nothing.
pub(crate) struct Key {
    pub(crate) algorithm: &'static str,
    pub(crate) key: ParsedPublicKey,
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
        let asked =
            Asked { method: &Method::GET, target: "/.well-known/jwks.json", headers: &headers, own: &[], ours: &[] };
        let response =
            line::ask(instance, &asked, &mut Content::Kept(Bytes::new()), Instant::now(), self.connect).await.ok()?;
        if !response.status().is_success() {
            return None;
        }
        read_body(response.into_body(), &Limits::default()).await.ok()
    }

    /// Takes these keys from now on, if they are any.
    pub(crate) fn adopt(&self, text: Bytes) {
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
    let (named, algorithm, key) = match &jwk.algorithm {
        AlgorithmParameters::RSA(parts) => (KeyAlgorithm::RS256, "RS256", rsa(parts)?),
        AlgorithmParameters::EllipticCurve(parts) => (KeyAlgorithm::ES256, "ES256", p256(parts)?),
        AlgorithmParameters::OctetKeyPair(parts) => (KeyAlgorithm::EdDSA, "EdDSA", ed25519(parts)?),
        _ => return None,
    };
    let for_signing = jwk.common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
    let as_expected = jwk.common.key_algorithm.is_none_or(|expected| expected == named);
    if !for_signing || !as_expected {
        return None;
    }
    Some((jwk.common.key_id.clone()?, Key { algorithm, key }))
}

fn rsa(parts: &RSAKeyParameters) -> Option<ParsedPublicKey> {
    let (n, e) = (number(&parts.n)?, number(&parts.e)?);
    RsaPublicKeyComponents { n, e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).ok()
}

fn p256(parts: &EllipticCurveKeyParameters) -> Option<ParsedPublicKey> {
    let (x, y) = (number(&parts.x)?, number(&parts.y)?);
    // Four says that both coordinates follow (SEC 1, section 2.3.3).
    let point = [&[4], x.as_slice(), &y].concat();
    ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).ok().filter(|_| parts.curve == EllipticCurve::P256)
}

fn ed25519(parts: &OctetKeyPairParameters) -> Option<ParsedPublicKey> {
    ParsedPublicKey::new(&ED25519, number(&parts.x)?).ok().filter(|_| parts.curve == EllipticCurve::Ed25519)
}

fn number(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
