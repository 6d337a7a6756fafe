//! The service under test: it sells, refuses, fails and dies as a request tells it to. Beside the sound build there are faulty ones.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use garde::Validate;
use kernel::events::{Payload, Subject};
use kernel::http::{Answer, Body, Created, Fail, Json, Problem, Reply as _, Request, Routes, Whole};
use kernel::jobs::JobError;
use kernel::manifest::Access::{Anyone, May, SignedIn};
use kernel::manifest::Permission;
use kernel::service::{Declared, Service, StartError};
use kernel::store::{Migration, Scalar, Store, StoreError, Tx};
use kernel::{ids, params, row, sql};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use uuid::Uuid;

pub(crate) const NAME: &str = "till";
/// What a request wants of the till beside its body; not part of what its key stands for.
pub(crate) const SCENE: &str = "x-scene";
/// The role that may sell in the back room.
pub(crate) const KEEPER: &str = "KEEPER";

const BACK_ROOM: Permission = Permission { name: "till.back_room", roles: &[KEEPER], for_orgs: &[] };

pub(crate) const STEPS: &[Migration] =
    &[Migration { name: "001_sales", sql: "CREATE TABLE sale (id UUID NOT NULL PRIMARY KEY, mark TEXT NOT NULL);" }];

/// How the till was built: right, or with one of the mistakes that the checks are there to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    Sound,
    /// Its posts know nothing of keys.
    Keyless,
    /// The sale is written into another database than the key.
    Outside,
    /// A failure comes back as if it were a decision.
    FailureAsAnswer,
}

impl Build {
    const ALL: [Self; 4] = [Self::Sound, Self::Keyless, Self::Outside, Self::FailureAsAnswer];

    pub(crate) fn parse(name: &str) -> Self {
        Self::ALL.into_iter().find(|build| format!("{build:?}") == name).expect("the till works")
    }
}

/// What a case in the same process hears from the till and tells it.
#[derive(Default)]
pub(crate) struct Signals {
    pub(crate) entered: Notify,
    pub(crate) go: Notify,
}

pub(crate) struct Till {
    build: Build,
    store: Store,
    aside: Store,
    signals: Arc<Signals>,
    doomed: AtomicBool,
}

kernel::refusals! {
    /// What the till refuses.
    pub(crate) enum TillRefusal {
        /// There is not enough money for this.
        TooPoor = 402 "too_poor",
        /// Somebody bought the last one.
        SoldOut = 409 "sold_out",
        /// Nobody wants this.
        Unfit = 422 "unfit",
        /// That is too often.
        TooOften = 429 "too_often",
        /// The till rests.
        Resting = 503 "resting",
    }
}

/// One sale.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[expect(unreachable_pub, reason = "an event's payload is as public as the event")]
pub struct Receipt {
    /// Another one each time that something is sold.
    id: Uuid,
    /// What was sold.
    mark: String,
}

impl Payload for Receipt {
    fn subject(&self) -> Subject {
        Subject { org: Uuid::from_u128(1), id: self.id, version: 1 }
    }
}

mod told {
    kernel::events! {
        publisher "till", topic "till.events", aggregate "sale";
        /// Something was sold.
        "till.sold" v 1 [] => Sold(super::Receipt);
    }
}

#[derive(Clone, Debug, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
struct Sale {
    #[garde(length(min = 1, max = 80))]
    mark: String,
}

/// What the till has done so far.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Tally {
    /// Sales by mark.
    pub(crate) sales: Vec<(String, i64)>,
    /// Events published.
    pub(crate) events: i64,
    /// Keys stored.
    pub(crate) keys: i64,
}

impl Tally {
    pub(crate) fn of(&self, mark: &str) -> i64 {
        self.sales.iter().filter(|(known, _)| known == mark).map(|(_, sales)| sales).sum()
    }
}

pub(crate) fn declare(build: Build, aside: Store, signals: Arc<Signals>) -> Declared {
    let made = move |kit: kernel::service::Kit| {
        let (aside, signals) = (aside.clone(), signals.clone());
        Ok::<_, StartError>(Till { build, store: kit.store, aside, signals, doomed: AtomicBool::new(false) })
    };
    Service::<Till>::new(NAME, "Sells, refuses, fails and dies as it is told")
        .migrations(STEPS)
        .publishes(told::EVENTS)
        .routes(if build == Build::Keyless { keyless_routes } else { routes })
        .refuses(TillRefusal::DOCS)
        .woken("die", Duration::from_secs(3600), |till: Arc<Till>| async move {
            if till.doomed.load(Ordering::SeqCst) {
                die();
            }
            Ok::<(), JobError>(())
        })
        .start_with(made)
}

