//! Watching what settings are made of: files by looking at them, Consul by waiting for it; every change is offered.

use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::recipe::Layer;
use super::{ConfigError, ConfigSettings, Configuration, History, Recipe, Remote, Sources, Tables};
use crate::clock::Clock;

/// Waits after trouble with Consul: the first, doubled up to the most.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const MOST_WAIT: Duration = Duration::from_secs(5);

/// The layers as files and variables have them now, without Consul: for commands that look at a city that does not run.
///
/// # Errors
/// A file that does not read.
pub fn read_once(recipe: &Recipe) -> Result<Sources, ConfigError> {
    let config = recipe.config()?;
    recipe.put_together(&recipe.files(config.environment.as_deref())?, &[])
}

/// A configuration, and what watches over it.
#[derive(Debug)]
pub struct Watch {
    recipe: Recipe,
    config: ConfigSettings,
    remote: Option<(Remote, u64)>,
    configuration: Configuration,
    history: Option<History>,
    clock: Clock,
    files: Vec<Layer>,
    layers: Vec<Layer>,
}

impl Watch {
    /// Reads all layers for the first time. Whoever supervises the city keeps its `history`, nobody else; `token` opens a
    /// Consul with access control, and `folder` is where a copy of what Consul holds is kept.
    ///
    /// # Errors
    /// Layers that do not read or do not work, and a Consul that cannot be asked and of which there is no copy.
    pub async fn start(
        recipe: Recipe,
        tables: Tables,
        token: Option<String>,
        folder: &Path,
        clock: Clock,
        keeps_history: bool,
    ) -> Result<(Self, Configuration), ConfigError> {
        let config = recipe.config()?;
        let copy = folder.join("consul.json");
        let unwritable =
            |error: std::io::Error| ConfigError::File { origin: folder.display().to_string(), why: error.to_string() };
        std::fs::create_dir_all(folder).map_err(unwritable)?;
        let files = recipe.files(config.environment.as_deref())?;
        let (remote, layers) = match Remote::of(&config, &recipe.common(), token, &copy) {
            Some(remote) => {
                let (layers, index) = remote.first().await?;
                (Some((remote, index)), layers)
            }
            None => (None, Vec::new()),
        };
        let configuration = Configuration::of(tables, recipe.put_together(&files, &layers)?)?;
        let history = keeps_history.then(|| History::new(folder, config.keep_versions));
        let watch =
            Self { recipe, config, remote, configuration: configuration.clone(), history, clock, files, layers };
        watch.record();
        Ok((watch, configuration))
    }

    /// Watches until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        let (found, mut news) = watch::channel(self.layers.clone());
        let waiting = await_consul(self.remote.take(), found);
        let looking = self.look(&mut news);
        tokio::select! {
            () = stop.cancelled() => {}
            () = waiting => {}
            () = looking => {}
        }
    }

    async fn look(&mut self, news: &mut watch::Receiver<Vec<Layer>>) {
        // What the last look found, if it is not what was offered: an editor may be writing still.
        let mut settling = None;
        loop {
            tokio::select! {
                () = sleep(self.config.look_every()) => {}
                Ok(()) = news.changed() => {
                    self.layers.clone_from(&news.borrow_and_update());
                    self.offer();
                }
            }
            let found = self.recipe.files(self.config.environment.as_deref());
            if found.as_ref() == Ok(&self.files) {
                settling = None;
            } else if settling.as_ref() == Some(&found) {
                settling = None;
                match found {
                    Ok(files) => {
                        self.files = files;
                        self.offer();
                    }
                    Err(error) if self.configuration.standing().refused != Some(error.to_string()) => {
                        self.configuration.refuse(&error);
                        self.record();
                    }
                    Err(_) => {}
                }
            } else {
                settling = Some(found);
            }
        }
    }

    fn offer(&self) {
        match self.recipe.put_together(&self.files, &self.layers) {
            // A refusal is noted where it is made.
            Ok(sources) => drop(self.configuration.offer(sources)),
            Err(error) => self.configuration.refuse(&error),
        }
        self.record();
    }

    fn record(&self) {
        let Some(history) = &self.history else { return };
        let now = self.clock.now();
        if let Err(error) = history.record(&self.configuration.effective(), &self.configuration.standing(), now) {
            tracing::warn!(%error, "the version of the configuration cannot be recorded");
        }
    }
}

/// Passes on what Consul holds whenever it changes; keeps what there is while Consul is away.
async fn await_consul(remote: Option<(Remote, u64)>, found: watch::Sender<Vec<Layer>>) {
    let Some((remote, mut index)) = remote else { return std::future::pending().await };
    let (mut wait, mut away) = (FIRST_WAIT, false);
    loop {
        match remote.layers(index).await {
            Ok((layers, at)) => {
                if std::mem::take(&mut away) {
                    tracing::info!("Consul answers again");
                }
                // A place that went backwards is another story; it is asked for from its beginning.
                index = if at < index { 0 } else { at };
                wait = FIRST_WAIT;
                if *found.borrow() != layers {
                    remote.keep_copy(&layers);
                    found.send_replace(layers);
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut away, true) {
                    tracing::warn!(%error, "the settings that Consul held last stay in force");
                }
                index = 0;
                sleep(wait).await;
                wait = (wait * 2).min(MOST_WAIT);
            }
        }
    }
}
