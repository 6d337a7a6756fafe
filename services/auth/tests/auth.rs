//! The provider on its port, met as the gateway meets it: with signed calls, forms and redirects.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use contracts::demo;
use kernel::clock::Clock;
use kernel::config::Sources;
use kernel::http::{Identity, Signer};
use kernel::registry::Directory;
use kernel::secrets::Secrets;
use kernel::service::{Running, Surroundings, start};
use kernel::testing::scratch;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use url::Url;

const CLIENT: &str = "foodexpress-cli";
const REDIRECT: &str = "http://127.0.0.1/callback";
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

struct Provider {
    running: Running,
    signer: Signer,
    http: reqwest::Client,
    _folder: TempDir,
}

impl Provider {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let signer = Signer::new(b"a secret of the city");
        let around = Surroundings {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            engine: scratch::chosen(folder.path().join("auth.db")),
            directory: Directory::default(),
            signer: signer.clone(),
            secrets: Secrets::open(&folder.path().join("secrets")).unwrap(),
            configuration: Sources::new("FOODEXPRESS").set("auth.demo_city", "true").into(),
            clock: Clock::system(),
            title: "FoodExpress",
        };
        let running = start(&auth::service(), around).await.unwrap();
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        Self { running, signer, http, _folder: folder }
    }

    /// A call as the gateway makes it, for this person or for nobody.
    fn call(&self, method: Method, path: &str, who: Option<&Identity>) -> RequestBuilder {
        let proof = self.signer.sign("gateway", "auth", who, Clock::system().now());
        self.http.request(method, format!("http://{}{path}", self.running.address)).headers(proof)
    }

    async fn tokens(&self, form: &[(&str, &str)]) -> (StatusCode, Value) {
        let answer = self.call(Method::POST, "/token", None).form(form).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    /// Signs in as a browser would, and gives back the tokens.
    async fn sign_in(&self, email: &str) -> Value {
        let query = [
            ("response_type", "code"),
            ("client_id", CLIENT),
            ("redirect_uri", REDIRECT),
            ("scope", "openid email"),
            ("state", "state-1"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
        ];
        let page = self.call(Method::GET, "/authorize", None).query(&query).send().await.unwrap();
        assert!(page.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
        let page = page.text().await.unwrap();
        let request = page.split_once("name=\"request\" value=\"").unwrap().1.split_once('"').unwrap().0;
        let form = [("request", request), ("email", email), ("password", demo::PASSWORD)];
        let answer = self.call(Method::POST, "/login", None).form(&form).send().await.unwrap();
        assert_eq!(answer.status(), 303);
        let location = Url::parse(answer.headers()["location"].to_str().unwrap()).unwrap();
        let sent: HashMap<String, String> = location.query_pairs().into_owned().collect();
        assert_eq!(sent["state"], "state-1");
        let (status, tokens) = self
            .tokens(&[
                ("grant_type", "authorization_code"),
                ("code", &sent["code"]),
                ("redirect_uri", REDIRECT),
                ("client_id", CLIENT),
                ("code_verifier", VERIFIER),
            ])
            .await;
        assert_eq!(status, 200, "{tokens}");
        tokens
    }
}

/// The person behind an access token, as the gateway would pass them on.
fn person(tokens: &Value) -> Identity {
    let claims = tokens["access_token"].as_str().unwrap().split('.').nth(1).unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    Identity {
        user_id: claims["sub"].as_str().unwrap().parse().unwrap(),
        email: claims["email"].as_str().unwrap().to_owned(),
        roles: serde_json::from_value(claims["roles"].clone()).unwrap(),
        orgs: serde_json::from_value(claims["orgs"].clone()).unwrap(),
        auth_time: claims["auth_time"].as_i64().unwrap(),
        session: claims["sid"].as_str().map(|sid| sid.parse().unwrap()),
    }
}

#[tokio::test]
async fn somebody_signs_in_looks_around_and_logs_out() {
    let provider = Provider::start().await;
    let tokens = provider.sign_in("customer0@demo.example").await;
    let me = person(&tokens);
    let told = provider.call(Method::GET, "/userinfo", Some(&me)).send().await.unwrap();
    let told: Value = told.json().await.unwrap();
    assert_eq!((&told["sub"], &told["email"]), (&json!(demo::customer(0)), &json!("customer0@demo.example")));
    let change = provider.call(Method::PATCH, "/api/v1/accounts/me", Some(&me));
    let changed = change.header("idempotency-key", "k-1").json(&json!({"name": "Ann"})).send().await.unwrap();
    assert_eq!(changed.json::<Value>().await.unwrap()["name"], "Ann");
    let listed = provider.call(Method::GET, "/api/v1/sessions?page_size=5", Some(&me)).send().await.unwrap();
    let listed: Value = listed.json().await.unwrap();
    assert_eq!((&listed["items"][0]["id"], &listed["items"][0]["current"]), (&json!(me.session), &json!(true)));
    let left = provider.call(Method::POST, "/logout", Some(&me)).send().await.unwrap();
    assert_eq!(left.status(), 204);
    let refresh = tokens["refresh_token"].as_str().unwrap();
    let (status, refused) =
        provider.tokens(&[("grant_type", "refresh_token"), ("client_id", CLIENT), ("refresh_token", refresh)]).await;
    assert_eq!((status.as_u16(), &refused["error"]), (400, &json!("invalid_grant")));
    provider.running.stop().await;
}

#[tokio::test]
async fn clients_find_everything_from_the_description_and_strangers_find_nothing() {
    let provider = Provider::start().await;
    let described = provider.call(Method::GET, "/.well-known/openid-configuration", None).send().await.unwrap();
    assert_eq!(described.headers()["cache-control"], "public, max-age=300");
    let described: Value = described.json().await.unwrap();
    for (name, path) in [
        ("authorization_endpoint", "/authorize"),
        ("token_endpoint", "/token"),
        ("userinfo_endpoint", "/userinfo"),
        ("revocation_endpoint", "/revoke"),
        ("jwks_uri", "/.well-known/jwks.json"),
    ] {
        assert_eq!(described[name], format!("http://127.0.0.1:8080{path}"));
    }
    let keys = provider.call(Method::GET, "/.well-known/jwks.json", None).send().await.unwrap();
    let keys: Value = keys.json().await.unwrap();
    let key = &keys["keys"][0];
    assert_eq!((&key["kty"], &key["alg"], &key["use"]), (&json!("RSA"), &json!("RS256"), &json!("sig")));
    assert_eq!(key.as_object().unwrap().len(), 6, "nothing private is among it");
    let unsigned = provider.http.get(format!("http://{}/userinfo", provider.running.address)).send().await.unwrap();
    assert_eq!(unsigned.status(), 401);
    for path in ["/userinfo", "/api/v1/accounts/me", "/api/v1/sessions"] {
        assert_eq!(provider.call(Method::GET, path, None).send().await.unwrap().status(), 401, "{path}");
    }
    let not_a_form = provider.call(Method::POST, "/token", None).json(&json!({})).send().await.unwrap();
    assert_eq!(not_a_form.status(), 400);
    assert_eq!(not_a_form.json::<Value>().await.unwrap()["error"], "invalid_request");
    provider.running.stop().await;
}

#[tokio::test]
async fn an_account_that_fits_its_schema_is_made_and_one_that_does_not_is_told_why() {
    let provider = Provider::start().await;
    let make = |body: Value| provider.call(Method::POST, "/api/v1/accounts", None).json(&body).send();
    let short = make(json!({"email": "ann@food.example", "password": "short", "name": "Ann"})).await.unwrap();
    assert_eq!(short.status(), 422);
    assert_eq!(short.json::<Value>().await.unwrap()["errors"][0]["pointer"], "/password");
    let boss = make(json!({"email": "ann@food.example", "password": "long enough", "name": "Ann", "roles": ["ADMIN"]}));
    assert_eq!(boss.await.unwrap().status(), 422, "nobody gives themselves a role");
    let made = make(json!({"email": "ann@food.example", "password": "long enough", "name": "Ann"})).await.unwrap();
    assert_eq!((made.status().as_u16(), &made.headers()["location"]), (201, &"/api/v1/accounts/me".parse().unwrap()));
    provider.running.stop().await;
}