fn routes() -> Routes<Till> {
    shared(Routes::new().post("/sales", SignedIn, "Sell something", sell))
}

fn keyless_routes() -> Routes<Till> {
    shared(Routes::new().protocol("/sales", SignedIn, "none: this is the mistake", "Sell something", sell_without_key))
}

fn shared(routes: Routes<Till>) -> Routes<Till> {
    routes
        .put("/gifts", SignedIn, "Give something away", sell)
        .post("/back-room", May(BACK_ROOM), "Sell under the counter", sell)
        .get("/tally", Anyone("the case counts"), "Count", tally)
}

async fn sell(tx: Tx, till: Arc<Till>, Whole(request): Whole, Body(sale): Body<Sale>) -> Result<Answer, Fail> {
    let scene = scene(&request);
    if scene == "die-claimed" {
        die();
    }
    let receipt = Receipt { id: ids::fresh(), mark: sale.mark };
    if till.build == Build::Outside {
        let stray = receipt.clone();
        let written = till.aside.write(move |tx| {
            let stray = stray.clone();
            async move { note(&tx, &stray).await.map_err(Fail::from) }
        });
        written.await?;
    } else {
        note(&tx, &receipt).await?;
        tx.emit(told::Sold(receipt.clone()))?;
    }
    match play(&till, &tx, scene).await {
        Err(fail) if till.build == Build::FailureAsAnswer => Ok(Answer::from(Problem::from(fail))),
        Err(fail) => Err(fail),
        Ok(()) => Ok(Created(format!("/sales/{}", receipt.id), receipt).answer()),
    }
}

async fn sell_without_key(till: Arc<Till>, whole: Whole, body: Body<Sale>) -> Result<Answer, Fail> {
    let inside = till.clone();
    let unit = move |tx: Tx| sell(tx, inside.clone(), whole.clone(), body.clone());
    till.store.write(unit).await.map_err(Fail::from)
}

async fn note(tx: &Tx, receipt: &Receipt) -> Result<(), StoreError> {
    let sql = sql!("INSERT INTO sale (id, mark) VALUES ($1, $2)");
    tx.run(sql, params![receipt.id, receipt.mark]).await.map(drop)
}

fn scene(request: &Request) -> &str {
    request.headers.get(SCENE).map_or("", |scene| scene.to_str().expect("the till works"))
}

/// What happens after the sale and before the answer.
async fn play(till: &Till, tx: &Tx, scene: &str) -> Result<(), Fail> {
    match scene {
        "" => Ok(()),
        "402" => Err(TillRefusal::TooPoor.into()),
        "403" => Err(Fail::forbidden()),
        "404" => Err(Fail::not_found()),
        "409" => Err(TillRefusal::SoldOut.into()),
        "422" => Err(TillRefusal::Unfit.into()),
        "429" => Err(TillRefusal::TooOften.into()),
        "503" => Err(TillRefusal::Resting.into()),
        "panic" => panic!("the till fell down, as it was told"),
        "linger" => {
            till.signals.entered.notify_one();
            till.signals.go.notified().await;
            Ok(())
        }
        "die-effect" => die(),
        "die-committed" => {
            till.doomed.store(true, Ordering::SeqCst);
            tx.wake("die");
            Ok(())
        }
        _ => Err(Fail::Fault("the till is on fire".into())),
    }
}

/// kill -9 at this very place: nothing after it runs.
fn die() -> ! {
    drop(Command::new("kill").args(["-KILL", &std::process::id().to_string()]).status());
    loop {
        std::thread::park();
    }
}

row! {
    struct Sales { mark: String, sales: i64 }
}

async fn tally(till: Arc<Till>) -> Result<Json<Tally>, Fail> {
    let by_mark = sql!(Sales, "SELECT mark, COUNT(*) AS sales FROM sale GROUP BY mark");
    let mut sales = till.store.read().all(by_mark, params![]).await?;
    sales.extend(till.aside.read().all(by_mark, params![]).await?);
    let events = sql!(Scalar<i64>, "SELECT COUNT(*) AS value FROM outbox");
    let keys = sql!(Scalar<i64>, "SELECT COUNT(*) AS value FROM idempotency");
    Ok(Json(Tally {
        sales: sales.into_iter().map(|row| (row.mark, row.sales)).collect(),
        events: till.store.read().one(events, params![]).await?.0,
        keys: till.store.read().one(keys, params![]).await?.0,
    }))
}
