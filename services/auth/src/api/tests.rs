//! From the sign-in page to tokens that an independent reader believes, through the handlers themselves.

use std::collections::HashMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use contracts::demo;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use kernel::http::{Answer, Body, Fail, Path, Query, Reply as _};
use kernel::store::STATEMENTS;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use url::form_urlencoded;

use super::sessions::{PageQuery, SessionPath};
use super::{accounts, discovery, sessions, sign_in, token};
use crate::account::NewAccount;
use crate::oauth::{AskedForm, AskedQuery, OauthError};
use crate::testing::{Room, caller};

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
const CLIENT: &str = "foodexpress-cli";
const REDIRECT: &str = "http://127.0.0.1:4000/callback";

fn asked<T: DeserializeOwned>(fields: Value) -> Result<T, OauthError> {
    Ok(serde_json::from_value(fields).unwrap())
}

fn body(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
}

async fn page(room: &Room) -> String {
    let query = json!({
        "response_type": "code", "client_id": CLIENT, "redirect_uri": REDIRECT, "scope": "openid email", "state": "s-1",
        "nonce": "n-1", "code_challenge": CHALLENGE, "code_challenge_method": "S256",
    });
    let answer = sign_in::authorize(room.auth.clone(), AskedQuery(asked(query))).await.unwrap().answer();
    assert_eq!(answer.status, 200);
    let html = String::from_utf8(answer.body.to_vec()).unwrap();
    let after = html.split_once("name=\"request\" value=\"").unwrap().1;
    after.split_once('"').unwrap().0.to_owned()
}

async fn login(room: &Room, request: &str, email: &str, password: &str) -> Answer {
    let form = json!({"request": request, "email": email, "password": password});
    sign_in::login(room.auth.clone(), AskedForm(asked(form))).await.unwrap().answer()
}

async fn token_request(room: &Room, fields: Value) -> Answer {
    token::grant_tokens(room.auth.clone(), AskedForm(asked(fields))).await.unwrap().answer()
}

/// The parameters of the redirect after a successful sign-in.
async fn redirected(room: &Room, email: &str) -> HashMap<String, String> {
    let answer = login(room, &page(room).await, email, demo::PASSWORD).await;
    assert_eq!(answer.status, 303, "{:?}", answer.body);
    let query = header(&answer, "location").strip_prefix(REDIRECT).and_then(|rest| rest.strip_prefix('?')).unwrap();
    form_urlencoded::parse(query.as_bytes()).into_owned().collect()
}

async fn signed_in(room: &Room, email: &str) -> Value {
    let code = redirected(room, email).await["code"].clone();
    let answer = token_request(
        room,
        json!({"grant_type": "authorization_code", "client_id": CLIENT, "code": code, "redirect_uri": REDIRECT, "code_verifier": VERIFIER}),
    )
    .await;
    assert_eq!((answer.status, header(&answer, "cache-control")), (200, "no-store"));
    body(&answer)
}

/// The claims, read by another implementation with nothing but the published keys.
async fn believed(room: &Room, token: &str, audience: &str) -> Value {
    let keys = body(&discovery::list_keys(room.auth.clone()).await.unwrap());
    let kid = decode_header(token).unwrap().kid.unwrap();
    let jwk = keys["keys"].as_array().unwrap().iter().find(|key| key["kid"] == kid.as_str()).unwrap();
    let key = DecodingKey::from_rsa_components(jwk["n"].as_str().unwrap(), jwk["e"].as_str().unwrap()).unwrap();
    let mut rules = Validation::new(Algorithm::RS256);
    rules.set_audience(&[audience]);
    rules.set_issuer(&["http://127.0.0.1:8080"]);
    // The room's clock stands still somewhere else than the machine's.
    rules.validate_exp = false;
    decode::<Value>(token, &key, &rules).unwrap().claims
}

