//! Which tokens count, and for how long.

use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use kernel::http::Caller;
use kernel::http::assertion::Signer;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::city::{City, Mint, NOW, SECRET, claims};

/// The headers that a service saw.
fn headers(seen: &Value) -> HeaderMap {
    let all = seen["headers"].as_object().unwrap().iter();
    let parsed = all.map(|(name, values)| (name.parse().unwrap(), values[0].as_str().unwrap().parse().unwrap()));
    parsed.collect::<Vec<(http::HeaderName, http::HeaderValue)>>().into_iter().collect()
}

#[tokio::test]
async fn a_token_that_does_not_tell_of_a_sign_in_counts_as_no_fresh_one() {
    let city = City::start().await;
    let told = async |token: String| {
        let (status, seen) = city.order(&token).await;
        assert_eq!(status, 200, "{seen}");
        let (_, who) = Signer::new(SECRET).verify(&headers(&seen), "orders", NOW).unwrap();
        Caller(who.unwrap()).signed_in_within(Duration::from_secs(900), NOW)
    };
    assert!(told(city.token()).await.is_ok());
    let silent = city.mint.token(|claims| drop(claims.as_object_mut().unwrap().remove("auth_time")));
    assert_eq!(told(silent).await.unwrap_err().code, "fresh_sign_in_required");
}

#[tokio::test]
async fn a_good_token_becomes_signed_identity_headers_and_is_not_passed_on() {
    let city = City::start().await;
    let (status, seen) = city.order(&city.token()).await;
    assert_eq!(status, 200, "{seen}");
    assert!(seen["headers"]["authorization"].is_null());
    let headers = headers(&seen);
    let (caller, who) = Signer::new(SECRET).verify(&headers, "orders", NOW).unwrap();
    let who = who.unwrap();
    assert_eq!((caller.as_str(), who.email.as_str()), ("gateway", "ann@example.org"));
    assert_eq!((who.user_id, who.session), (Uuid::from_u128(7), Some(Uuid::from_u128(9))));
    assert_eq!((who.roles, who.orgs), (vec!["CUSTOMER".to_owned()], vec![Uuid::from_u128(1)]));
    assert!(Signer::new(SECRET).verify(&headers, "payments", NOW).is_err(), "for one service only");
}

fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.", part(header), part(claims))
}

#[tokio::test]
async fn tokens_that_are_not_ours_are_refused() {
    let city = City::start().await;
    let (mint, header) = (&city.mint, city.mint.header());
    let key = mint.jwk();
    let public = URL_SAFE_NO_PAD.decode(key["n"].as_str().unwrap()).unwrap();
    let with = |change: &dyn Fn(&mut Header)| {
        let mut header = header.clone();
        change(&mut header);
        mint.sign(&header, &claims())
    };
    let swapped = Header { alg: Algorithm::HS256, ..header.clone() };
    let mut broken = city.token();
    broken.replace_range(broken.len() - 6.., "AAAAAA");
    let bad = [
        ("alg none", unsigned(&json!({"alg": "none", "typ": "at+jwt", "kid": "one"}), &claims())),
        (
            "signed with the public key",
            jsonwebtoken::encode(&swapped, &claims(), &EncodingKey::from_secret(&public)).unwrap(),
        ),
        ("another algorithm", with(&|header| header.alg = Algorithm::RS512)),
        ("bad signature", broken),
        ("somebody else's key", Mint::new("one").token(|_| {})),
        ("an id token", with(&|header| header.typ = Some("JWT".to_owned()))),
        ("no type", with(&|header| header.typ = None)),
        ("no key id", with(&|header| header.kid = None)),
        ("jku", with(&|header| header.jku = Some("https://evil.test/keys".to_owned()))),
        ("x5u", with(&|header| header.x5u = Some("https://evil.test/cert".to_owned()))),
        ("jwk", with(&|header| header.jwk = serde_json::from_value(key.clone()).ok())),
        ("crit", with(&|header| header.crit = Some(vec!["exp".to_owned()]))),
        ("wrong issuer", mint.token(|claims| claims["iss"] = json!("https://evil.test"))),
        ("wrong audience", mint.token(|claims| claims["aud"] = json!("other"))),
        ("no audience", mint.token(|claims| drop(claims.as_object_mut().unwrap().remove("aud")))),
        ("no expiry", mint.token(|claims| drop(claims.as_object_mut().unwrap().remove("exp")))),
        ("expired", mint.token(|claims| claims["exp"] = json!(NOW.seconds() - 61))),
        ("not yet", mint.token(|claims| claims["nbf"] = json!(NOW.seconds() + 61))),
        ("no token", "nonsense".to_owned()),
    ];
    for (what, token) in bad {
        let answer = city.get("/api/v1/orders/7").bearer_auth(token).send().await.unwrap();
        assert_eq!(answer.status(), 401, "{what}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json", "{what}");
        assert!(answer.headers()["www-authenticate"].to_str().unwrap().contains("invalid_token"), "{what}");
    }
    assert_eq!(city.first.hits(), 0, "none of them reached the service");
    let edge = mint.token(|claims| claims["exp"] = json!(NOW.seconds() - 59));
    assert_eq!(city.order(&edge).await.0, 200, "clocks may differ a little");
}

