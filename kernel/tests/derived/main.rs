//! The derived tests against services that are right, and against services that are wrong on purpose.

use std::sync::Arc;

use kernel::clock::Clock;
use kernel::events::{Fault, Payload, Received, Subject};
use kernel::http::{Body, Caller, Done, Fail, Json, Routes, Whole};
use kernel::manifest::{Access, Permission};
use kernel::service::{Declared, Service, StartError};
use kernel::store::{Db, Migration, Scalar, Store, StoreError, Tx};
use kernel::testing::derived;
use kernel::testing::room::Room;
use kernel::{params, row, sql};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

/// A thing that a neighbour tells of.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Lamp {
    org_id: Uuid,
    id: Uuid,
    version: i64,
    colour: Option<String>,
}

impl Payload for Lamp {
    fn subject(&self) -> Subject {
        Subject { org: self.org_id, id: self.id, version: self.version }
    }
}

mod heard {
    kernel::events! { publisher "neighbour", topic "neighbour.events", aggregate "lamp";
        /// A lamp was lit.
        "lamp.lit" v 1 [] => LampLit(super::Lamp);
    }
}

mod said {
    kernel::events! { publisher "derived", topic "derived.events", aggregate "shadow";
        /// A shadow fell.
        "shadow.fell" v 1 [] => ShadowFell(super::Lamp);
    }
}

use heard::LampLit;
use said::ShadowFell;

row! {
    struct Shadow in "shadow" {
        org_id: Uuid,
        id: Uuid,
    }
}

const STEPS: &[Migration] = &[Migration {
    name: "001_derived",
    sql: "CREATE TABLE shadow (org_id UUID NOT NULL, id UUID NOT NULL, PRIMARY KEY (org_id, id));",
}];

struct State {
    store: Store,
}

#[derive(Deserialize, JsonSchema, garde::Validate)]
#[serde(deny_unknown_fields)]
struct NewShadow {
    #[garde(skip)]
    id: Uuid,
}

async fn shadows(db: &Db) -> Result<i64, StoreError> {
    db.one(sql!(Scalar<i64>, "SELECT COUNT(*) AS value FROM shadow"), params![]).await.map(|Scalar(count)| count)
}

async fn count(state: Arc<State>) -> Result<Json<i64>, Fail> {
    Ok(Json(shadows(&state.store.read()).await?))
}

async fn add(tx: Tx, _: Arc<State>, _: Caller, Body(new): Body<NewShadow>) -> Result<Done, Fail> {
    tx.add(&Shadow { org_id: Uuid::nil(), id: new.id }).await?;
    Ok(Done)
}

/// Lets everybody in, asks for no key, and breaks on what it cannot read.
async fn careless(state: Arc<State>, request: Whole) -> Result<Json<i64>, Fail> {
    serde_json::from_slice::<serde_json::Value>(&request.0.body).map_err(|e| Fail::Fault(e.to_string()))?;
    count(state).await
}

const MAY: Access = Access::May(Permission { name: "shadows.cast", roles: &["CASTER"], for_orgs: &[] });
const ROLES: &[&str] = &["CASTER", "WATCHER"];

fn guarded() -> Routes<State> {
    Routes::new().get("/shadows", Access::SignedIn, "Count", count).post("/shadows", MAY, "Add one", add)
}

fn open() -> Routes<State> {
    let anyone = Access::Anyone("to show that the test sees it");
    Routes::new().get("/shadows", anyone, "Count", count).protocol(
        "/shadows",
        anyone,
        "none at all",
        "Add one",
        careless,
    )
}

async fn once(tx: Tx, _: Arc<State>, lit: Received<LampLit>) -> Result<(), Fault> {
    if tx.add(&Shadow { org_id: Uuid::nil(), id: lit.id }).await? {
        tx.emit(ShadowFell(lit.event.0.clone()))?;
    }
    Ok(())
}

async fn every_time(tx: Tx, _: Arc<State>, lit: Received<LampLit>) -> Result<(), Fault> {
    tx.emit(ShadowFell(Lamp { id: kernel::ids::fresh(), ..lit.event.0.clone() }))?;
    Ok(())
}

async fn quietly_every_time(tx: Tx, _: Arc<State>, _: Received<LampLit>) -> Result<(), Fault> {
    tx.insert(&Shadow { org_id: Uuid::nil(), id: kernel::ids::fresh() }).await?;
    Ok(())
}

async fn never(_: Tx, _: Arc<State>, _: Received<LampLit>) -> Result<(), Fault> {
    Err(Fault::Park("it is dark".into()))
}

fn service() -> Service<State> {
    Service::new("derived", "Casts shadows").migrations(STEPS).publishes(said::EVENTS)
}

fn done(service: Service<State>) -> Declared {
    service.start_with(|kit| Ok::<_, StartError>(State { store: kit.store }))
}

fn lamp() -> LampLit {
    LampLit(Lamp { org_id: Uuid::nil(), id: Uuid::from_u128(7), version: 1, colour: None })
}

#[tokio::test]
async fn a_guarded_service_refuses_on_every_row() {
    derived::every_route_refuses(&done(service().routes(guarded)), ROLES).await;
}