#[tokio::test]
async fn a_sign_in_ends_in_tokens_that_verify_against_the_published_keys() {
    for room in Room::on_every_engine().await {
        let sent = redirected(&room, "owner2@demo.example").await;
        assert_eq!((sent["state"].as_str(), sent["iss"].as_str()), ("s-1", "http://127.0.0.1:8080"));
        let tokens = signed_in(&room, "Owner2@Demo.example").await;
        assert_eq!((&tokens["token_type"], &tokens["expires_in"]), (&json!("Bearer"), &json!(600)));
        let access = tokens["access_token"].as_str().unwrap();
        assert_eq!(decode_header(access).unwrap().typ.as_deref(), Some("at+jwt"));
        let claims = believed(&room, access, "foodexpress").await;
        let now = room.clock.now().seconds();
        assert_eq!(claims["sub"].as_str(), Some("01900000-0000-7000-8000-000500000002"));
        assert_eq!(claims["email"], "owner2@demo.example");
        assert_eq!(
            (&claims["roles"], &claims["orgs"]),
            (&json!(["RESTAURANT_OWNER"]), &json!([demo::organisation(2)]))
        );
        assert_eq!((&claims["iat"], &claims["nbf"], &claims["auth_time"]), (&json!(now), &json!(now), &json!(now)));
        assert_eq!((&claims["exp"], &claims["client_id"]), (&json!(now + 600), &json!(CLIENT)));
        let id_token = tokens["id_token"].as_str().unwrap();
        let id = believed(&room, id_token, CLIENT).await;
        assert_eq!((&id["nonce"], &id["sid"], &id["sub"]), (&json!("n-1"), &claims["sid"], &claims["sub"]));
        assert_eq!(decode_header(id_token).unwrap().typ.as_deref(), Some("JWT"), "never mistaken for an access token");
        assert_eq!(room.published().await, ["session.opened"]);
    }
}

#[tokio::test]
async fn wrong_password_and_unknown_address_get_the_same_page_again() {
    for room in Room::on_every_engine().await {
        let request = page(&room).await;
        let wrong = login(&room, &request, "customer0@demo.example", "wrong").await;
        let unknown = login(&room, &request, "customer9999@demo.example", demo::PASSWORD).await;
        assert_eq!((wrong.status, unknown.status), (401, 401));
        let text = |answer: &Answer, email: &str| String::from_utf8(answer.body.to_vec()).unwrap().replace(email, "");
        assert_eq!(text(&wrong, "customer0@demo.example"), text(&unknown, "customer9999@demo.example"));
        assert!(text(&wrong, "").contains(&format!("name=\"request\" value=\"{request}\"")));
        assert_eq!(login(&room, &request, "customer0@demo.example", demo::PASSWORD).await.status, 303);
        assert!(room.published().await.is_empty(), "a session opens with its first tokens");
    }
}

#[tokio::test]
async fn guessing_is_slowed_for_known_and_unknown_addresses_alike_and_waiting_helps() {
    for room in Room::on_every_engine().await {
        let request = page(&room).await;
        for email in ["customer1@demo.example", "nobody@demo.example"] {
            let mut seen = Vec::new();
            for _ in 0..6 {
                seen.push(login(&room, &request, email, "wrong").await.status);
            }
            assert_eq!(seen, [401, 401, 401, 401, 401, 429], "{email}");
        }
        let held = login(&room, &request, "customer1@demo.example", demo::PASSWORD).await;
        assert_eq!((held.status, header(&held, "retry-after")), (429, "2"));
        room.clock.advance(std::time::Duration::from_secs(2));
        assert_eq!(login(&room, &request, "customer1@demo.example", demo::PASSWORD).await.status, 303);
    }
}

#[tokio::test]
async fn a_sign_in_page_is_good_for_ten_minutes_and_cannot_be_made_by_others() {
    for room in Room::on_every_engine().await {
        let request = page(&room).await;
        assert_eq!(login(&room, "made-up", "customer0@demo.example", demo::PASSWORD).await.status, 400);
        room.clock.advance(std::time::Duration::from_secs(600));
        assert_eq!(login(&room, &request, "customer0@demo.example", demo::PASSWORD).await.status, 400);
    }
}

#[tokio::test]
async fn a_refused_request_returns_to_its_client_or_stays_with_the_person() {
    for room in Room::on_every_engine().await {
        let query = json!({"client_id": CLIENT, "redirect_uri": REDIRECT, "response_type": "token", "state": "s"});
        let back = sign_in::authorize(room.auth.clone(), AskedQuery(asked(query))).await.unwrap().answer();
        assert_eq!(back.status, 303);
        let wanted = format!("{REDIRECT}?error=unsupported_response_type&error_description=");
        assert!(header(&back, "location").starts_with(&wanted));
        assert!(header(&back, "location").ends_with("&state=s&iss=http%3A%2F%2F127.0.0.1%3A8080"));
        let query = json!({"client_id": CLIENT, "redirect_uri": "http://evil.example/", "response_type": "code"});
        let told = sign_in::authorize(room.auth.clone(), AskedQuery(asked(query))).await.unwrap().answer();
        assert_eq!((told.status, header(&told, "location")), (400, ""));
    }
}