#[tokio::test]
async fn a_known_token_still_expires_and_can_be_revoked() {
    let city = City::start().await;
    let keep = NOW.plus(Duration::from_secs(600));
    let token = city.token();
    assert_eq!(city.order(&token).await.0, 200);
    city.revocations.revoke_session(Uuid::from_u128(9), keep);
    assert_eq!(city.order(&token).await.1["code"], "token_revoked");

    let other = city.mint.token(|claims| claims["sid"] = json!(null));
    assert_eq!(city.order(&other).await.0, 200);
    city.revocations.revoke_user(Uuid::from_u128(7), NOW.plus(Duration::from_secs(1)), keep);
    assert_eq!(city.order(&other).await.1["code"], "token_revoked");
    let fresh = city.mint.token(|claims| {
        claims["sid"] = json!(null);
        claims["iat"] = json!(NOW.seconds() + 2);
    });
    assert_eq!(city.order(&fresh).await.0, 200, "issued after the revocation");
    city.clock.advance(Duration::from_secs(661));
    assert_eq!(city.order(&fresh).await.1["code"], "token_expired");
}

#[tokio::test]
async fn an_unknown_key_is_asked_for_once_and_a_removed_one_takes_its_tokens_along() {
    let city = City::start().await;
    let asked = || city.auth.asked.load(Ordering::SeqCst);
    let at_start = asked();
    city.clock.advance(Duration::from_secs(31));
    let next = Mint::new("two");
    let made_up: Vec<String> =
        (0..20).map(|n| Mint { id: format!("made up {n}"), ..next.clone() }.token(|_| {})).collect();
    let answers = futures::future::join_all(made_up.iter().map(|token| city.order(token))).await;
    assert!(answers.iter().all(|(status, _)| *status == 401));
    assert_eq!(asked(), at_start + 1, "one fetch for twenty");

    let old = city.token();
    assert_eq!(city.order(&old).await.0, 200);
    *city.auth.keys.lock() = vec![next.jwk()];
    assert_eq!(city.order(&next.token(|_| {})).await.0, 401, "not before the pause is over");
    city.clock.advance(Duration::from_secs(31));
    assert_eq!(city.order(&next.token(|_| {})).await.0, 200, "after one refresh");
    assert_eq!(asked(), at_start + 2);
    assert_eq!(city.order(&old).await.0, 401, "its key is gone, though the token was known");
}

#[tokio::test]
async fn keys_are_kept_while_the_auth_service_is_broken() {
    let city = City::start().await;
    *city.auth.keys.lock() = Vec::new();
    city.clock.advance(Duration::from_secs(31));
    assert_eq!(city.order(&Mint::new("two").token(|_| {})).await.0, 401);
    assert_eq!(city.order(&city.token()).await.0, 200);
}

#[tokio::test]
async fn routes_ask_for_what_their_rows_say() {
    let city = City::start().await;
    let ask = async |path: &str, token: Option<String>| {
        let request = city.get(path);
        let request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(ask("/api/v1/menu", None).await, 200);
    assert_eq!(ask("/api/v1/menu", Some("nonsense".to_owned())).await, 200, "as if there were none");
    assert_eq!(ask("/api/v1/orders/7", None).await, 401);
    assert_eq!(ask("/api/v1/city", None).await, 401);
    assert_eq!(ask("/api/v1/city", Some(city.token())).await, 403);
    assert_eq!(ask("/api/v1/city", Some(city.mint.token(|claims| claims["roles"] = json!(["ADMIN"])))).await, 200);
    assert_eq!(ask("/api/v1/inner", Some(city.token())).await, 404, "for services only");
}
