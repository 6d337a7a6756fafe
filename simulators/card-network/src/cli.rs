//! The command line: where to keep the books, where to listen, and the two secrets, read from files.
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::rand;
use clap::Parser;

use crate::{KeySource, Options, StartError, run};

/// A payment provider with its own books.
#[derive(Parser)]
#[command(name = "card-network", version)]
pub struct Args {
    /// The folder of its database and secrets; made if missing.
    #[arg(long, default_value = "card-network-data")]
    data: PathBuf,
    /// Where to listen; port 0 picks a free one, printed as the first line.
    #[arg(long, default_value = "127.0.0.1:0")]
    addr: SocketAddr,
    /// The file with the API key; by default `api-key` in the data folder, made on the first run.
    #[arg(long)]
    api_key_file: Option<PathBuf>,
    /// The file with the webhook secret; by default `webhook-secret` in the data folder, made on the first run.
    #[arg(long)]
    webhook_secret_file: Option<PathBuf>,
    /// Where signed events are sent.
    #[arg(long)]
    webhook_url: Option<String>,
    /// The seed of faults by rate.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How long an authorisation holds, in seconds.
    #[arg(long, default_value_t = 7 * 24 * 60 * 60)]
    authorization_ttl: u64,
}

impl Args {
    fn options(&self) -> Result<Options, StartError> {
        let api_key = secret(self.api_key_file.as_deref(), &self.data, "api-key")?;
        let webhook_secret = secret(self.webhook_secret_file.as_deref(), &self.data, "webhook-secret")?;
        Ok(Options {
            addr: self.addr,
            webhook_url: self.webhook_url.clone(),
            seed: self.seed,
            authorization_ttl: Duration::from_secs(self.authorization_ttl),
            ..Options::new(&self.data, api_key, webhook_secret)
        })
    }
}

/// Runs the network until it is told to stop; an error means that it did not start or ended by itself.
pub async fn command(args: Args) -> Result<(), StartError> {
    let mut running = run(args.options()?).await?;
    writeln!(std::io::stdout(), "{}", serde_json::json!({ "listening": running.local_addr() }))?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        () = running.failed() => return Err(StartError::Io(std::io::Error::other("a part of the network ended"))),
        _ = terminate.recv() => {}
        pressed = tokio::signal::ctrl_c() => pressed?,
    }
    running.shutdown().await;
    Ok(())
}

fn secret(file: Option<&Path>, data: &Path, name: &str) -> Result<KeySource, StartError> {
    let path = file.map_or_else(|| data.join(name), Path::to_owned);
    if file.is_none() && !path.exists() {
        std::fs::create_dir_all(data)?;
        write_private(&path, &random_text()?)?;
    }
    let text = std::fs::read_to_string(&path)?;
    if text.trim().len() < 16 { Err(StartError::Setting("secret file")) } else { Ok(KeySource::File(path)) }
}

fn random_text() -> Result<String, StartError> {
    let mut bytes = [0_u8; 32];
    rand::fill(&mut bytes).map_err(|_| StartError::Setting("secret file"))?;
    Ok(bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}")))
}

/// Readable by its owner only, and there whole or not at all.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let draft = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(draft, path)
}