#[tokio::test]
async fn the_token_endpoint_refuses_in_the_words_of_oauth() {
    for room in Room::on_every_engine().await {
        let word = URL_SAFE_NO_PAD.encode([7_u8; 32]);
        let cases = [
            (json!({"grant_type": "refresh_token", "refresh_token": word}), 401, "invalid_client"),
            (json!({"grant_type": "refresh_token", "refresh_token": word, "client_id": "x"}), 401, "invalid_client"),
            (json!({"grant_type": "password", "client_id": CLIENT}), 400, "unsupported_grant_type"),
            (json!({"client_id": CLIENT}), 400, "invalid_request"),
            (json!({"grant_type": "authorization_code", "client_id": CLIENT, "code": word}), 400, "invalid_request"),
            (json!({"grant_type": "refresh_token", "client_id": CLIENT}), 400, "invalid_request"),
            (json!({"grant_type": "refresh_token", "client_id": CLIENT, "refresh_token": "x"}), 400, "invalid_grant"),
            (json!({"grant_type": "refresh_token", "client_id": CLIENT, "refresh_token": word}), 400, "invalid_grant"),
        ];
        for (fields, status, error) in cases {
            let answer = token_request(&room, fields.clone()).await;
            assert_eq!((answer.status, &body(&answer)["error"]), (status, &json!(error)), "{fields}");
        }
    }
}

#[tokio::test]
async fn refreshing_keeps_the_session_and_revoking_ends_it() {
    for room in Room::on_every_engine().await {
        let tokens = signed_in(&room, "customer3@demo.example").await;
        let renew = |token: &Value| json!({"grant_type": "refresh_token", "client_id": CLIENT, "refresh_token": token});
        room.clock.advance(std::time::Duration::from_secs(300));
        let renewed = body(&token_request(&room, renew(&tokens["refresh_token"])).await);
        let before = believed(&room, tokens["access_token"].as_str().unwrap(), "foodexpress").await;
        let after = believed(&room, renewed["access_token"].as_str().unwrap(), "foodexpress").await;
        assert_eq!((&before["sid"], &before["auth_time"]), (&after["sid"], &after["auth_time"]));
        assert_ne!(before["jti"], after["jti"]);
        let revoke =
            json!({"token": renewed["refresh_token"], "client_id": CLIENT, "token_type_hint": "refresh_token"});
        for _ in 0..2 {
            let answer =
                token::revoke_token(room.auth.clone(), AskedForm(asked(revoke.clone()))).await.unwrap().answer();
            assert_eq!(answer.status, 200);
        }
        let refused = token_request(&room, renew(&renewed["refresh_token"])).await;
        assert_eq!(body(&refused)["error"], "invalid_grant");
        assert_eq!(room.published().await, ["session.opened", "session.revoked"]);
    }
}

#[tokio::test]
async fn people_see_and_end_their_own_sessions_page_by_page() {
    for room in Room::on_every_engine().await {
        for _ in 0..3 {
            signed_in(&room, "customer4@demo.example").await;
            room.clock.advance(std::time::Duration::from_secs(1));
        }
        signed_in(&room, "customer5@demo.example").await;
        let me = caller(demo::customer(4), "CUSTOMER");
        let mut seen = Vec::new();
        let mut page_token = None;
        loop {
            let query = Query(PageQuery { page_size: Some(2), page_token });
            let page = sessions::list_sessions(room.auth.clone(), me.clone(), query).await.unwrap().0;
            seen.extend(page.items);
            page_token = page.next_page_token;
            if page_token.is_none() {
                break;
            }
        }
        assert_eq!(seen.len(), 3);
        assert!(seen.is_sorted_by(|a, b| a.opened_at > b.opened_at));
        for (who, status) in [(caller(demo::customer(5), "CUSTOMER"), 404), (me.clone(), 204), (me.clone(), 204)] {
            let (auth, id) = (room.auth.clone(), seen[0].id);
            let unit = room
                .auth
                .store
                .write(move |tx| sessions::end_session(tx, auth.clone(), who.clone(), Path(SessionPath { id })));
            let ended = match unit.await.map_err(Fail::from) {
                Ok(done) => done.answer().status,
                Err(Fail::Refused(problem)) => problem.status,
                Err(other) => panic!("{other:?}"),
            };
            assert_eq!(ended, status);
        }
        let mut leaving = me.clone();
        leaving.0.session = Some(seen[1].id);
        sessions::log_out(room.auth.clone(), leaving).await.unwrap();
        let events = room.published().await;
        assert_eq!(events.iter().filter(|event| *event == "session.revoked").count(), 2);
    }
}

