//! What a case is: a name, what it shows, what is planted to make it fail, and how it is played.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;

use crate::place::Place;

/// A case that takes longer has come to a stop somewhere.
const NEVER: Duration = Duration::from_secs(300);

/// How a case is played: it gives the figure that it saw, and panics where the promise is broken.
pub(crate) type Run = Arc<dyn Fn(Place) -> LocalBoxFuture<'static, String> + Send + Sync>;

/// One promise.
#[derive(Clone)]
pub struct Case {
    /// Its stable name: the family, a dot, a word.
    pub name: &'static str,
    /// What it shows, in one sentence.
    pub shows: &'static str,
    /// What is planted to show that it can fail.
    pub fault: &'static str,
    /// Engines of its family that do not claim it, each with the reason.
    pub not_on: &'static [(&'static str, &'static str)],
    pub(crate) run: Run,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Case {
    /// The family it belongs to.
    pub fn family(&self) -> &'static str {
        self.name.split('.').next().unwrap_or(self.name)
    }

    /// Why this engine of its family does not claim it, if it does not.
    pub fn unclaimed(&self, engine: &str) -> Option<&'static str> {
        self.not_on.iter().find(|(name, _)| *name == engine).map(|(_, why)| *why)
    }

    /// Plays it once; gives the figure that it saw, or what is broken.
    ///
    /// # Errors
    /// The promise does not hold, or the planted fault was found.
    pub async fn play(&self, place: Place) -> Result<String, String> {
        let played = AssertUnwindSafe((self.run)(place)).catch_unwind();
        match tokio::time::timeout(NEVER, played).await {
            Ok(ended) => ended.map_err(|panic| reason(&*panic)),
            Err(_) => Err(format!("it has not ended after {} s", NEVER.as_secs())),
        }
    }
}

fn reason(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked").to_owned()
}

/// `case!("store.commit", "what it shows", fault "what is planted", function)`, and `, not "engine": "why"` for each
/// engine of the family that does not claim it.
macro_rules! case {
    ($name:literal, $shows:literal, fault $fault:literal, $run:path $(, not $engine:literal: $why:expr)* $(,)?) => {
        $crate::case::Case {
            name: $name,
            shows: $shows,
            fault: $fault,
            not_on: &[$(($engine, $why)),*],
            run: std::sync::Arc::new(|place| Box::pin($run(place))),
        }
    };
}
pub(crate) use case;
