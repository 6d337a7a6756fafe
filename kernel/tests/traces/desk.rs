//! The service under test: it makes things and says so, refuses, breaks, and hears of lamps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kernel::config::Sources;
use kernel::events::{Fault, Payload, Received, Subject};
use kernel::http::{Body, Created, Fail, Json, Routes};
use kernel::ids;
use kernel::jobs::JobError;
use kernel::manifest::Access::Anyone;
use kernel::service::{Declared, Kit, Service, StartError};
use kernel::store::Tx;
use kernel::telemetry::{Name, Role, Span, Trace, current_trace};
use kernel::testing::room::{Furnishing, Room};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What an event of this test is about.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[expect(unreachable_pub, reason = "an event's payload is as public as the event")]
pub struct Thing {
    id: Uuid,
}

impl Thing {
    pub(crate) fn new() -> Self {
        Self { id: ids::fresh() }
    }
}

impl Payload for Thing {
    fn subject(&self) -> Subject {
        Subject { org: Uuid::from_u128(1), id: self.id, version: 1 }
    }
}

mod said {
    kernel::events! { publisher "desk", topic "desk.events", aggregate "thing";
        /// A thing was made.
        "thing.made" v 1 [] => ThingMade(super::Thing);
        /// A lamp was seen.
        "lamp.seen" v 1 [] => LampSeen(super::Thing);
    }
}

mod heard {
    kernel::events! { publisher "street", topic "street.events", aggregate "lamp";
        /// A lamp was lit.
        "lamp.lit" v 1 [] => LampLit(super::Thing);
    }
}

pub(crate) use heard::LampLit;

/// What becomes of a thing that is wanted.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Fate {
    Made,
    /// It is said to be made, and then refused.
    Refused,
    Broken,
}

#[derive(Deserialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[garde(skip)]
    fate: Fate,
}

kernel::refusals! {
    /// What the desk refuses.
    pub(crate) enum DeskRefusal {
        /// Not this one.
        Unwanted = 409 "unwanted",
    }
}

/// How often what a unit said it would do once durable was done.
#[derive(Default)]
pub(crate) struct Desk {
    pub(crate) told: AtomicUsize,
    lit: AtomicBool,
    told_in: parking_lot::Mutex<Option<Trace>>,
}

async fn make(tx: Tx, desk: Arc<Desk>, Body(wanted): Body<Wanted>) -> Result<Created<Fate>, Fail> {
    tx.emit(said::ThingMade(Thing::new()))?;
    let told = desk.clone();
    tx.after_commit(move || {
        told.told.fetch_add(1, Ordering::SeqCst);
        *told.told_in.lock() = Some(current_trace());
    });
    match wanted.fate {
        Fate::Made => Ok(Created("/things/1".to_owned(), wanted.fate)),
        Fate::Refused => Err(DeskRefusal::Unwanted.into()),
        Fate::Broken => Err(Fail::Fault("as it was told to".into())),
    }
}

/// Says how often something was done after a commit, and in which trace the last time.
async fn told(desk: Arc<Desk>) -> Result<Json<(usize, String)>, Fail> {
    let trace = desk.told_in.lock().map(Trace::trace_hex).unwrap_or_default();
    Ok(Json((desk.told.load(Ordering::SeqCst), trace)))
}

async fn lamp_lit(tx: Tx, desk: Arc<Desk>, lit: Received<LampLit>) -> Result<(), Fault> {
    // A room delivers twice and wants nothing new the second time.
    if desk.lit.swap(true, Ordering::SeqCst) {
        return Ok(());
    }
    tx.emit(said::LampSeen(lit.event.0)).map_err(Fault::from)?;
    tx.wake("dust");
    Ok(())
}

/// Does something that belongs to a trace of long ago.
async fn dust(desk: Arc<Desk>) -> Result<(), JobError> {
    if !desk.lit.load(Ordering::SeqCst) {
        return Ok(());
    }
    let row = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    Span::after(row, Role::Internal, Name("dust", "the lamp")).around(async {}).await;
    Ok(())
}

fn declared() -> Declared {
    let routes = || {
        let anyone = Anyone("the test comes as itself");
        Routes::new().post("/things", anyone, "Make a thing", make).get("/told/{n}", anyone, "Count", told)
    };
    Service::<Desk>::new("desk", "Makes things")
        .publishes(said::EVENTS)
        .routes(routes)
        .on(lamp_lit)
        .woken("dust", Duration::from_secs(3600), dust)
        .refuses(DeskRefusal::DOCS)
        .start_with(|_: Kit| Ok::<_, StartError>(Desk::default()))
}

/// A desk whose spans go to this address, with these settings above the defaults.
pub(crate) async fn open(endpoint: &str, settings: &[(&str, &str)]) -> Room {
    let fast = Sources::new("TEST").set("traces.endpoint", endpoint).set("traces.every_ms", "20");
    // The service's own jobs begin traces as well; a test asks for the traces that it looks at.
    let fast = fast.set("traces.ratio", "0");
    let sources = settings.iter().fold(fast, |sources, (name, value)| sources.set(format!("traces.{name}"), *value));
    Room::furnished(&declared(), Furnishing { sources, ..Furnishing::default() }).await
}

/// Wants a thing; gives the status and the trace that the request was made in.
pub(crate) async fn want(room: &Room, fate: &str, trace: Trace) -> u16 {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let headers = kernel::http::Signer::new(b"a secret of this room").sign("gateway", "desk", None, room.clock.now());
    let request = client.post(format!("http://{}/things", room.address())).headers(headers);
    let request = request.header("traceparent", trace.traceparent());
    let request = request.header("idempotency-key", ids::fresh().to_string());
    request.json(&serde_json::json!({ "fate": fate })).send().await.unwrap().status().as_u16()
}

/// A count on the service's metrics page.
pub(crate) async fn counted(room: &Room, line: &str) -> i64 {
    let page = reqwest::get(format!("http://{}/metrics", room.address())).await.unwrap().text().await.unwrap();
    let found = page.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok());
    found.unwrap_or_else(|| panic!("no {line} in\n{page}"))
}

/// Spans of the service that ended like this.
pub(crate) async fn ended(room: &Room, outcome: &str) -> i64 {
    counted(room, &format!("trace_spans_total{{service=\"desk\",outcome=\"{outcome}\"}}")).await
}
