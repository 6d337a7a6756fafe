//! Tests that every service gets for its declaration alone: its routes refuse, its statements prepare, its events count once.

use http::Method;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::room::{Furnishing, Room};
use super::scratch;
use super::visitor::{Answered, Visitor};
use crate::clock::Clock;
use crate::events::{EventDef, Subject};
use crate::ids;
use crate::manifest::{Access, Repeat, RouteDoc};
use crate::service::Declared;
use crate::store::{Admin, Engine, Options, STATEMENTS, Store};

/// A user and an organisation that own nothing.
const NOBODY: Uuid = Uuid::from_u128(0x0dd);

/// Asks every row as everybody who may not, and with everything that cannot be right.
///
/// # Panics
/// With every row that let somebody in, answered with the wrong refusal, or broke.
pub async fn every_route_refuses(declared: &Declared, roles: &[&str]) {
    let holes = route_holes(declared, roles).await;
    assert!(holes.is_empty(), "{}:\n{}", declared.manifest().name, holes.join("\n"));
}

/// What [`every_route_refuses`] finds.
pub async fn route_holes(declared: &Declared, roles: &[&str]) -> Vec<String> {
    // Time goes on: limits on attempts would otherwise count the whole test as one moment.
    let room = Room::furnished(declared, Furnishing { clock: Clock::system(), ..Furnishing::default() }).await;
    let holes = holes_in(&room, &declared.manifest().routes, roles).await;
    room.finish().await;
    holes
}

/// Where what runs in a room does not do what these rows say.
pub async fn holes_in(room: &Room, routes: &[RouteDoc], roles: &[&str]) -> Vec<String> {
    let mut asking = Asking { room, holes: Vec::new() };
    for route in routes {
        asking.callers(route, roles).await;
        asking.keys(route).await;
        asking.garbage(route).await;
        asking.nul(route).await;
    }
    asking.holes
}

struct Asking<'a> {
    room: &'a Room,
    holes: Vec<String>,
}

fn method(route: &RouteDoc) -> Method {
    route.method.parse().expect("a route names a method")
}

/// Whether the service did not know what to say. That something outside is away just now it may say to anybody.
fn broke(answer: &Answered) -> bool {
    answer.status >= 500 && answer.status != 503
}

/// The path with something in place of each parameter.
fn path(route: &RouteDoc) -> String {
    let steps =
        route.path.split('/').map(|step| if step.starts_with('{') { NOBODY.to_string() } else { step.to_owned() });
    steps.collect::<Vec<_>>().join("/")
}

impl<'a> Asking<'a> {
    fn expect(&mut self, route: &RouteDoc, who: &str, answer: &Answered, status: u16, code: &str) {
        if answer.status != status || answer.code() != code {
            let (got, told) = (answer.status, answer.code());
            self.holes
                .push(format!("{} {} as {who}: {status} {code} expected, {got} {told} came", route.method, route.path));
        }
    }

    async fn callers(&mut self, route: &RouteDoc, roles: &[&str]) {
        let room = self.room;
        let ask = async |visitor: Visitor<'_>| visitor.send_raw(method(route), &path(route), Some("any"), None).await;
        self.expect(route, "a stranger", &ask(room.as_stranger()).await, 401, "unverified_caller");
        if matches!(route.access, Access::SignedIn | Access::May(_)) {
            self.expect(route, "a guest", &ask(room.as_guest()).await, 401, "unauthenticated");
        }
        if let Access::May(permission) = route.access {
            for role in roles.iter().chain(&["", "NO_SUCH_ROLE"]).filter(|role| !permission.roles.contains(role)) {
                let answer = ask(room.as_role(role, NOBODY, &[NOBODY])).await;
                self.expect(route, role, &answer, 403, "forbidden");
            }
        }
        if route.access == Access::Workload {
            let role = roles.first().copied().unwrap_or_default();
            self.expect(route, "a person", &ask(room.as_role(role, NOBODY, &[NOBODY])).await, 403, "forbidden");
        }
    }

