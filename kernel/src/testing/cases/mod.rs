//! What any bus must do, as named cases: the same ones run on the stream and on Kafka, on every store.
//!
//! Each can be told to plant a fault first, and then has to fail: a case that cannot fail shows nothing.

mod flow;
mod moving;
#[expect(unreachable_pub, reason = "events are declared public, and so is what they carry")]
mod stage;
mod trouble;

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;

pub use stage::Stage;

/// One promise of the bus.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its stable name.
    pub name: &'static str,
    /// What it shows, in one sentence.
    pub shows: &'static str,
    /// What is planted to show that it can fail.
    pub fault: &'static str,
    run: for<'a> fn(&'a Stage) -> LocalBoxFuture<'a, String>,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Case {
    /// Why it cannot be played on this stage, if it cannot.
    pub fn missing(&self, stage: &Stage) -> Option<&'static str> {
        (self.name == "bus.move" && !stage.has_kafka()).then_some("there is no second bus to move to")
    }

    /// Runs it on a stage of its own; gives the figure that it saw, or what went wrong.
    ///
    /// # Errors
    /// The promise does not hold, or the planted fault was found.
    pub async fn run(&self, stage: &Stage) -> Result<String, String> {
        let played = AssertUnwindSafe((self.run)(stage)).catch_unwind().await;
        stage.leave().await;
        played.map_err(|panic| reason(&*panic))
    }
}

fn reason(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
}

macro_rules! case {
    ($name:literal, $shows:literal, fault $fault:literal, $run:path) => {
        Case { name: $name, shows: $shows, fault: $fault, run: |stage| Box::pin($run(stage)) }
    };
}

/// Every case of the bus.
pub const CASES: &[Case] = &[
    case!("bus.order", "events of a thing take effect once, in the order of its versions", fault "a publisher that tells of a later version first", flow::order),
    case!("bus.duplicate", "what is delivered again takes no second effect", fault "a consumer without its inbox", flow::duplicate),
    case!("bus.replay", "a replay takes a second effect exactly from where it was told to", fault "a replay that asks the inbox", flow::replay),
    case!("bus.kill", "sudden ends of publisher and consumer lose and double nothing", fault "an effect lost behind its receipt", flow::kill),
    case!("bus.rebalance", "instances of one consumer come and go, and each event takes effect once", fault "a zombie that nobody fences", flow::rebalance),
    case!("bus.backlog", "what is too much for one unit is taken in smaller ones", fault "a unit in which not even one fits", flow::backlog),
    case!("bus.slow_consumer", "a consumer that stands still holds nobody up and gets all in the end", fault "a gate that stays closed", flow::slow),
    case!("bus.trace", "a handled event goes on in its trace, for the service that hears it", fault "an event told of outside of its trace", flow::trace),
    case!("bus.gap", "a place that the log does not have is refused, and a replay mends it", fault "a place that the log has", trouble::gap),
    case!("bus.anew", "a publisher with a new database is refused until somebody accepts it", fault "a publisher with its old database", trouble::anew),
    case!("bus.parking", "poison parks its thing only, with what comes behind it", fault "a consumer that swallows what it cannot handle", trouble::parking),
    case!("bus.redrive", "parked events are driven again in their order", fault "a parked event that is gone", trouble::redriving),
    case!("bus.drop", "a dropped event never takes effect, and those behind it wait for a redrive", fault "a drop that was not done", trouble::dropping),
    case!("bus.patience", "a passing trouble is sat out, a lasting one is parked", fault "a reaction that never fails", trouble::patience),
    case!("bus.schema", "a payload that does not read is parked, an unknown type ignored", fault "a payload that reads", trouble::schema),
    case!("bus.organisation", "a payload of another organisation than its event says is parked", fault "a payload of the right organisation", trouble::organisation),
    case!(
        "bus.move",
        "moving from bus to bus under load, with sudden ends, loses and doubles nothing",
        fault "a move that carries no place over", moving::back_and_forth
    ),
];
