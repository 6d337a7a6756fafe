//! What is done to the engines of a cluster while customers order, one after another, and how long the city takes to be well.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use engines::{Action, Remote, State, Status};
use futures::future::LocalBoxFuture;
use tokio::sync::Mutex;
use tokio::time::sleep;

use super::Target;
use super::killer::{BACK_WITHIN, Toll, probe};
use crate::city::Supervised;

/// How long what was killed stays away, and what was frozen stays frozen.
const AWAY: Duration = Duration::from_secs(2);
/// Between two looks at engines that died by themselves.
const TEND: Duration = Duration::from_millis(500);

/// One act against an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sabotage {
    /// The broker of this number is killed and started again.
    KillBroker(usize),
    /// It stops answering for a while.
    FreezeBroker(usize),
    /// The primary of PostgreSQL is killed, its standby promoted, and the old primary follows that one.
    FailOver,
    /// Killed and started again.
    Kill(&'static str),
    /// Stops answering for a while.
    Freeze(&'static str),
    /// Killed, emptied and started.
    Wipe(&'static str),
    /// What a member and an engine, or another service, send each other is held back for a while.
    Cut(&'static str, &'static str),
}

impl Sabotage {
    /// One of each.
    pub(super) const ALL: &[Self] = &[
        Self::KillBroker(0),
        Self::KillBroker(1),
        Self::KillBroker(2),
        Self::FreezeBroker(0),
        Self::FreezeBroker(2),
        Self::FailOver,
        Self::Kill("pgbouncer"),
        Self::Freeze("pgbouncer"),
        Self::Kill("redis"),
        Self::Freeze("redis"),
        Self::Wipe("redis"),
        Self::Kill("consul"),
        Self::Freeze("consul"),
        Self::Kill("jaeger"),
        Self::Cut("orders", "postgres"),
        Self::Cut("gateway-2", "redis"),
        Self::Cut("kitchen", "consul"),
        Self::Cut("gateway", "orders-2"),
        Self::Cut("payments", "card-network"),
        Self::Cut("gateway-2", "auth"),
    ];

    /// As the report names it.
    fn name(self) -> String {
        match self {
            Self::KillBroker(_) => "kafka killed".to_owned(),
            Self::FreezeBroker(_) => "kafka frozen".to_owned(),
            Self::FailOver => "postgres failed over".to_owned(),
            Self::Kill(engine) => format!("{engine} killed"),
            Self::Freeze(engine) => format!("{engine} frozen"),
            Self::Wipe(engine) => format!("{engine} wiped"),
            Self::Cut(one, other) => format!("{one} and {other} cut apart"),
        }
    }
}

/// Called with the name of an engine that lost its data, to make its users again.
pub(crate) type Refill<'a> = dyn Fn() -> LocalBoxFuture<'a, Result<()>> + 'a;

/// Where the sabotage happens.
pub(super) struct Site<'a, 'r> {
    remote: Remote,
    city: &'a Supervised,
    target: &'a Target<'r>,
    /// Held while an engine is down on purpose.
    at_work: Mutex<()>,
    died: parking_lot::Mutex<BTreeMap<String, usize>>,
}

impl<'a, 'r> Site<'a, 'r> {
    /// The engines that run in this folder, under this city.
    pub(super) fn new(folder: &Path, city: &'a Supervised, target: &'a Target<'r>) -> Result<Self> {
        Ok(Self {
            remote: Remote::at(folder)?,
            city,
            target,
            at_work: Mutex::default(),
            died: parking_lot::Mutex::default(),
        })
    }

    /// Starts engines that died without our doing, as a service manager would: some do under such treatment.
    pub(super) async fn tend(&self) -> Result<()> {
        loop {
            let turn = self.at_work.lock().await;
            for node in self.remote.status().await?.iter().filter(|node| node.state == State::Ended) {
                tracing::warn!(node = node.name, "an engine died by itself and is started again; its log says why");
                *self.died.lock().entry(format!("{} died by itself", node.engine)).or_default() += 1;
                self.remote.act(Action::Restart, &node.name).await?;
            }
            drop(turn);
            sleep(TEND).await;
        }
    }

    /// Engines that died by themselves.
    pub(super) fn died(&self) -> BTreeMap<String, usize> {
        self.died.lock().clone()
    }

    /// Carries out the plan; what this set of engines does not have is left out.
    pub(super) async fn carry_out(&self, plan: &[(Duration, Sabotage)], struck: impl Fn(usize)) -> Result<Toll> {
        let mut toll = Toll::default();
        for (after, sabotage) in plan {
            sleep(*after).await;
            let turn = self.at_work.lock().await;
            let (began, name) = (Instant::now(), sabotage.name());
            if !self.strike(*sabotage).await.with_context(|| name.clone())? {
                continue;
            }
            drop(turn);
            struck(1);
            *toll.by_member.entry(name.clone()).or_default() += 1;
            match self.until_well(began).await {
                Ok(()) => toll.note(&name, began.elapsed()),
                Err(error) => toll.gone.push(format!("{name}: {error}")),
            }
        }
        Ok(toll)
    }

    /// Does it, and mends what does not mend itself; false if there is no such engine.
    async fn strike(&self, sabotage: Sabotage) -> Result<bool> {
        let nodes = self.remote.status().await?;
        let broker = |number: usize| nodes.iter().filter(|n| n.engine.starts_with("kafka")).nth(number);
        let of = |engine: &str| nodes.iter().find(|n| n.engine == engine);
        let (node, actions): (Option<&Status>, &[Action]) = match sabotage {
            Sabotage::KillBroker(number) => (broker(number), &[Action::Kill, Action::Restart]),
            Sabotage::FreezeBroker(number) => (broker(number), &[Action::Freeze, Action::Thaw]),
            Sabotage::Kill(engine) => (of(engine), &[Action::Kill, Action::Restart]),
            Sabotage::Freeze(engine) => (of(engine), &[Action::Freeze, Action::Thaw]),
            Sabotage::Wipe(engine) => (of(engine), &[Action::Wipe]),
            Sabotage::FailOver => return self.fail_over(&nodes).await,
            Sabotage::Cut(one, other) => {
                let pid = self.city.map().members.get(one).map(|member| member.pid);
                return Ok(match pid {
                    Some(pid) => self.target.links.cut(pid, other).await,
                    None => false,
                });
            }
        };
        let Some(node) = node else { return Ok(false) };
        for (number, action) in actions.iter().enumerate() {
            if number > 0 {
                sleep(AWAY).await;
            }
            self.remote.act(*action, &node.name).await?;
        }
        if matches!(sabotage, Sabotage::Wipe(_)) {
            (self.target.refill)().await?;
        }
        Ok(true)
    }

    async fn fail_over(&self, nodes: &[Status]) -> Result<bool> {
        let of = |role: &str| nodes.iter().find(|n| n.role.as_deref() == Some(role)).map(|n| n.name.clone());
        let (Some(primary), Some(standby)) = (of("primary"), of("standby")) else { return Ok(false) };
        self.remote.act(Action::Kill, &primary).await?;
        self.remote.act(Action::Promote, &standby).await?;
        self.remote.act(Action::Rejoin, &primary).await?;
        self.remote.act(Action::Synchronize, &standby).await?;
        Ok(true)
    }

    /// Waits until every member has said once that it is well.
    async fn until_well(&self, began: Instant) -> Result<()> {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_millis(500)).build()?;
        let map = self.city.map();
        for member in map.members.keys() {
            let url = probe(&map, member)?;
            while !http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
                if began.elapsed() > BACK_WITHIN {
                    bail!("{member} is not well {BACK_WITHIN:?} later");
                }
                sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(())
    }
}
