//! Asking the process that holds the engines of a folder.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use crate::action::Action;
use crate::node::Status;
use crate::place::{control_socket, is_taken, supervisor_log, taken};
use crate::serve::{Reply, Request, short};

/// How long engines may take to end; each has twenty seconds.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

/// The engines that run in a folder, held by another process.
#[derive(Clone, Debug)]
pub struct Remote {
    folder: PathBuf,
}

impl Remote {
    /// The engines of this folder.
    ///
    /// # Errors
    /// When none run there.
    pub fn at(folder: &Path) -> Result<Self> {
        let at = folder.display();
        if !is_taken(folder) {
            bail!("no engines run in {at}; start them with `foodexpress engines up --data {at}`");
        }
        Ok(Self { folder: folder.canonicalize().with_context(|| format!("cannot open {at}"))? })
    }

    /// Refuses a folder in which engines run already.
    ///
    /// # Errors
    /// When they do.
    pub fn must_be_free(folder: &Path) -> Result<()> {
        if is_taken(folder) { Err(taken(folder)) } else { Ok(()) }
    }

    /// Whether engines run, or are being started, in this folder.
    pub fn runs_at(folder: &Path) -> bool {
        is_taken(folder)
    }

    /// Where the process that holds the engines of this folder writes what it says, if it runs detached.
    pub fn log(folder: &Path) -> PathBuf {
        supervisor_log(folder)
    }

    /// What each node is doing.
    ///
    /// # Errors
    /// When the process that holds them does not answer; it does not before all of them do.
    pub async fn status(&self) -> Result<Vec<Status>> {
        Ok(self.ask(&Request::Status).await?.nodes)
    }

    /// The process that holds them.
    ///
    /// # Errors
    /// As [`Remote::status`].
    pub async fn holder(&self) -> Result<u32> {
        Ok(self.ask(&Request::Status).await?.holder)
    }

    /// Does this to the node, or to all nodes of the engine, of this name; returns when it is done.
    ///
    /// # Errors
    /// As [`crate::Fleet::act`].
    pub async fn act(&self, action: Action, name: &str) -> Result<Vec<Status>> {
        Ok(self.ask(&Request::Act { action, name: name.to_owned() }).await?.nodes)
    }

    /// Ends them and returns when they are gone.
    ///
    /// # Errors
    /// When the process that holds them does not answer, or does not end.
    pub async fn down(self) -> Result<()> {
        self.ask(&Request::Down).await?;
        let began = Instant::now();
        while is_taken(&self.folder) {
            if began.elapsed() > ENDS_WITHIN {
                bail!("the engines in {} have not ended after {ENDS_WITHIN:?}", self.folder.display());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    async fn ask(&self, request: &Request) -> Result<Reply> {
        let (_folder, path) = short(&control_socket(&self.folder))?;
        let mut stream = UnixStream::connect(path).await.context("the engines are being started or ended just now")?;
        stream.write_all(format!("{}\n", serde_json::to_string(request)?).as_bytes()).await?;
        let mut line = String::new();
        BufReader::new(&mut stream).read_line(&mut line).await?;
        if line.is_empty() {
            bail!("the process that held the engines in {} is gone", self.folder.display());
        }
        let reply: Reply = serde_json::from_str(&line).context("an answer that is none")?;
        reply.error.as_ref().map_or(Ok(()), |why| bail!(why.clone()))?;
        Ok(reply)
    }
}
