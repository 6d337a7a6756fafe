//! Kafka's jars by Maven, and an archive of the classes it loads, with which it starts in half the time.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::process::Command;

use crate::cache::{Cache, Found, Say, open_to_all};
use crate::ports;
use crate::process::signal;
use crate::program::Need;
use crate::recipes::kafka::{Settings, VERSION, asks_versions, format_line, serve_line};
use crate::spawn::Leash;

/// The jar of the excluded artifact was never published; nothing that a broker does needs it.
const POM: &str = r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>foodexpress.invalid</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>KAFKA</version>
      <exclusions>
        <exclusion><groupId>org.apache.kafka</groupId><artifactId>kafka-tools-api</artifactId></exclusion>
      </exclusions>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>2.25.5</version>
    </dependency>
  </dependencies>
</project>
"#;

fn kept_as() -> String {
    format!("kafka-{VERSION}")
}

/// Where the jars are once they are fetched.
pub(crate) fn jars(cache: &Path) -> PathBuf {
    cache.join(kept_as()).join("libs")
}

/// The archive that this very Java made, if it did: another one would not take it, and not say so.
pub(crate) fn class_archive(cache: &Path) -> Result<PathBuf> {
    let java = Need::of("java", "openjdk-17-jre-headless").find().context("there is no java")?;
    let made = fs::metadata(java.canonicalize()?)?.mtime();
    Ok(cache.join(kept_as()).join(format!("classes-{made}.jsa")))
}

/// Fetches the jars and makes the archive, unless the cache has them.
pub(crate) async fn build(cache: &Cache, say: &Say) -> Result<()> {
    if let Found::ToBuild(draft) = cache.find(&kept_as()).await? {
        say(&format!("fetching Kafka {VERSION}, once: some 43 MB"));
        fs::write(draft.folder.join("pom.xml"), POM.replace("KAFKA", VERSION))?;
        let mut maven = Command::new(Need::of("mvn", "maven").find().context("there is no mvn")?);
        maven.args(["-B", "-ntp", "-q", "dependency:copy-dependencies", "-DincludeScope=runtime"]);
        maven.arg(format!("-DoutputDirectory={}", draft.folder.join("libs").display()));
        super::run(maven, &draft.folder).await.context("cannot fetch Kafka")?;
        draft.finish()?;
    }
    let _lock = cache.lock("kafka-classes").await?;
    let archive = class_archive(cache.root())?;
    if archive.exists() {
        return Ok(());
    }
    say("letting Kafka note the classes it loads, once");
    let scratch = cache.root().join("kafka-classes.draft");
    if scratch.exists() {
        fs::remove_dir_all(&scratch)?;
    }
    fs::create_dir(&scratch)?;
    let made = make_archive(cache, &scratch).await;
    if let Err(error) = made.and_then(|made| keep(&made, &archive)) {
        say(&format!("Kafka starts without an archive of its classes, more slowly: {error:#}"));
    }
    Ok(fs::remove_dir_all(&scratch)?)
}

fn keep(made: &Path, archive: &Path) -> Result<()> {
    // Java leaves it without the right to write, which giving it away later would need.
    fs::set_permissions(made, fs::Permissions::from_mode(0o644))?;
    open_to_all(made)?;
    if let Some(folder) = archive.parent() {
        for old in fs::read_dir(folder)?.flatten().filter(|e| e.path().extension().is_some_and(|x| x == "jsa")) {
            fs::remove_file(old.path())?;
        }
    }
    // Between the two lies no border of file systems.
    Ok(fs::rename(made, archive)?)
}

/// One start and end of a broker that throws its data away.
async fn make_archive(cache: &Cache, scratch: &Path) -> Result<PathBuf> {
    let leash = Leash::new(cache.user().clone())?;
    let ports = ports::free(2)?;
    let settings =
        Settings { id: "AAAAAAAAAAAAAAAAAAAAAA", nodes: &[(ports[0], ports[1])], own: 0, data: scratch.join("data") };
    fs::write(scratch.join("server.properties"), settings.properties())?;
    fs::write(scratch.join("log4j2.properties"), crate::recipes::kafka::LOGGING)?;
    open_to_all(scratch)?;
    cache.user().own(scratch)?;
    let log = scratch.join("log");
    leash.run(&format_line(cache.root(), settings.id)?, scratch, &log).await?;
    let made = scratch.join("classes.jsa");
    let line = serve_line(cache.root(), &format!("-XX:ArchiveClassesAtExit={}", made.display()))?;
    let mut broker = leash.spawn(&line, scratch, &log).await?;
    let up = async {
        while asks_versions(ports[0]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(90), up).await.context("Kafka did not start")?;
    signal(&[broker.id().context("Kafka ended")?], "TERM").await?;
    tokio::time::timeout(Duration::from_secs(90), broker.wait()).await.context("Kafka did not end")??;
    made.exists().then_some(made).context("Java made no archive")
}
