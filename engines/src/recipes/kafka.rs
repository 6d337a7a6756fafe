//! Kafka, one node or three; every node is broker and controller. Its jars are fetched by Maven.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use futures::future::{BoxFuture, FutureExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Recipe;
use super::postgres::shown;
use crate::build::maven;
use crate::cache::{Cache, Say};
use crate::place::Site;
use crate::program::Need;
use crate::spawn::Line;

pub(crate) const VERSION: &str = "4.4.0";

pub(crate) struct Kafka;

impl Recipe for Kafka {
    fn prepare<'a>(&'a self, site: Site<'a>) -> BoxFuture<'a, Result<()>> {
        prepare(site).boxed()
    }

    fn command(&self, site: Site<'_>) -> Result<Line> {
        let cache = site.place.cache.root();
        let archive = maven::class_archive(cache)?;
        // Without one Java takes its own, which knows nothing of Kafka.
        let option = if archive.exists() {
            format!("-XX:SharedArchiveFile={}", archive.display())
        } else {
            "-Xshare:auto".into()
        };
        serve_line(cache, &option)
    }

    fn answers<'a>(&'a self, site: Site<'a>) -> BoxFuture<'a, Result<()>> {
        async move { asks_versions(site.port("broker")?).await }.boxed()
    }

    fn variables(&self, sites: &[Site<'_>]) -> Result<Vec<(&'static str, String)>> {
        let brokers: Result<Vec<String>> = sites.iter().map(|s| s.address("broker")).collect();
        let name = if sites.len() == 1 { "FX_TEST_KAFKA" } else { "FX_TEST_KAFKA3" };
        Ok(vec![(name, brokers?.join(","))])
    }

    fn version<'a>(&'a self, _: Site<'a>) -> BoxFuture<'a, Result<String>> {
        async { Ok(VERSION.to_owned()) }.boxed()
    }

    fn url(&self, site: Site<'_>) -> Result<String> {
        site.address("broker")
    }

    fn is_built(&self, cache: &Path) -> bool {
        maven::jars(cache).exists()
    }

    fn build<'a>(&'a self, cache: &'a Cache, say: &'a Say) -> BoxFuture<'a, Result<()>> {
        maven::build(cache, say).boxed()
    }
}

async fn prepare(site: Site<'_>) -> Result<()> {
    let nodes: Result<Vec<(u16, u16)>> = site
        .engine
        .nodes
        .iter()
        .map(|node| site.beside(node).and_then(|s| Ok((s.port("broker")?, s.port("controller")?))))
        .collect();
    let own = site.engine.nodes.iter().position(|n| *n == site.node).context("a node is one of its engine's")?;
    let settings = Settings { id: site.place.kafka_id(), nodes: &nodes?, own, data: site.data() };
    site.place.write(&site.folder().join("server.properties"), &settings.properties())?;
    site.place.write(&site.folder().join("log4j2.properties"), LOGGING)?;
    if !site.data().join("meta.properties").exists() {
        site.run(&format_line(site.place.cache.root(), settings.id)?).await?;
    }
    Ok(())
}

/// What a node's properties depend on.
pub(crate) struct Settings<'a> {
    /// The cluster's.
    pub(crate) id: &'a str,
    /// Ports of broker and controller of every node.
    pub(crate) nodes: &'a [(u16, u16)],
    /// Which of them this one is.
    pub(crate) own: usize,
    pub(crate) data: PathBuf,
}

