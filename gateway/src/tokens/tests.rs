//! Tokens that look nearly right. All that can be is signed by the right key, so that it is the reading that refuses.

use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kernel::clock::Clock;
use kernel::http::assertion::Signer;
use kernel::registry::Directory;
use kernel::resilience::BreakerSettings;
use serde_json::{Value, json};

use super::*;
use crate::upstream::Upstreams;

const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

/// A key, what it is published as, and how it signs.
struct Pen {
    algorithm: &'static str,
    jwk: Value,
    sign: Box<dyn Fn(&[u8]) -> Vec<u8>>,
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Pen {
    fn rsa() -> Self {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        // In DER the modulus follows the heads of a sequence and an integer, and a zero for the sign.
        let modulus = base64(&key.public_key().as_ref()[9..265]);
        let sign = move |text: &[u8]| {
            let mut signature = vec![0; key.public_modulus_len()];
            key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature).unwrap();
            signature
        };
        Self {
            algorithm: "RS256",
            jwk: json!({"kty": "RSA", "kid": "RS256", "n": modulus, "e": "AQAB"}),
            sign: Box::new(sign),
        }
    }

    fn p256() -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let (x, y) = (base64(&key.public_key().as_ref()[1..33]), base64(&key.public_key().as_ref()[33..]));
        let sign = move |text: &[u8]| key.sign(&SystemRandom::new(), text).unwrap().as_ref().to_vec();
        let jwk = json!({"kty": "EC", "crv": "P-256", "kid": "ES256", "x": x, "y": y});
        Self { algorithm: "ES256", jwk, sign: Box::new(sign) }
    }

    fn ed25519() -> Self {
        let key = Ed25519KeyPair::generate().unwrap();
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "kid": "EdDSA", "x": base64(key.public_key())});
        Self { algorithm: "EdDSA", jwk, sign: Box::new(move |text| key.sign(text).as_ref().to_vec()) }
    }

    fn head(&self) -> Value {
        json!({"alg": self.algorithm, "typ": "at+jwt", "kid": self.algorithm})
    }

    /// Signs parts as they are, sound or not.
    fn signed(&self, head: &str, claims: &str) -> String {
        let text = format!("{head}.{claims}");
        format!("{text}.{}", base64((self.sign)(text.as_bytes())))
    }

    fn token(&self, head: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
        self.signed(&base64(head), &base64(claims))
    }

    /// A token whose claims were changed.
    fn claiming(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = claims();
        change(&mut claims);
        self.token(self.head().to_string(), claims.to_string())
    }

    /// A token whose head was changed.
    fn headed(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut head = self.head();
        change(&mut head);
        self.token(head.to_string(), claims().to_string())
    }
}

fn claims() -> Value {
    let expires = NOW.seconds() + 600;
    json!({"iss": "https://city.test", "aud": "city", "sub": Uuid::from_u128(7), "exp": expires, "roles": ["CUSTOMER"]})
}

fn without(object: &mut Value, name: &str) {
    object.as_object_mut().unwrap().remove(name).unwrap();
}

fn published(jwks: &[&Value]) -> Keys {
    let clock = Clock::manual(NOW);
    let upstreams = Upstreams::new(Directory::default(), BreakerSettings::default(), clock.clone());
    let keys = Keys::new(upstreams.of("auth"), Duration::from_secs(1), Signer::new(b"a secret of the city"), clock);
    keys.adopt(json!({"keys": jwks}).to_string().into());
    keys
}

fn tokens(pens: &[&Pen]) -> Tokens {
    let keys = published(&pens.iter().map(|pen| &pen.jwk).collect::<Vec<_>>());
    Tokens::new(Arc::new(keys), Revocations::default(), "https://city.test".to_owned(), "city".to_owned())
}

async fn verdict(tokens: &Tokens, token: &str) -> Result<Uuid, TokenError> {
    tokens.check(token.as_bytes(), NOW).await.map(|who| who.user)
}

async fn refused(tokens: &Tokens, what: &str, token: &str) {
    assert_eq!(verdict(tokens, token).await, Err(TokenError::Invalid), "{what}: {token}");
}

