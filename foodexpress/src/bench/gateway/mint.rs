//! Signs access tokens as the auth service would, and publishes the key; thousands of them, without anybody signing in.

use anyhow::{Result, anyhow, ensure};
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use kernel::clock::Clock;
use serde_json::json;

const KEY_ID: &str = "bench";
/// Where the modulus stands in the DER text of a 2048-bit public key, after the heads of sequence and integer.
const MODULUS: std::ops::Range<usize> = 9..265;
/// The DER text's length, with the usual exponent 65537 at its end.
const DER_LENGTH: usize = 270;

/// Who issues these tokens, as gateways are told.
pub(super) const ISSUER: &str = "http://bench";

/// A key that signs.
pub(super) struct Mint {
    key: KeyPair,
    random: SystemRandom,
}

impl Mint {
    pub(super) fn new() -> Result<Self> {
        let key = KeyPair::generate(KeySize::Rsa2048).map_err(|_| anyhow!("no RSA key can be made"))?;
        ensure!(key.public_key().as_ref().len() == DER_LENGTH, "an RSA key of an unknown shape");
        Ok(Self { key, random: SystemRandom::new() })
    }

    /// The JSON Web Key Set that the gateway fetches.
    pub(super) fn keys(&self) -> String {
        let modulus = URL_SAFE_NO_PAD.encode(&self.key.public_key().as_ref()[MODULUS]);
        json!({"keys": [{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": KEY_ID, "n": modulus, "e": "AQAB"}]})
            .to_string()
    }

    /// The public key for programs that want it in PEM.
    pub(super) fn pem(&self) -> String {
        let der: PublicKeyX509Der<'_> = self.key.public_key().as_der().expect("a public key has its standard form");
        let text = STANDARD.encode(der.as_ref());
        let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    /// A token of a new person of this tier.
    pub(super) fn token(&self, tier: &str) -> String {
        let signed = unsigned(tier);
        let mut signature = vec![0; self.key.public_modulus_len()];
        let done = self.key.sign(&RSA_PKCS1_SHA256, &self.random, signed.as_bytes(), &mut signature);
        done.expect("a sound key signs");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// A token with a signature that is none.
    pub(super) fn forged() -> String {
        format!("{}.{}", unsigned("free"), URL_SAFE_NO_PAD.encode([7_u8; 256]))
    }
}

fn unsigned(tier: &str) -> String {
    let now = Clock::system().now().seconds();
    let head = json!({"alg": "RS256", "typ": "at+jwt", "kid": KEY_ID});
    let claims = json!({
        "iss": ISSUER, "aud": "foodexpress", "sub": kernel::ids::fresh(), "sid": kernel::ids::fresh(),
        "email": "bench@example.org", "roles": ["CUSTOMER"], "orgs": [], "tier": tier,
        "iat": now, "auth_time": now, "exp": now + 3600,
    });
    format!("{}.{}", URL_SAFE_NO_PAD.encode(head.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()))
}