#[tokio::test]
async fn doors_left_open_missing_keys_and_broken_answers_are_found() {
    let (open, guarded) = (done(service().routes(open)), done(service().routes(guarded)));
    let room = Room::start(&open).await;
    let holes = derived::holes_in(&room, &guarded.manifest().routes, ROLES).await;
    room.finish().await;
    for hole in [
        "GET /shadows as a guest: 401 unauthenticated expected, 200",
        "POST /shadows as a guest: 401",
        "POST /shadows as WATCHER: 403",
        "POST /shadows as somebody without a key: 400 idempotency_key_required expected, 500",
        "POST /shadows answers 500 to the body {",
        "POST /shadows answers 200 to the body null",
    ] {
        assert!(holes.iter().any(|found| found.starts_with(hole)), "{hole} is missing in {holes:#?}");
    }
    assert!(!holes.iter().any(|found| found.contains("CASTER")), "who may is not asked to be refused: {holes:#?}");
    let own = derived::route_holes(&open, ROLES).await;
    assert!(own.iter().any(|found| found.starts_with("POST /shadows answers 500")), "{own:#?}");
}

mod wrong {
    //! Statements that no database of this schema prepares.
    use kernel::sql;
    use kernel::store::{Scalar, Sql};

    pub(crate) fn statements() -> [Sql<Scalar<i64>>; 2] {
        [
            sql!(Scalar<i64>, "SELECT COUNT(*) AS value FROM shadows"),
            sql!(Scalar<i64>, "SELECT id AS value FROM shadow"),
        ]
    }
}

#[tokio::test]
async fn statements_that_do_not_prepare_are_found_with_their_places() {
    assert_eq!(wrong::statements().len(), 2);
    let broken = derived::broken_statements(&done(service())).await;
    // On each engine at hand, the same two.
    assert!(
        !broken.is_empty()
            && broken.len().is_multiple_of(2)
            && broken.iter().all(|found| found.contains("derived/main.rs:")),
        "{broken:#?}"
    );
    let nothing = [Migration { name: "001_none", sql: "CREATE TABLE none (id UUID NOT NULL PRIMARY KEY);" }];
    let silent = Service::<State>::new("silent", "Files nothing").migrations(&nothing);
    let found = derived::broken_statements(&done(silent)).await;
    assert!(
        !found.is_empty() && found.iter().all(|found| found == "silent has tables and files no statement"),
        "{found:#?}"
    );
    let twice = [STEPS[0], Migration { name: "002_again", sql: STEPS[0].sql }];
    let clashing =
        derived::broken_statements(&done(Service::<State>::new("derived", "Clashes").migrations(&twice))).await;
    assert!(clashing[0].starts_with("migrations: "), "{clashing:#?}");
}

#[tokio::test]
async fn an_event_that_counts_once_passes_and_one_that_counts_again_or_parks_is_found() {
    let nothing = async |_: &Room| derived::Fields::new();
    derived::every_heard_event_counts_once(&done(service().on(once)), &[]).await;
    let said = derived::doubled_events(&done(service().on(every_time)), &[], nothing).await;
    assert!(said.len() == 1 && said[0].contains("outbox"), "{said:#?}");
    let kept = done(service().on(quietly_every_time));
    let found = derived::doubled_events(&kept, &[], nothing).await;
    assert!(found.len() == 1 && found[0].contains("shadow:"), "{found:#?}");
    let parked = derived::doubled_events(&done(service().on(never)), &[], nothing).await;
    assert!(parked.len() == 1 && parked[0].contains("it is dark"), "{parked:#?}");
}

#[tokio::test]
async fn a_room_serves_callers_and_hears_its_neighbours() {
    let declared = done(service().routes(guarded).on(once));
    let room = Room::start(&declared).await;
    room.hear(lamp()).await;
    assert_eq!(room.published().await, ["shadow.fell"]);
    let caster = room.as_role("CASTER", Uuid::from_u128(1), &[]).keyed("key-1");
    let added = caster.post("/shadows", json!({"id": Uuid::from_u128(9)})).await;
    let again = caster.post("/shadows", json!({"id": Uuid::from_u128(9)})).await;
    assert_eq!((added.is_replay(), again.is_replay(), again.status), (false, true, added.status));
    assert_eq!(caster.post("/shadows", json!({"id": Uuid::from_u128(8)})).await.code(), "idempotency_key_reused");
    assert_eq!(room.as_role("WATCHER", Uuid::from_u128(2), &[]).get("/shadows").await.body, json!(2));
    let before = room.clock.now();
    room.pass(std::time::Duration::from_secs(60));
    assert!(room.clock.now() > before && room.clock.is_manual() && !Clock::system().is_manual());
    room.finish().await;
}

#[tokio::test]
#[should_panic(expected = "it is dark")]
async fn hearing_something_that_parks_fails() {
    let room = Room::start(&done(service().on(never))).await;
    room.hear(lamp()).await;
}

#[tokio::test]
#[should_panic(expected = "does not hear it")]
async fn hearing_something_that_the_service_does_not_hear_fails() {
    let room = Room::start(&done(service())).await;
    room.hear(lamp()).await;
}

#[tokio::test]
#[should_panic(expected = "left by finish()")]
async fn leaving_a_room_without_a_look_back_fails() {
    drop(Room::start(&done(service())).await);
}

#[test]
fn a_sample_reads_as_the_payload_it_is_made_for() {
    let sample = derived::sample(&<LampLit as kernel::events::Event>::DEF);
    let lamp: Lamp = serde_json::from_value(sample).unwrap();
    assert_eq!((lamp.version, lamp.colour.as_deref()), (1, Some("sample")));
}