#[tokio::test]
async fn every_kind_of_key_counts_for_its_own_algorithm_and_for_whole_signatures_only() {
    let pens = [Pen::rsa(), Pen::p256(), Pen::ed25519()];
    let tokens = tokens(&pens.each_ref());
    for pen in &pens {
        let good = pen.claiming(|_| {});
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let (longer, doubled) = ([&*signature, &[0]].concat(), signature.repeat(2));
        let (shorter, padded) = (&signature[..signature.len() - 1], [&[0], &*signature].concat());
        let mut other = signature.clone();
        other[20] ^= 1;
        for (what, wrong) in [
            ("none", &[][..]),
            ("one byte", &[0]),
            ("shorter", shorter),
            ("cut at its front", &signature[1..]),
            ("longer", &longer),
            ("longer at its front", &padded),
            ("twice", &doubled),
            ("zeros", &vec![0; signature.len()]),
            ("a bit is another", &other),
        ] {
            refused(&tokens, what, &format!("{signed}.{}", base64(wrong))).await;
        }
        assert_eq!(verdict(&tokens, &good).await, Ok(Uuid::from_u128(7)), "{}", pen.algorithm);
        assert_eq!(verdict(&tokens, &good).await, Ok(Uuid::from_u128(7)), "known now");
        refused(&tokens, "known up to its end", &format!("{good}A")).await;
        for algorithm in ["none", "HS256", "RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA", "rs256", ""] {
            if algorithm != pen.algorithm {
                refused(&tokens, algorithm, &pen.headed(|head| head["alg"] = json!(algorithm))).await;
            }
        }
        for other in pens.iter().filter(|other| other.algorithm != pen.algorithm) {
            refused(&tokens, "another's key", &pen.headed(|head| head["kid"] = json!(other.algorithm))).await;
        }
    }
}

#[tokio::test]
async fn whichever_character_is_changed_the_token_is_refused() {
    let pen = Pen::ed25519();
    let tokens = tokens(&[&pen]);
    let good = pen.claiming(|_| {});
    for at in 0..good.len() {
        let mut changed = good.clone();
        let other = if &good[at..=at] == "A" { "B" } else { "A" };
        changed.replace_range(at..=at, other);
        refused(&tokens, "changed", &changed).await;
        changed.replace_range(at..=at, "");
        refused(&tokens, "left out", &changed).await;
    }
    assert!(verdict(&tokens, &good).await.is_ok());
}

#[tokio::test]
async fn a_token_is_three_parts_in_the_alphabet_of_urls_without_padding() {
    let pen = Pen::ed25519();
    let tokens = tokens(&[&pen]);
    let (head, claims) = (base64(pen.head().to_string()), base64(claims().to_string()));
    let good = pen.signed(&head, &claims);
    assert!(verdict(&tokens, &good).await.is_ok());
    let signature = good.rsplit_once('.').unwrap().1;
    // Of the last character two bits count; the next in the alphabet says the same to whoever ignores the others.
    let loose = format!("{}{}", &good[..good.len() - 1], char::from(good.as_bytes()[good.len() - 1] + 1));
    let plain = base64::engine::general_purpose::STANDARD_NO_PAD;
    let ends = json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "EdDSA", "a": "\u{fb}\u{ff}~~~???"}).to_string();
    assert_ne!(plain.encode(&ends), base64(&ends), "it needs characters that differ");
    assert!(verdict(&tokens, &pen.signed(&base64(&ends), &claims)).await.is_ok());
    for (what, token) in [
        ("no part", String::new()),
        ("one part", head.clone()),
        ("two parts", format!("{head}.{claims}")),
        ("four parts", format!("{good}.{signature}")),
        ("four parts, the last empty", format!("{good}.")),
        ("four parts, signed", pen.signed(&head, &format!("{claims}.{claims}"))),
        ("five parts, as of one that is encrypted", format!("{good}.{claims}.{claims}")),
        ("an empty head", pen.signed("", &claims)),
        ("empty claims", pen.signed(&head, "")),
        ("bits that mean nothing", loose),
        ("padding at the signature", format!("{good}==")),
        ("padding at the head", pen.signed(&format!("{head}="), &claims)),
        ("padding at the claims", pen.signed(&head, &format!("{claims}="))),
        ("the other alphabet", pen.signed(&plain.encode(&ends), &claims)),
        ("a blank", pen.signed(&head, &format!("{claims} "))),
        ("a line's end", pen.signed(&format!("{head}\n"), &claims)),
    ] {
        refused(&tokens, what, &token).await;
    }
}

