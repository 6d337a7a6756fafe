//! Reaching the server: choosing a host, logging in, and cancelling in a way that a pooler forwards.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::{CancelToken, Config, NoTls, SimpleQueryMessage};

use crate::store::error::StoreError;

use super::engine_error;
use super::lane::Lane;

/// How long a host may take to answer before the next one is tried.
const WAIT: Duration = Duration::from_secs(5);

/// Reads an address and refuses what cannot be honoured.
pub(super) fn address(url: &str) -> Result<Config, StoreError> {
    let config: Config = url.parse().map_err(|e: tokio_postgres::Error| {
        let why = std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
        StoreError::Refused(format!("the database address is not one: {why}"))
    })?;
    if config.get_ssl_mode() == SslMode::Require {
        return Err(StoreError::Refused(
            "the database address demands TLS (sslmode=require); TLS to the database is not there yet".into(),
        ));
    }
    if config.get_hosts().is_empty() || config.get_hosts().iter().any(|h| !matches!(h, Host::Tcp(_))) {
        return Err(StoreError::Refused("the database address must name a host that is reached over TCP".into()));
    }
    Ok(config)
}

/// A logged-in connection to the first host that answers and is what the address asks for.
pub(super) async fn connect(config: &Config, direct: bool) -> Result<Lane, StoreError> {
    let mut last = None;
    for (index, host) in config.get_hosts().iter().enumerate() {
        let Host::Tcp(name) = host else { continue };
        let ports = config.get_ports();
        let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
        let attempt =
            tokio::time::timeout(*config.get_connect_timeout().unwrap_or(&WAIT), log_in(config, name, port, direct));
        match attempt.await {
            Ok(Ok(lane)) => return Ok(lane),
            Ok(Err(error)) => last = Some(error),
            Err(_) => last = Some(StoreError::Lost(format!("{name}:{port} does not answer"))),
        }
    }
    Err(last.unwrap_or_else(|| StoreError::Refused("the database address names no host".into())))
}

async fn log_in(config: &Config, host: &str, port: u16, direct: bool) -> Result<Lane, StoreError> {
    let unreachable = |e: io::Error| StoreError::Lost(format!("{host}:{port}: {e}"));
    let stream = TcpStream::connect((host, port)).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    let peer = stream.peer_addr().map_err(unreachable)?;
    let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(|e| match engine_error(&e) {
        // The server said nothing: it may be starting or stopping, and nothing has been asked of it yet.
        StoreError::Engine(why) if e.as_db_error().is_none() => StoreError::Lost(format!("{host}:{port}: {why}")),
        said => said,
    })?;
    let driver = spawn_driver(connection);
    let lane = Lane::new(client, peer, driver, direct);
    if config.get_target_session_attrs() == TargetSessionAttrs::ReadWrite && read_only(&lane).await? {
        return Err(StoreError::Lost(format!("{host}:{port} only reads")));
    }
    lane.prepare_settings().await?;
    Ok(lane)
}

#[expect(clippy::disallowed_methods, reason = "ends with its connection; whoever waits on that is told")]
fn spawn_driver(
    connection: tokio_postgres::Connection<TcpStream, tokio_postgres::tls::NoTlsStream>,
) -> tokio::task::AbortHandle {
    let driver = async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a database connection ended");
        }
    };
    tokio::spawn(driver).abort_handle()
}

async fn read_only(lane: &Lane) -> Result<bool, StoreError> {
    let rows = lane.client.simple_query("SHOW transaction_read_only").await.map_err(|e| engine_error(&e))?;
    Ok(rows.iter().any(|m| matches!(m, SimpleQueryMessage::Row(row) if row.get(0) == Some("on"))))
}

/// Sends a cancel request and waits until the other side has closed: a pooler that sees us close first forgets it.
pub(super) async fn cancel(peer: SocketAddr, token: &CancelToken) -> Result<(), StoreError> {
    let stream = TcpStream::connect(peer).await.map_err(|e| StoreError::Lost(e.to_string()))?;
    token.cancel_query_raw(Patient(stream), NoTls).await.map_err(|e| engine_error(&e))
}

/// A stream whose shutdown is the other side's end.
struct Patient(TcpStream);

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut space = [0; 64];
        loop {
            let mut buffer = ReadBuf::new(&mut space);
            match ready!(Pin::new(&mut self.0).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                // An end by reset is an end too.
                Ok(()) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_demands_tls_is_refused_and_says_so() {
        let refused = address("postgres://a:b@db/x?sslmode=require").unwrap_err().to_string();
        assert!(refused.contains("TLS to the database is not there yet"), "{refused}");
        address("postgres://a:b@db/x").unwrap();
    }

    #[test]
    fn an_address_without_a_tcp_host_is_refused() {
        assert!(address("postgres:///x?host=/run/postgresql").is_err());
        assert!(address("host=").is_err());
        assert!(address("nonsense").is_err());
    }
}
