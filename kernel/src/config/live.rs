//! The configuration that is in force, and settings that follow it while the city runs.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter as Count;
use prometheus_client::metrics::gauge::Gauge as Level;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

use super::{Change, ConfigError, Effective, Settings, Sources, Table, Tables, changes, together};
use crate::health::Health;
use crate::telemetry::Metrics;

/// Settings that follow the configuration. Clones see the same ones.
pub struct Live<S>(Arc<Cell<S>>);

struct Cell<S> {
    now: ArcSwap<S>,
    changed: watch::Sender<u64>,
}

impl<S> Clone for Live<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: fmt::Debug> fmt::Debug for Live<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Live").field(&self.0.now.load()).finish()
    }
}

impl<S> Live<S> {
    /// Settings that nobody changes, for tests and for what stands alone.
    pub fn fixed(settings: S) -> Self {
        Self(Arc::new(Cell { now: ArcSwap::from_pointee(settings), changed: watch::Sender::new(0) }))
    }

    /// The settings now. Take them once for a piece of work, so that it sees one state of them.
    pub fn get(&self) -> Arc<S> {
        self.0.now.load_full()
    }

    /// Puts others in their place.
    pub fn set(&self, settings: S) {
        self.0.now.store(Arc::new(settings));
        self.0.changed.send_modify(|times| *times += 1);
    }

    /// Tells of each change, for what is made from settings and has to be made anew.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }
}

/// What is in force, and what is not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Why the newest configuration was refused, if it was; what was in force before still is.
    pub refused: Option<String>,
    /// Settings that changed but are read only at start.
    pub needs_restart: Vec<String>,
}

/// The configuration of this process. Clones are the same one.
#[derive(Clone)]
pub struct Configuration(Arc<Inner>);

struct Inner {
    /// Empty where only some tables are known, as in tests; then only those that are in use are checked.
    tables: Tables,
    state: Mutex<State>,
    followers: Mutex<Vec<Follower>>,
    measures: Mutex<Vec<Measures>>,
}

struct State {
    sources: Sources,
    effective: Effective,
    standing: Standing,
}

/// Settings in use: makes the next ones from a table's values, and puts them in place once all others could be made.
struct Follower {
    name: String,
    table: Table,
    make: Box<dyn Fn(&Value) -> Result<Box<dyn Any + Send>, String> + Send + Sync>,
    put: Box<dyn Fn(Box<dyn Any + Send>) + Send + Sync>,
}

struct Measures {
    accepted: Count,
    refused: Count,
    out_of_force: Level,
    waiting: Level,
}

impl fmt::Debug for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Configuration").field(&self.standing()).finish()
    }
}

impl Default for Configuration {
    fn default() -> Self {
        Sources::default().into()
    }
}

impl From<Sources> for Configuration {
    /// A configuration that is checked table by table as they are asked for.
    fn from(sources: Sources) -> Self {
        Self::with(Tables::new(), sources, Effective::default())
    }
}

impl Configuration {
    /// A configuration of these tables and no others.
    ///
    /// # Errors
    /// As [`Effective::of`].
    pub fn of(tables: Tables, sources: Sources) -> Result<Self, ConfigError> {
        let effective = Effective::of(&tables, &sources)?;
        Ok(Self::with(tables, sources, effective))
    }

    fn with(tables: Tables, sources: Sources, effective: Effective) -> Self {
        let state = Mutex::new(State { sources, effective, standing: Standing::default() });
        Self(Arc::new(Inner { tables, state, followers: Mutex::default(), measures: Mutex::default() }))
    }

    /// The settings of one table as they are now.
    ///
    /// # Errors
    /// As [`super::load`].
    pub fn settings<S: Settings>(&self, name: &str) -> Result<S, ConfigError> {
        super::load(name, &self.0.state.lock().sources)
    }

    /// The settings of one table, kept up to date. Fields that are marked `x-restart` keep the value they have now.
    ///
    /// # Errors
    /// As [`super::load`].
    pub fn live<S: Settings>(&self, name: &str) -> Result<Live<S>, ConfigError> {
        let live = Live::fixed(self.settings::<S>(name)?);
        let target = live.clone();
        let make = |value: &Value| -> Result<Box<dyn Any + Send>, String> {
            let made: S = serde_json::from_value(value.clone()).map_err(|error| error.to_string())?;
            made.check()?;
            Ok(Box::new(made))
        };
        let put = move |made: Box<dyn Any + Send>| {
            target.set(*made.downcast::<S>().expect("what a follower made is of its own type"));
        };
        let follower =
            Follower { name: name.to_owned(), table: Table::of::<S>(), make: Box::new(make), put: Box::new(put) };
        self.0.followers.lock().push(follower);
        if let Some(tables) = self.tables() {
            let mut state = self.0.state.lock();
            state.effective = Effective::part(&tables, &state.sources)?;
        }
        Ok(live)
    }