#[tokio::test]
async fn a_head_and_claims_are_one_object_each_that_says_a_thing_once() {
    let pen = Pen::ed25519();
    let tokens = tokens(&[&pen]);
    let (head, said) = (pen.head().to_string(), claims().to_string());
    let spaced = format!(" {head}\n");
    assert!(verdict(&tokens, &pen.token(&spaced, &said)).await.is_ok(), "blanks around it are no other words");
    let more = |object: &str, what: &str| format!("{},{what}}}", &object[..object.len() - 1]);
    for name in ["alg", "typ", "kid"] {
        let twice = more(&head, &format!("\"{name}\":{}", pen.head()[name]));
        refused(&tokens, "twice in the head", &pen.token(&twice, &said)).await;
    }
    for name in ["iss", "aud", "sub", "exp", "roles"] {
        let twice = more(&said, &format!("\"{name}\":{}", claims()[name]));
        refused(&tokens, "twice in the claims", &pen.token(&head, &twice)).await;
    }
    for wrong in ["", "null", "[]", "{", "1", "\"at+jwt\""] {
        refused(&tokens, "a head", &pen.token(wrong, &said)).await;
        refused(&tokens, "claims", &pen.token(&head, wrong)).await;
    }
    for trail in ["{}", ",", "}", "\0", "x"] {
        refused(&tokens, "something follows the head", &pen.token(format!("{head}{trail}"), &said)).await;
        refused(&tokens, "something follows the claims", &pen.token(&head, format!("{said}{trail}"))).await;
    }
    let list = json!(["EdDSA", "at+jwt", "EdDSA"]).to_string();
    refused(&tokens, "a head as a list", &pen.token(list, &said)).await;
    let list = json!(["https://city.test", "city", Uuid::from_u128(7), NOW.seconds() + 600, 0, null, "", [], []]);
    refused(&tokens, "claims as a list", &pen.token(&head, list.to_string())).await;
    refused(&tokens, "no text", &pen.token(&head, [said.as_bytes(), b"\xff"].concat())).await;
    let broken = said.replace("CUSTOMER", "\u{fffd}").into_bytes();
    let broken: Vec<u8> = broken.into_iter().filter(|byte| *byte != 0xbd).collect();
    refused(&tokens, "a role that is no text", &pen.token(&head, broken)).await;
}

#[tokio::test]
async fn a_head_names_type_key_and_algorithm_and_brings_nothing_of_its_own() {
    let pen = Pen::ed25519();
    let tokens = tokens(&[&pen]);
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt"] {
        let token = pen.headed(|head| head["typ"] = json!(typ));
        assert!(verdict(&tokens, &token).await.is_ok(), "{typ}");
    }
    assert!(verdict(&tokens, &pen.headed(|head| head["later"] = json!([{"a": 1}]))).await.is_ok(), "nobody's word");
    let escaped = r#"{"alg":"EdDSA","typ":"at\u002bjwt","kid":"EdDSA"}"#;
    assert!(verdict(&tokens, &pen.token(escaped, claims().to_string())).await.is_ok(), "the same, written otherwise");
    for name in ["alg", "typ", "kid"] {
        refused(&tokens, name, &pen.headed(|head| without(head, name))).await;
        for other in [json!(null), json!(7), json!(["EdDSA"]), json!("")] {
            refused(&tokens, name, &pen.headed(|head| head[name] = other)).await;
        }
    }
    for typ in ["JWT", "jwt", "id+jwt", "at+jwt ", "text/at+jwt"] {
        refused(&tokens, typ, &pen.headed(|head| head["typ"] = json!(typ))).await;
    }
    let own = ["jku", "jwk", "x5u", "x5c", "x5t", "x5t#S256", "cty", "enc", "zip", "crit", "b64", "url", "nonce"];
    for name in own {
        for value in [json!("a"), json!(["exp"]), json!(false), json!(null), pen.jwk.clone()] {
            refused(&tokens, name, &pen.headed(|head| head[name] = value)).await;
        }
    }
}