    /// Somebody whom the row lets in.
    fn admitted(&self, route: &RouteDoc) -> Visitor<'a> {
        match route.access {
            Access::Anyone(_) => self.room.as_guest(),
            Access::SignedIn => self.room.as_role("NO_SUCH_ROLE", NOBODY, &[NOBODY]),
            Access::May(permission) => {
                self.room.as_role(permission.roles.first().copied().unwrap_or_default(), NOBODY, &[NOBODY])
            }
            Access::Workload => self.room.as_service("neighbour"),
        }
    }

    async fn keys(&mut self, route: &RouteDoc) {
        if route.repeat != Repeat::Keyed {
            return;
        }
        let visitor = self.admitted(route);
        let answer = visitor.send_raw(method(route), &path(route), None, None).await;
        self.expect(route, "somebody without a key", &answer, 400, "idempotency_key_required");
        let answer = visitor.send_raw(method(route), &path(route), Some(&"k".repeat(300)), None).await;
        if answer.status != 400 {
            self.holes
                .push(format!("{} {} takes a key of 300 characters: {}", route.method, route.path, answer.status));
        }
    }

    async fn garbage(&mut self, route: &RouteDoc) {
        let mut generator = schemars::SchemaGenerator::default();
        let wanted = (route.shape)(&mut generator).body.map(|(media, _)| media);
        let visitor = self.admitted(route);
        let deep = format!("{}1{}", "[".repeat(5_000), "]".repeat(5_000));
        let bodies = ["", "{", "[]", "null", "{\"a\":", "\"\\ud800\"", "{\"a\":1e999}", "a=%ff&b", "\u{0}", &deep];
        for body in bodies {
            let media = wanted.unwrap_or("application/json");
            let key = ids::fresh().to_string();
            let answer = visitor
                .send_raw(method(route), &path(route), Some(&key), Some((media, body.as_bytes().to_vec())))
                .await;
            // A form may be empty or hold fields that nobody knows; JSON must fit.
            let refused = (400..500).contains(&answer.status);
            if broke(&answer)
                || wanted.is_some() && answer.status >= 500
                || wanted == Some("application/json") && !refused
            {
                let shown: String = body.chars().take(12).collect();
                self.holes
                    .push(format!("{} {} answers {} to the body {shown}", route.method, route.path, answer.status));
            }
        }
        for query in ["page_size=x&page_token=%ff", "page_size=-1", "page_token=AAAA"] {
            let answer = visitor.send_raw(method(route), &format!("{}?{query}", path(route)), None, None).await;
            if broke(&answer) {
                self.holes.push(format!("{} {}?{query} answers {}", route.method, route.path, answer.status));
            }
        }
    }

    /// Only one of the engines would take it, so it comes to no handler, whatever that asks for.
    async fn nul(&mut self, route: &RouteDoc) {
        let visitor = self.admitted(route);
        let ask = async |path: &str, body| visitor.send_raw(method(route), path, Some("any"), body).await;
        let body = |media, text: &str| Some((media, text.as_bytes().to_vec()));
        let mut asked = vec![
            ("NUL in the query", ask(&format!("{}?page_token=a%00", path(route)), None).await),
            ("NUL in JSON", ask(&path(route), body("application/json", r#"{"a":"\u0000"}"#)).await),
            ("NUL in a form", ask(&path(route), body("application/x-www-form-urlencoded", "a=%00")).await),
        ];
        if route.path.contains('{') {
            asked.push(("NUL in the path", ask(&path(route).replace(&NOBODY.to_string(), "%00"), None).await));
        }
        for (where_it_stands, answer) in &asked {
            self.expect(route, where_it_stands, answer, 400, "nul_in_text");
        }
    }
}

/// Migrates fresh databases on every engine at hand, twice, and prepares every statement that the service has filed.
///
/// # Panics
/// With every statement that does not prepare, or whose columns do not fit its row.
pub async fn statements_prepare(declared: &Declared) {
    let broken = broken_statements(declared).await;
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// What [`statements_prepare`] finds.
pub async fn broken_statements(declared: &Declared) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut broken = prepare_on(declared, Engine::Sqlite { path: folder.path().join("fresh.db") }).await;
    if let Some(url) = scratch::address("FX_TEST_POSTGRES") {
        let schema = scratch::fresh_schema();
        broken.extend(prepare_on(declared, scratch::postgres(&url, &url, &schema)).await);
        let admin = Admin::connect(&url, None).await.expect("the server answers");
        admin.remove(&schema).await.expect("the schema goes");
    }
    broken
}

async fn prepare_on(declared: &Declared, engine: Engine) -> Vec<String> {
    let open = async || Store::open(Options::new(engine.clone(), Clock::system()), declared.migrations()).await;
    for _ in 0..2 {
        match open().await {
            Ok(store) => store.close().await,
            Err(error) => return vec![format!("migrations: {error}")],
        }
    }
    let store = open().await.expect("a database that opened twice opens again");
    let name = declared.manifest().name.replace('-', "_");
    let (mut broken, mut checked) = (Vec::new(), 0);
    for statement in STATEMENTS.iter().filter(|s| s.module.split("::").next() == Some(&name)) {
        checked += 1;
        if let Err(error) = store.prepare(statement).await {
            broken.push(format!("{}:{}: {error}", statement.file, statement.line));
        }
    }
    if checked == 0 && !declared.migrations().is_empty() {
        broken.push(format!("{name} has tables and files no statement"));
    }
    store.close().await;
    broken
}

/// Delivers one made-up event of every type that the service hears, each twice: the second one leaves no trace.
///
/// `restless` are columns, as table and column, that a second delivery may change.
///
/// # Panics
/// With every event type that was parked, or whose second delivery did something.
pub async fn every_heard_event_counts_once(declared: &Declared, restless: &[(&'static str, &'static str)]) {
    let doubled = doubled_events(declared, restless, async |_| Fields::new()).await;
    assert!(doubled.is_empty(), "{}", doubled.join("\n"));
}

/// The same in a room where something has happened before; `prepare` gives the fields that the made-up events then carry.
///
/// # Panics
/// As [`every_heard_event_counts_once`].
pub async fn every_heard_event_counts_once_after(
    declared: &Declared,
    restless: &[(&'static str, &'static str)],
    prepare: impl AsyncFn(&Room) -> Fields,
) {
    let doubled = doubled_events(declared, restless, prepare).await;
    assert!(doubled.is_empty(), "{}", doubled.join("\n"));
}

/// Fields of made-up payloads by name, in place of made-up values.
pub type Fields = Map<String, Value>;

/// What [`every_heard_event_counts_once_after`] finds.
pub async fn doubled_events(
    declared: &Declared,
    restless: &[(&'static str, &'static str)],
    prepare: impl AsyncFn(&Room) -> Fields,
) -> Vec<String> {
    let one = async |def: &EventDef| {
        // A room each: one that parked an event holds back what follows.
        let room = Room::furnished(declared, Furnishing { restless: restless.to_vec(), ..Furnishing::default() }).await;
        let subject = Subject { org: NOBODY, id: NOBODY, version: LATER };
        let mut payload = sample(def);
        let given = prepare(&room).await.into_iter().chain([("version".to_owned(), json!(LATER))]);
        for (name, value) in given.filter(|(name, _)| sample(def).get(name).is_some()) {
            payload[name] = value;
        }
        match room.hear_twice(*def, subject, payload.to_string()).await {
            Ok(()) => {
                room.finish().await;
                None
            }
            Err(why) => {
                room.abandon().await;
                Some(format!("{} hears {}: {why}", declared.manifest().name, def.name))
            }
        }
    };
    futures::future::join_all(declared.manifest().hears.iter().map(one)).await.into_iter().flatten().collect()
}

/// A version that comes after whatever the room's past has told of the same thing.
const LATER: i64 = 1_000;

/// A payload that fits an event's schema: every identity the same one, every number 1, every text short.
pub fn sample(def: &EventDef) -> Value {
    let mut generator = schemars::generate::SchemaSettings::draft2020_12().into_generator();
    let schema = (def.schema)(&mut generator).to_value();
    let root = json!({"$defs": generator.take_definitions(true)});
    fitting(&root, &schema)
}

fn fitting(root: &Value, schema: &Value) -> Value {
    if let Some(target) = schema["$ref"].as_str().and_then(|r| root.pointer(r.trim_start_matches('#'))) {
        return fitting(root, target);
    }
    if !schema["const"].is_null() {
        return schema["const"].clone();
    }
    if let Some(first) = ["enum", "anyOf", "oneOf", "allOf"].iter().find_map(|k| schema[*k].as_array()?.first()) {
        return if schema["enum"].is_array() { first.clone() } else { fitting(root, first) };
    }
    let kind = schema["type"].as_str().or_else(|| schema["type"].as_array()?.first()?.as_str());
    match kind {
        Some("object") => {
            let fields = schema["properties"].as_object().into_iter().flatten();
            Value::Object(fields.map(|(name, field)| (name.clone(), fitting(root, field))).collect::<Map<_, _>>())
        }
        Some("array") if schema["items"].is_object() => json!([fitting(root, &schema["items"])]),
        Some("array") => json!([]),
        Some("integer" | "number") => schema["minimum"].as_i64().filter(|least| *least > 1).unwrap_or(1).into(),
        Some("boolean") => json!(true),
        Some("string") => match schema["format"].as_str() {
            Some("uuid") => json!(NOBODY),
            Some("date-time") => json!("2026-01-01T12:00:00.000000Z"),
            _ => json!("sample"),
        },
        _ => Value::Null,
    }
}