    /// Takes another configuration, whole or not at all, and tells what changed.
    ///
    /// # Errors
    /// What is wrong with it; the old one stays, and [`Configuration::standing`] says so.
    pub fn offer(&self, sources: Sources) -> Result<Vec<Change>, ConfigError> {
        let taken = self.take(sources);
        match &taken {
            Ok(changed) => {
                for change in changed {
                    tracing::info!(setting = change.key, origin = change.origin, "a setting changed");
                }
                self.measure(|measures| {
                    measures.accepted.inc();
                });
            }
            Err(error) => self.refuse(error),
        }
        taken
    }

    /// Notes that a configuration could not even be read.
    pub fn refuse(&self, error: &ConfigError) {
        tracing::error!(%error, "a configuration is refused; the one before stays in force");
        self.0.state.lock().standing.refused = Some(error.to_string());
        self.measure(|measures| {
            measures.refused.inc();
        });
    }

    fn take(&self, sources: Sources) -> Result<Vec<Change>, ConfigError> {
        let offered = match self.tables() {
            Some(in_use) => Effective::part(&in_use, &sources)?,
            None => Effective::of(&self.0.tables, &sources)?,
        };
        let mut state = self.0.state.lock();
        let (next, waiting) = offered.held_back(&state.effective);
        next.check_bounds()?;
        let followers = self.0.followers.lock();
        let mut made = Vec::with_capacity(followers.len());
        for follower in followers.iter() {
            let value = next.table(&follower.name).ok_or_else(|| together(format!("{} is no table", follower.name)))?;
            let settings = (follower.make)(value).map_err(|why| together(format!("{}: {why}", follower.name)))?;
            made.push((follower, settings));
        }
        let before = state.effective.shown();
        for (follower, settings) in made {
            // Only who is concerned hears of it.
            if state.effective.table(&follower.name) != next.table(&follower.name) {
                (follower.put)(settings);
            }
        }
        drop(followers);
        let changed = changes(&before, &next.shown());
        *state = State { sources, effective: next, standing: Standing { refused: None, needs_restart: waiting } };
        Ok(changed)
    }

    /// The tables in use, where no others were named.
    fn tables(&self) -> Option<Tables> {
        self.0.tables.is_empty().then(|| {
            let known = self.0.followers.lock();
            known.iter().map(|follower| (follower.name.clone(), follower.table.clone())).collect()
        })
    }

    /// What is in force, fit to be shown.
    pub fn effective(&self) -> Effective {
        self.0.state.lock().effective.clone()
    }

    /// What is not.
    pub fn standing(&self) -> Standing {
        self.0.state.lock().standing.clone()
    }

    /// Counts what happens among a service's metrics, and tells of it among its checks. A refused configuration makes
    /// nobody unready: the one before is good.
    pub fn report(&self, metrics: &Metrics, health: &Health) {
        let outcome = metrics.counter("config_offers_total", "Configurations that were offered", ["outcome"]);
        let none = [] as [crate::telemetry::metrics::Label; 0];
        let measures = Measures {
            accepted: outcome.at(&["accepted"]),
            refused: outcome.at(&["refused"]),
            out_of_force: metrics.gauge("config_refused", "1 while the newest configuration is refused", none).at(&[]),
            waiting: metrics.gauge("config_needs_restart", "Changed settings that wait for a restart", none).at(&[]),
        };
        self.0.measures.lock().push(measures);
        let own = self.clone();
        health.check_by_asking("config", move || std::future::ready(Ok(own.in_words())));
    }

    fn in_words(&self) -> String {
        let standing = self.standing();
        let refused =
            standing.refused.map(|why| format!("the newest configuration is refused, the one before holds: {why}"));
        let waits = standing.needs_restart.join(", ");
        let waits = (!waits.is_empty()).then(|| format!("needs a restart: {waits}"));
        let said: Vec<String> = refused.into_iter().chain(waits).collect();
        if said.is_empty() { "in force".to_owned() } else { said.join("; ") }
    }

    fn measure(&self, count: impl Fn(&Measures)) {
        let standing = self.standing();
        for measures in self.0.measures.lock().iter() {
            count(measures);
            measures.out_of_force.set(i64::from(standing.refused.is_some()));
            measures.waiting.set(i64::try_from(standing.needs_restart.len()).unwrap_or(i64::MAX));
        }
    }
}
