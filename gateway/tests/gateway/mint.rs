//! Tokens of these tests, and the keys they are signed with.

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine as _;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::city::NOW;

/// Signs tokens.
#[derive(Clone)]
pub(crate) struct Mint {
    pub(crate) id: String,
    pub(crate) key: EncodingKey,
}

impl Mint {
    pub(crate) fn new(id: &str) -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let text = base64::engine::general_purpose::STANDARD.encode(der.as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
        Self { id: id.to_owned(), key: EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap() }
    }

    pub(crate) fn jwk(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, Algorithm::RS256).unwrap();
        jwk.common.key_id = Some(self.id.clone());
        serde_json::to_value(jwk).unwrap()
    }

    pub(crate) fn header(&self) -> Header {
        Header { typ: Some("at+jwt".to_owned()), kid: Some(self.id.clone()), ..Header::new(Algorithm::RS256) }
    }

    pub(crate) fn sign(&self, header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &self.key).unwrap()
    }

    pub(crate) fn token(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = claims();
        change(&mut claims);
        self.sign(&self.header(), &claims)
    }
}

pub(crate) fn claims() -> Value {
    let now = NOW.seconds();
    json!({
        "iss": "https://city.test", "aud": "foodexpress", "sub": "00000000-0000-0000-0000-000000000007",
        "email": "ann@example.org", "roles": ["CUSTOMER"], "orgs": ["00000000-0000-0000-0000-000000000001"],
        "iat": now, "exp": now + 600, "auth_time": now - 5, "sid": "00000000-0000-0000-0000-000000000009",
    })
}
