//! The process that holds the engines does what other processes ask of it, by a socket in its folder.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use futures::stream::{FuturesUnordered, StreamExt as _};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Notify;

use crate::action::Action;
use crate::fleet::Fleet;
use crate::node::Status;
use crate::place::control_socket;

/// What may be asked; one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// What is everybody doing?
    Status,
    /// Do this to that node.
    Act {
        /// What.
        action: Action,
        /// To whom.
        name: String,
    },
    /// End everything.
    Down,
}

/// The answer; one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Reply {
    /// Why it was not done.
    pub(crate) error: Option<String>,
    /// The process that holds them.
    pub(crate) holder: u32,
    /// What everybody is doing now.
    pub(crate) nodes: Vec<Status>,
}

/// A socket in a deep folder has a path that is longer than the system takes for one, and a path by the folder's
/// descriptor never is. The file keeps the path valid.
pub(crate) fn short(socket: &Path) -> Result<(File, PathBuf)> {
    let folder = socket.parent().context("a socket lies in a folder")?;
    let folder = File::open(folder).with_context(|| format!("cannot open {}", folder.display()))?;
    let name = socket.file_name().context("a socket has a name")?;
    let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    Ok((folder, path))
}

/// Does what is asked until somebody asks to end everything, or `stop` comes; then ends everything.
///
/// # Errors
/// When the socket cannot be made.
pub async fn serve(fleet: Fleet, stop: impl Future<Output = ()>) -> Result<()> {
    let socket = control_socket(&fleet.place.named);
    if socket.exists() {
        fs::remove_file(&socket)?;
    }
    let (_folder, path) = short(&socket)?;
    let listener = UnixListener::bind(path).with_context(|| format!("cannot listen on {}", socket.display()))?;
    let ended = Notify::new();
    {
        let mut open = FuturesUnordered::new();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                () = ended.notified() => break,
                // One that breaks its line off has its answer nowhere to go.
                Some(_) = open.next() => {}
                Ok((stream, _)) = listener.accept() => open.push(answer(&fleet, stream, &ended)),
            }
        }
    }
    fs::remove_file(&socket)?;
    fleet.down().await;
    Ok(())
}

async fn answer(fleet: &Fleet, mut stream: UnixStream, ended: &Notify) -> Result<()> {
    let mut line = String::new();
    BufReader::new(&mut stream).read_line(&mut line).await?;
    let request = serde_json::from_str(&line).context("not a request");
    let down = matches!(request, Ok(Request::Down));
    let done = match request {
        Ok(Request::Act { action, name }) => fleet.act(action, &name).await,
        Ok(Request::Status | Request::Down) => Ok(()),
        Err(error) => Err(error),
    };
    let error = done.err().map(|e| format!("{e:#}"));
    let reply = Reply { error, holder: std::process::id(), nodes: fleet.status() };
    stream.write_all(format!("{}\n", serde_json::to_string(&reply)?).as_bytes()).await?;
    if down {
        ended.notify_one();
    }
    Ok(())
}
