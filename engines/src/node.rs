//! One running node: its process, and what can be done to that.

use std::fs;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::process::Child;
use tokio::time::{sleep, timeout};

use crate::place::{Place, Site};
use crate::process::{Guard, is_alive, last_lines, signal, state, tree};
use crate::table::Engine;

/// How long an engine may take until it answers; Kafka with two other programs on its core has needed twenty.
const ANSWERS_WITHIN: Duration = Duration::from_secs(90);
/// One try at asking an engine.
const ONE_TRY: Duration = Duration::from_secs(3);
/// How long an engine may take to end before it is killed.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// What a node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its process runs.
    Running,
    /// Its process was stopped by SIGSTOP.
    Frozen,
    /// It has no process: killed, or ended by itself.
    Ended,
}

/// What is known of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// The engine it belongs to.
    pub engine: String,
    /// What it is doing.
    pub state: State,
    /// Its process, or the one it last had.
    pub pid: u32,
    /// Where its clients go.
    pub address: String,
    /// The version of the program.
    pub version: String,
    /// `primary` or `standby`, for the nodes of PostgreSQL.
    pub role: Option<String>,
}

/// One node.
pub(crate) struct Node {
    pub(crate) engine: &'static Engine,
    pub(crate) name: &'static str,
    pid: AtomicU32,
    child: Mutex<Option<Child>>,
    frozen: Mutex<Option<Guard>>,
    /// One thing at a time is done to a node.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

impl Node {
    pub(crate) fn new(engine: &'static Engine, name: &'static str) -> Self {
        Self {
            engine,
            name,
            pid: AtomicU32::new(0),
            child: Mutex::new(None),
            frozen: Mutex::new(None),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    pub(crate) fn site<'a>(&self, place: &'a Place) -> Site<'a> {
        Site { place, engine: self.engine, node: self.name }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.load(Ordering::Acquire)
    }

    pub(crate) fn state(&self) -> State {
        // Asking the child reaps it, if it has ended.
        let ended = self.child.lock().as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
        match state(self.pid()) {
            _ if ended => State::Ended,
            Some('T' | 't') => State::Frozen,
            _ => State::Running,
        }
    }

    /// Makes its folder ready and starts its process; it need not answer yet.
    pub(crate) async fn launch(&self, place: &Place) -> Result<()> {
        let site = self.site(place);
        place.make(&site.folder())?;
        let recipe = self.engine.recipe;
        recipe.prepare(site).await.with_context(|| format!("cannot prepare {}", self.name))?;
        let child = place.leash.spawn(&recipe.command(site)?, &site.folder(), &site.log()).await?;
        let pid = child.id().context("a process that just started has an id")?;
        self.pid.store(pid, Ordering::Release);
        *self.child.lock() = Some(child);
        let file = place.path("pids").join(self.name);
        fs::write(&file, pid.to_string()).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Waits until it answers, or can no longer.
    pub(crate) async fn until_it_answers(&self, place: &Place) -> Result<()> {
        let site = self.site(place);
        let began = Instant::now();
        let mut last = None;
        while began.elapsed() < ANSWERS_WITHIN {
            match timeout(ONE_TRY, self.engine.recipe.answers(site)).await {
                Ok(Ok(())) if self.state() == State::Running => return Ok(()),
                Ok(Ok(())) => last = Some("somebody else answers on its port".to_owned()),
                Ok(Err(error)) => last = Some(format!("{error:#}")),
                Err(_) => last = Some("no answer".to_owned()),
            }
            if self.state() == State::Ended {
                let log = site.log();
                bail!("{} ended at once; the end of {}:\n{}", self.name, log.display(), last_lines(&log, 20));
            }
            sleep(Duration::from_millis(25)).await;
        }
        let why = last.unwrap_or_default();
        bail!("{} does not answer after {ANSWERS_WITHIN:?} ({why}); its log: {}", self.name, site.log().display())
    }

    /// Asks the process to end by a signal, waits, insists.
    pub(crate) async fn end(&self, by: &str) -> Result<()> {
        if self.state() == State::Ended {
            return Ok(());
        }
        signal(&[self.pid()], by).await?;
        // What is frozen hears nothing.
        self.thaw().await?;
        if timeout(ENDS_WITHIN, self.reaped()).await.is_err() {
            self.kill().await?;
        }
        Ok(())
    }

    /// SIGKILL to everything it runs, from the top; returns when all of it is gone.
    pub(crate) async fn kill(&self) -> Result<()> {
        if self.state() == State::Ended {
            return Ok(());
        }
        let all = tree(self.pid());
        signal(&all, "KILL").await?;
        self.reaped().await?;
        // Workers of a killed PostgreSQL hold on to its memory until they are gone, and keep the next one from starting.
        let began = Instant::now();
        while all.iter().any(|pid| is_alive(*pid)) {
            if began.elapsed() > ENDS_WITHIN {
                bail!("{} was killed and is still there, pid {}", self.name, self.pid());
            }
            sleep(Duration::from_millis(5)).await;
        }
        self.dismiss_guard().await
    }

    async fn reaped(&self) -> Result<Option<ExitStatus>> {
        loop {
            let ended = match self.child.lock().as_mut() {
                Some(child) => child.try_wait()?,
                None => return Ok(None),
            };
            if ended.is_some() {
                return Ok(ended);
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// The top first, so that it starts nothing new meanwhile.
    pub(crate) async fn freeze(&self) -> Result<()> {
        self.must_live()?;
        signal(&[self.pid()], "STOP").await?;
        let all = tree(self.pid());
        signal(&all, "STOP").await?;
        let former = self.frozen.lock().replace(Guard::over(&all)?);
        if let Some(former) = former { former.leave().await } else { Ok(()) }
    }

    pub(crate) async fn thaw(&self) -> Result<()> {
        self.must_live()?;
        signal(&tree(self.pid()), "CONT").await?;
        self.dismiss_guard().await
    }

    async fn dismiss_guard(&self) -> Result<()> {
        let guard = self.frozen.lock().take();
        if let Some(guard) = guard { guard.leave().await } else { Ok(()) }
    }

    pub(crate) fn must_live(&self) -> Result<()> {
        if self.state() == State::Ended {
            bail!("{} has ended; start it with `foodexpress engines restart {}`", self.name, self.name);
        }
        Ok(())
    }

    /// Throws its folder away.
    pub(crate) fn forget(&self, place: &Place) -> Result<()> {
        let folder = place.path(self.name);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        Ok(())
    }
}
