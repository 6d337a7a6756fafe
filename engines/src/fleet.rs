//! A set of engines in one folder, and what can be done to its nodes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use futures::future::{join_all, try_join_all};
use tokio::sync::MutexGuard;

use crate::action::Action;
use crate::addresses::{self, Card};
use crate::cache::{Cache, Say};
use crate::node::{Node, Status};
use crate::place::Place;
use crate::program::Missing;
use crate::table::Engine;
use crate::user::User;
use crate::{ports, process};

/// Another process may take a port between our look at it and the engine's.
const PORTS_TRIED: usize = 4;

/// Where engines run and where their builds are kept.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The folder that holds everything of the run.
    pub folder: PathBuf,
    /// The folder of slow builds; see [`crate::default_cache`].
    pub cache: PathBuf,
}

impl Setup {
    /// What these engines lack here.
    pub fn missing(&self, engines: &[&'static Engine]) -> Vec<Missing> {
        engines.iter().filter_map(|e| e.missing(&self.cache)).collect()
    }

    /// Whether the cache has what this engine has to be built or fetched.
    pub fn is_built(&self, engine: &Engine) -> bool {
        engine.recipe.is_built(&self.cache)
    }

    /// Builds and fetches what these engines need and the cache does not have.
    ///
    /// # Errors
    /// When a program is missing, or a build fails.
    pub async fn build(&self, engines: &[&'static Engine], say: &Say) -> Result<()> {
        let missing = self.missing(engines);
        if !missing.is_empty() {
            bail!(missing.iter().map(Missing::to_string).collect::<Vec<_>>().join("\n"));
        }
        let cache = Cache::new(&self.cache, User::of_engines()?);
        for engine in engines {
            engine.recipe.build(&cache, say).await?;
        }
        Ok(())
    }
}

/// Engines that run; dropping it ends them at once.
pub struct Fleet {
    pub(crate) place: Place,
    pub(crate) engines: Vec<&'static Engine>,
    pub(crate) nodes: Vec<Node>,
    versions: BTreeMap<&'static str, String>,
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet")
            .field("folder", &self.place.named)
            .field("engines", &self.engines)
            .finish_non_exhaustive()
    }
}

impl Fleet {
    /// Starts these engines from nothing and returns once all answer; the folder's two files then say where.
    ///
    /// # Errors
    /// When something is missing, when engines run in the folder already, or when one does not start; its log is quoted.
    pub async fn up(setup: &Setup, engines: &[&'static Engine], say: &Say) -> Result<Self> {
        setup.build(engines, say).await?;
        let place = Place::open(&setup.folder, &setup.cache)?;
        let nodes = engines.iter().flat_map(|e| e.nodes.iter().map(|name| Node::new(e, name))).collect();
        let mut fleet = Self { place, engines: engines.to_vec(), nodes, versions: BTreeMap::new() };
        match fleet.start().await {
            Ok(()) => Ok(fleet),
            Err(error) => {
                fleet.down().await;
                Err(error)
            }
        }
    }

    async fn start(&mut self) -> Result<()> {
        let mut waiting = self.engines.clone();
        while !waiting.is_empty() {
            let names: Vec<_> = waiting.iter().map(|e| e.name).collect();
            let (next, later): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|e| !e.after.iter().any(|before| names.contains(before)));
            try_join_all(next.iter().map(|engine| self.bring_up(engine))).await?;
            waiting = later;
        }
        for engine in &self.engines {
            let node = self.of(engine).next().context("every engine has a node")?;
            self.versions.insert(engine.name, engine.recipe.version(node.site(&self.place)).await?);
        }
        addresses::publish(self)
    }

    async fn bring_up(&self, engine: &'static Engine) -> Result<()> {
        let nodes: Vec<&Node> = self.of(engine).collect();
        for attempt in 1.. {
            let free = ports::free(nodes.len() * engine.ports.len())?;
            for (node, ports) in nodes.iter().zip(free.chunks(engine.ports.len())) {
                self.place.set_ports(node.name, engine.ports.iter().copied().zip(ports.iter().copied()).collect());
            }
            let Err(error) = self.launch(&nodes).await else { break };
            let somebody_was_quicker = nodes.iter().any(|node| {
                process::last_lines(&node.site(&self.place).log(), 40).to_lowercase().contains("address already in use")
            });
            if attempt == PORTS_TRIED || !somebody_was_quicker {
                return Err(error);
            }
            for node in &nodes {
                node.kill().await?;
                node.forget(&self.place)?;
            }
        }
        Ok(())
    }