impl Settings<'_> {
    /// Short sessions, so that a broker that was killed is let in again within seconds, and so that a test need not wait
    /// for a member of a group to be given up; everything on as many nodes as there are. What is older than its topic keeps
    /// goes within a second, so that tests meet it every time and not when one happens to run at the fifth minute.
    pub(crate) fn properties(&self) -> String {
        let voters: Vec<String> =
            self.nodes.iter().enumerate().map(|(at, (_, port))| format!("{}@127.0.0.1:{port}", at + 1)).collect();
        let (broker, controller) = self.nodes[self.own];
        let copies = self.nodes.len();
        let in_sync = if copies > 1 { copies - 1 } else { 1 };
        let mut text = format!(
            "process.roles=broker,controller
node.id={}
controller.quorum.voters={}
listeners=BROKER://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=BROKER://127.0.0.1:{broker}
listener.security.protocol.map=BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
log.dirs={}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.min.heartbeat.interval.ms=200
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
log.initial.task.delay.ms=1000
log.retention.check.interval.ms=1000
default.replication.factor={copies}
min.insync.replicas={in_sync}
",
            self.own + 1,
            voters.join(","),
            self.data.display(),
        );
        for (topic, partitions, least) in [
            ("offsets.topic", "offsets.topic.num.partitions", None),
            ("transaction.state.log", "transaction.state.log.num.partitions", Some("transaction.state.log.min.isr")),
            (
                "share.coordinator.state.topic",
                "share.coordinator.state.topic.num.partitions",
                Some("share.coordinator.state.topic.min.isr"),
            ),
        ] {
            writeln!(text, "{topic}.replication.factor={copies}\n{partitions}=4").expect("a string takes everything");
            if let Some(least) = least {
                writeln!(text, "{least}={in_sync}").expect("a string takes everything");
            }
        }
        text
    }
}

/// Everything to standard output, which is the node's log.
pub(crate) const LOGGING: &str = "\
status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601} %p %c{1}: %m%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
";

fn java() -> Result<Line> {
    let java = Need::of("java", "openjdk-17-jre-headless").find().context("there is no java")?;
    Ok(Line::new(&java).args([
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-Dlog4j2.configurationFile=log4j2.properties",
    ]))
}

fn with_jars(line: Line, cache: &Path) -> Line {
    line.args(["-cp", &format!("{}/*", shown(&maven::jars(cache)))])
}

pub(crate) fn format_line(cache: &Path, id: &str) -> Result<Line> {
    let words = ["kafka.tools.StorageTool", "format", "-t", id, "-c", "server.properties", "--ignore-formatted"];
    Ok(with_jars(java()?, cache).args(words))
}

/// A broker in the folder that holds its properties.
pub(crate) fn serve_line(cache: &Path, archive: &str) -> Result<Line> {
    let java = java()?.args(["-Xms128m", "-Xmx256m", archive]);
    Ok(with_jars(java, cache).args(["kafka.Kafka", "server.properties"]))
}

/// Asks the broker for the versions it speaks: it answers nobody before it has been let into the cluster.
pub(crate) async fn asks_versions(port: u16) -> Result<()> {
    const CORRELATION: i32 = 7;
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    // Length, ApiVersions (18) in version 0, correlation, no name of a client; source: the protocol guide of Kafka.
    let mut request = Vec::from(10_i32.to_be_bytes());
    request.extend(18_i16.to_be_bytes());
    request.extend(0_i16.to_be_bytes());
    request.extend(CORRELATION.to_be_bytes());
    request.extend((-1_i16).to_be_bytes());
    stream.write_all(&request).await?;
    let _length = stream.read_i32().await?;
    let (correlation, error) = (stream.read_i32().await?, stream.read_i16().await?);
    if correlation != CORRELATION || error != 0 {
        bail!("no Kafka on port {port}, or one that answers with error {error}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_nodes_keep_everything_three_times_and_one_node_once() {
        let three = Settings { id: "id", nodes: &[(1, 2), (3, 4), (5, 6)], own: 1, data: "data".into() }.properties();
        for line in [
            "node.id=2",
            "controller.quorum.voters=1@127.0.0.1:2,2@127.0.0.1:4,3@127.0.0.1:6",
            "listeners=BROKER://127.0.0.1:3,CONTROLLER://127.0.0.1:4",
            "default.replication.factor=3",
            "min.insync.replicas=2",
            "offsets.topic.replication.factor=3",
            "transaction.state.log.min.isr=2",
            "share.coordinator.state.topic.replication.factor=3",
        ] {
            assert!(three.lines().any(|l| l == line), "{line} is not in\n{three}");
        }
        let one = Settings { id: "id", nodes: &[(1, 2)], own: 0, data: "data".into() }.properties();
        assert!(one.contains("min.insync.replicas=1") && one.contains("transaction.state.log.replication.factor=1"));
    }
}