#[tokio::test]
async fn claims_say_for_whom_by_whom_until_when_and_of_whom() {
    let pen = Pen::ed25519();
    let tokens = tokens(&[&pen]);
    for audience in [json!("city"), json!(["city"]), json!(["other", "city"])] {
        let token = pen.claiming(|claims| claims["aud"] = audience.clone());
        assert_eq!(verdict(&tokens, &token).await, Ok(Uuid::from_u128(7)), "{audience}");
    }
    for name in ["iss", "aud", "sub", "exp"] {
        refused(&tokens, name, &pen.claiming(|claims| without(claims, name))).await;
    }
    for (name, wrong) in [
        ("aud", vec![json!("other"), json!([]), json!(["other"]), json!(["city", 7]), json!({"city": 1}), json!("")]),
        ("iss", vec![json!("https://evil.test"), json!("https://city.test/"), json!(7), json!({}), json!([])]),
        ("sub", vec![json!("ann"), json!(""), json!(7), json!([])]),
        ("exp", vec![json!("1900000000"), json!(-1), json!(1.9e9), json!(u64::MAX), json!([])]),
        ("iat", vec![json!("1"), json!(null)]),
        ("nbf", vec![json!("1")]),
        ("roles", vec![json!("ADMIN"), json!(null), json!([7])]),
        ("orgs", vec![json!(["mine"])]),
        ("sid", vec![json!("mine")]),
        ("tier", vec![json!(7)]),
        ("email", vec![json!(null), json!(["a@b.c"])]),
        ("auth_time", vec![json!("1")]),
    ] {
        for wrong in wrong {
            refused(&tokens, name, &pen.claiming(|claims| claims[name] = wrong)).await;
        }
    }
    for name in ["iss", "aud", "sub", "exp"] {
        refused(&tokens, name, &pen.claiming(|claims| claims[name] = json!(null))).await;
    }
    let late = pen.claiming(|claims| claims["exp"] = json!(NOW.seconds() - 61));
    assert_eq!(verdict(&tokens, &late).await, Err(TokenError::Expired));
    refused(&tokens, "not yet", &pen.claiming(|claims| claims["nbf"] = json!(NOW.seconds() + 61))).await;
    refused(&tokens, "a long one", &pen.claiming(|claims| claims["email"] = json!("a".repeat(8 * 1024)))).await;
}

#[test]
fn keys_that_cannot_check_what_they_are_for_are_left_out() {
    let (rsa, p256, ed, mut sound) = (Pen::rsa(), Pen::p256(), Pen::ed25519(), Pen::ed25519());
    sound.jwk["kid"] = json!("sound");
    let change = |pen: &Pen, name: &str, value: Value| {
        let mut jwk = pen.jwk.clone();
        jwk[name] = value;
        jwk
    };
    for (what, pen, jwk) in [
        ("for another use", &ed, change(&ed, "use", json!("enc"))),
        ("for another algorithm", &rsa, change(&rsa, "alg", json!("RS512"))),
        ("of an algorithm of another kind", &p256, change(&p256, "alg", json!("RS256"))),
        ("without a name", &ed, change(&ed, "kid", json!(null))),
        ("on another curve", &p256, change(&p256, "crv", json!("P-384"))),
        ("on a curve of points", &ed, change(&ed, "crv", json!("P-256"))),
        ("not on its curve", &p256, change(&p256, "x", p256.jwk["y"].clone())),
        ("cut short", &ed, change(&ed, "x", json!(base64([7; 31])))),
        ("padded", &rsa, change(&rsa, "e", json!("AQAB="))),
        ("a secret", &ed, json!({"kty": "oct", "kid": "EdDSA", "k": base64([7; 32])})),
    ] {
        assert!(published(&[&pen.jwk]).current().get(pen.algorithm).is_some(), "unchanged");
        // With none at all the old ones would be kept.
        let keys = published(&[&jwk, &sound.jwk]);
        assert!(keys.current().get("sound").is_some() && keys.current().get(pen.algorithm).is_none(), "{what}");
    }
}