#[tokio::test]
async fn an_account_is_made_once_per_address_and_can_sign_in() {
    for room in Room::on_every_engine().await {
        let new = |email: &str| {
            Body(NewAccount { email: email.to_owned(), password: demo::PASSWORD.to_owned(), name: "Ann".to_owned() })
        };
        let made = accounts::create_account(room.auth.clone(), new("Ann@food.example")).await.unwrap().answer();
        assert_eq!((made.status, &body(&made)["roles"]), (201, &json!(["CUSTOMER"])));
        assert!(!String::from_utf8(made.body.to_vec()).unwrap().contains("argon2"));
        let Err(Fail::Refused(again)) = accounts::create_account(room.auth.clone(), new("ann@FOOD.example")).await
        else {
            panic!("one account per address");
        };
        assert_eq!((again.status, again.code.as_ref()), (409, "email_taken"));
        let tokens = signed_in(&room, "ann@food.example").await;
        let claims = believed(&room, tokens["access_token"].as_str().unwrap(), "foodexpress").await;
        assert_eq!(claims["sub"], body(&made)["id"]);
    }
}

#[tokio::test]
async fn tokens_stay_good_across_a_rotation_of_keys_and_a_restart() {
    for mut room in Room::on_every_engine().await {
        crate::jobs::rotate_keys(room.auth.clone()).await.unwrap();
        let listed = |answer: Answer| body(&answer)["keys"].as_array().unwrap().len();
        assert_eq!(listed(discovery::list_keys(room.auth.clone()).await.unwrap()), 2, "the next key is published too");
        let old = signed_in(&room, "customer6@demo.example").await;
        room.clock.advance(std::time::Duration::from_secs(room.auth.settings.key_period_s));
        crate::jobs::rotate_keys(room.auth.clone()).await.unwrap();
        room.restart().await;
        let new = signed_in(&room, "customer6@demo.example").await;
        let kid = |tokens: &Value| decode_header(tokens["access_token"].as_str().unwrap()).unwrap().kid;
        assert_ne!(kid(&old), kid(&new));
        believed(&room, old["access_token"].as_str().unwrap(), "foodexpress").await;
        believed(&room, new["access_token"].as_str().unwrap(), "foodexpress").await;
        room.clock.advance(std::time::Duration::from_secs(660));
        crate::jobs::rotate_keys(room.auth.clone()).await.unwrap();
        let keys = body(&discovery::list_keys(room.auth.clone()).await.unwrap());
        assert!(keys["keys"].as_array().unwrap().iter().all(|key| key["kid"].as_str() != kid(&old).as_deref()));
    }
}

#[tokio::test]
async fn every_statement_prepares_and_the_declaration_stands() {
    for room in Room::on_every_engine().await {
        let ours: Vec<_> = STATEMENTS.iter().filter(|s| s.module.starts_with("auth")).collect();
        assert!(ours.len() > 15);
        for statement in ours {
            room.auth.store.prepare(statement).await.unwrap_or_else(|e| panic!("{}: {e}", statement.text));
        }
        let declared = crate::service();
        assert_eq!((declared.manifest().port, declared.manifest().routes.len()), (8081, 13));
        let mut generator = schemars::SchemaGenerator::default();
        for route in &declared.manifest().routes {
            let shape = (route.shape)(&mut generator);
            assert!(!shape.answers.is_empty(), "{}", route.path);
        }
        assert_eq!(Arc::strong_count(&room.auth), 1);
    }
}
