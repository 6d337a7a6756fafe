//! The spans of one service on their way out: nowhere, or to a collector by a task in the background.

use super::Metrics;
use super::context::Member;
use super::settings::{TABLE, TraceSettings, TraceSettingsError};
use crate::clock::Clock;
use crate::config::{ConfigError, Configuration};
use crate::task::Tasks;

/// Whose spans they are; a collector shows services and instances by it.
#[derive(Clone, Debug)]
pub struct About {
    /// The service's name.
    pub service: &'static str,
    /// Which of its instances this is.
    pub instance: String,
    /// The product that the service is part of.
    pub product: &'static str,
}

/// Why spans cannot be exported as the settings want it.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The settings do not read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// They read, and cannot be followed.
    #[error(transparent)]
    Settings(#[from] TraceSettingsError),
    /// This program has no exporter.
    #[error(
        "traces.endpoint is set, and this program was built without the feature otlp: build it with that, or leave the setting empty"
    )]
    NotBuilt,
    /// The client cannot be made.
    #[error("the client of the collector: {0}")]
    Client(String),
}

/// Exports the spans of one service until [`Exporting::finish`].
#[derive(Debug)]
pub struct Exporting {
    member: Member,
    tasks: Tasks,
    settings: TraceSettings,
}

impl Exporting {
    /// Starts as the table `[traces]` says; with no endpoint there is nothing to start.
    ///
    /// # Errors
    /// Settings that do not read or cannot be followed.
    pub fn start(
        about: &About,
        configuration: &Configuration,
        clock: &Clock,
        metrics: &Metrics,
    ) -> Result<Self, ExportError> {
        let settings: TraceSettings = configuration.settings(TABLE)?;
        let tasks = Tasks::new();
        let Some(target) = settings.target()? else {
            return Ok(Self { member: Member::new(about.service, None), tasks, settings });
        };
        let member = send(about, &settings, &target, clock, metrics, &tasks)?;
        Ok(Self { member, tasks, settings })
    }

    /// The service, for [`in_service`](super::in_service).
    pub fn member(&self) -> Member {
        self.member.clone()
    }

    /// Sends what is left, as long as the collector has to answer one request, and ends.
    pub async fn finish(self) {
        // The task keeps that time itself; this one is for a task that does not.
        self.tasks.drain(self.settings.timeout() * 2).await;
    }
}

#[cfg(feature = "otlp")]
fn send(
    about: &About,
    settings: &TraceSettings,
    target: &str,
    clock: &Clock,
    metrics: &Metrics,
    tasks: &Tasks,
) -> Result<Member, ExportError> {
    use super::otlp::Exporter;
    use super::tracer::{TraceMeasures, Tracer};
    let measures = TraceMeasures::new(metrics);
    let (tracer, spans) = Tracer::new(clock.clone(), settings.ratio, settings.queue, measures.clone());
    let exporter = Exporter::new(about, settings, target, measures)?;
    let work = exporter.run(spans, tasks.stopping());
    // Its own log lines are the service's, its requests nobody's span.
    tasks.spawn("traces", super::in_service(Member::new(about.service, None), work));
    Ok(Member::new(about.service, Some(tracer)))
}

#[cfg(not(feature = "otlp"))]
fn send(_: &About, _: &TraceSettings, _: &str, _: &Clock, _: &Metrics, _: &Tasks) -> Result<Member, ExportError> {
    Err(ExportError::NotBuilt)
}