    /// All are started before the first is waited for: nodes of a cluster need each other.
    pub(crate) async fn launch(&self, nodes: &[&Node]) -> Result<()> {
        try_join_all(nodes.iter().map(|node| node.launch(&self.place))).await?;
        try_join_all(nodes.iter().map(|node| node.until_it_answers(&self.place))).await.map(drop)
    }

    fn of(&self, engine: &'static Engine) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|n| n.engine.name == engine.name)
    }

    /// The nodes that a name stands for: one node, or all of an engine.
    pub(crate) fn find(&self, name: &str) -> Result<Vec<&Node>> {
        let found: Vec<&Node> = self.nodes.iter().filter(|n| n.name == name || n.engine.name == name).collect();
        if found.is_empty() {
            let known = self.nodes.iter().map(|n| n.name).collect::<Vec<_>>().join(", ");
            bail!("no {name} runs here; there are {known}");
        }
        Ok(found)
    }

    /// A node of this name, if it is part of the fleet.
    pub(crate) fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|n| n.name == name)
    }

    pub(crate) fn version(&self, engine: &Engine) -> String {
        self.versions.get(engine.name).cloned().unwrap_or_default()
    }

    /// `primary` or `standby`.
    pub(crate) fn role(&self, node: &Node) -> Option<String> {
        let ours = ["postgres", "standby"].contains(&node.name);
        ours.then(|| if node.name == self.place.primary() { "primary" } else { "standby" }.to_owned())
    }

    /// What each node is doing.
    pub fn status(&self) -> Vec<Status> {
        let status = |node: &Node| Status {
            name: node.name.to_owned(),
            engine: node.engine.name.to_owned(),
            state: node.state(),
            pid: node.pid(),
            address: node.site(&self.place).address(node.engine.ports[0]).unwrap_or_default(),
            version: self.version(node.engine),
            role: self.role(node),
        };
        self.nodes.iter().map(status).collect()
    }

    /// Where every node listens.
    ///
    /// # Errors
    /// None once the fleet is up.
    pub fn cards(&self) -> Result<BTreeMap<String, Card>> {
        addresses::cards(self)
    }

    /// What tests are told, by variable; the values hold passwords.
    ///
    /// # Errors
    /// None once the fleet is up.
    pub fn variables(&self) -> Result<BTreeMap<&'static str, String>> {
        addresses::variables(self)
    }

    /// Does this to the node, or to all nodes of the engine, of this name; returns when it is done.
    ///
    /// # Errors
    /// For a name that is none, for what cannot be done to it, and when it fails.
    pub async fn act(&self, action: Action, name: &str) -> Result<()> {
        let nodes = self.find(name)?;
        // In the order of the table, so that two who want several do not wait for each other.
        let mut turns: Vec<MutexGuard<'_, ()>> = Vec::new();
        for node in &nodes {
            turns.push(node.turn.lock().await);
        }
        match action {
            Action::Kill => try_join_all(nodes.iter().map(|n| n.kill())).await.map(drop)?,
            Action::Freeze => try_join_all(nodes.iter().map(|n| n.freeze())).await.map(drop)?,
            Action::Thaw => try_join_all(nodes.iter().map(|n| n.thaw())).await.map(drop)?,
            Action::Restart => {
                try_join_all(nodes.iter().map(|n| n.end(n.engine.recipe.ends_by()))).await?;
                self.launch(&nodes).await?;
            }
            Action::Wipe => self.wipe(&nodes).await?,
            Action::Promote => self.promote(one(&nodes, action)?).await?,
            Action::Rejoin => self.rejoin(one(&nodes, action)?).await?,
            Action::Pause => self.pause(one(&nodes, action)?).await?,
            Action::Resume => self.resume(one(&nodes, action)?).await?,
            Action::Synchronize => self.synchronize(one(&nodes, action)?).await?,
        }
        addresses::publish(self)
    }

    async fn wipe(&self, nodes: &[&Node]) -> Result<()> {
        if nodes.iter().any(|n| n.name == self.place.primary()) && self.node("standby").is_some() {
            bail!("{} is the primary: its standby would have nothing to follow", self.place.primary());
        }
        for node in nodes {
            node.kill().await?;
            node.forget(&self.place)?;
        }
        self.launch(nodes).await
    }

    /// Ends all nodes and throws their data away; their logs stay.
    pub async fn down(self) {
        addresses::withdraw(&self.place.named);
        let ended = join_all(self.nodes.iter().map(|n| n.end(n.engine.recipe.is_thrown_away_by()))).await;
        // What did not end is killed by the leash as the fleet is dropped.
        drop(ended);
        self.place.clear();
    }
}

fn one<'a>(nodes: &[&'a Node], action: Action) -> Result<&'a Node> {
    match nodes {
        [node] => Ok(node),
        _ => bail!("{action} takes one node"),
    }
}
