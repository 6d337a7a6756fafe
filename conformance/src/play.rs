//! Playing the chosen cells, a few side by side.

use std::sync::Arc;

use futures::StreamExt as _;

use crate::case::Case;
use crate::choice::Choice;
use crate::engine::Engine;
use crate::place::{Addresses, Again, Place};
use crate::store;

/// Cases wait more than they work.
const AT_ONCE: usize = 4;

/// What stands in one cell of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// The promise is kept; what was seen. With planted faults: the fault was found, and how.
    Seen(String),
    /// It is broken, or the planted fault was not found.
    Broken(String),
    /// It was not played, and why.
    Empty(String),
}

/// One cell that was looked at.
#[derive(Clone, Debug)]
pub struct Played {
    /// The case.
    pub case: &'static str,
    /// The engine.
    pub engine: &'static str,
    /// What came of it.
    pub cell: Cell,
}

/// Plays the chosen cells; `told` hears of each as it is done. `absent` says why an engine that is needed and named by no
/// variable is not there.
pub async fn play(
    choice: &Choice,
    addresses: &Arc<Addresses>,
    absent: &Addresses,
    seeded: bool,
    again: Again,
    mut told: impl FnMut(&Played),
) -> Vec<Played> {
    let run = |(at, (case, engine)): (usize, (&Case, &'static Engine))| {
        let (case, place) = (case.clone(), Place { engine, seeded, addresses: addresses.clone(), again });
        let played =
            async move { Played { case: case.name, engine: engine.name, cell: look(&case, place, absent).await } };
        async move { (at, played.await) }
    };
    let mut running = futures::stream::iter(choice.cells().enumerate()).map(run).buffer_unordered(AT_ONCE);
    let mut all = Vec::new();
    while let Some((at, played)) = running.next().await {
        told(&played);
        all.push((at, played));
    }
    all.sort_by_key(|(at, _)| *at);
    all.into_iter().map(|(_, played)| played).collect()
}

async fn look(case: &Case, place: Place, absent: &Addresses) -> Cell {
    if let Some(why) = case.unclaimed(place.engine.name) {
        return Cell::Empty(why.to_owned());
    }
    let why = place.engine.needs.iter().find_map(|(engine, _)| absent.get(*engine));
    let why = why.cloned().or_else(|| place.engine.missing(&place.addresses));
    if let Some(why) = why.or_else(|| store::missing(case.name, place.engine.name)) {
        return Cell::Empty(why);
    }
    let seeded = place.seeded;
    match (case.play(place).await, seeded) {
        (Ok(figure), false) => Cell::Seen(figure),
        (Err(why), true) => Cell::Seen(format!("{}: {}", case.fault, first_line(&why))),
        (Err(why), false) => Cell::Broken(why),
        (Ok(figure), true) => Cell::Broken(format!("{} is not found: {figure}", case.fault)),
    }
}

/// As much of it as tells what was found.
fn first_line(text: &str) -> String {
    const ENOUGH: usize = 120;
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= ENOUGH { line.to_owned() } else { line.chars().take(ENOUGH).chain(['…']).collect() }
}
