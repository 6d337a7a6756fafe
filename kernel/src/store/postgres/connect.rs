//! Reaching the server: choosing a host, logging in, and cancelling in a way that a pooler forwards.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_postgres::config::{Host, TargetSessionAttrs};
use tokio_postgres::tls::MakeTlsConnect as _;
use tokio_postgres::{AsyncMessage, CancelToken, Client, Config, NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::engine::{Login, Logins};
use crate::store::error::{Away, StoreError};

use super::lane::{Kept, Lane};
use super::{engine_error, tls};

/// How long a host may take to answer before the next one is tried.
const WAIT: Duration = Duration::from_secs(5);
/// How old what is known of the login may be.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A login that is refused is looked up anew this often: its password may just be changing.
const LOGINS: u32 = 3;

/// Where a connection leads, and over what.
#[derive(Clone)]
pub(super) struct Way {
    peer: SocketAddr,
    host: String,
    tls: Option<MakeRustlsConnect>,
}

/// Where connections are made to.
pub(super) struct Target {
    config: Config,
    tls: Option<MakeRustlsConnect>,
    logins: Option<Logins>,
    known: Mutex<Option<(Instant, Login)>>,
    kept: Kept,
    any_age: bool,
    /// Where what the server has to tell goes.
    heard: Option<mpsc::UnboundedSender<String>>,
    /// The host that answered last: the others are asked only when it does not.
    first: AtomicUsize,
}

impl Target {
    /// Reads an address and refuses what cannot be honoured.
    pub(super) fn read(url: &str, logins: Option<Logins>, ca: Option<&Path>) -> Result<Self, StoreError> {
        let (config, tls) = tls::address(url, ca)?;
        if config.get_hosts().is_empty() || config.get_hosts().iter().any(|h| !matches!(h, Host::Tcp(_))) {
            return Err(StoreError::Refused("the database address must name a host that is reached over TCP".into()));
        }
        let (known, first) = (Mutex::default(), AtomicUsize::new(0));
        Ok(Self { config, tls, logins, known, kept: Kept::Unnamed, any_age: false, heard: None, first })
    }

    /// The same server, known to be reached without a pooler: statements are kept, and sessions carry a name.
    pub(super) fn direct(mut self, name: &str) -> Self {
        // Behind a pooler each service's own name would cost a statement whenever a connection changes hands.
        if self.config.get_application_name().is_none() {
            self.config.application_name(name);
        }
        self.kept = Kept::Named;
        self
    }

    /// The same, where a server that lags behind another one will do.
    pub(super) fn of_any_age(mut self) -> Self {
        self.any_age = true;
        self
    }

    /// The same; the text of each notice that its connections hear goes there.
    pub(super) fn hearing(mut self, heard: mpsc::UnboundedSender<String>) -> Self {
        self.heard = Some(heard);
        self
    }

    /// The login that the address itself names.
    pub(super) fn named_login(&self) -> Option<Login> {
        let password = String::from_utf8(self.config.get_password()?.to_vec()).ok()?;
        Some(Login { user: self.config.get_user()?.to_owned(), password })
    }

    /// The login of now, at the most a second old.
    fn login(&self, anew: bool) -> Result<Option<Login>, StoreError> {
        let Some(logins) = &self.logins else { return Ok(None) };
        let mut known = self.known.lock();
        if let Some((_, login)) = known.as_ref().filter(|(when, _)| !anew && when.elapsed() < LOOK_AGAIN) {
            return Ok(Some(login.clone()));
        }
        match logins.current() {
            Ok(login) => Ok(Some(known.insert((Instant::now(), login)).1.clone())),
            // What was known may still be right; a wrong one is found out by the server.
            Err(error) => match known.as_ref() {
                Some((_, login)) => Ok(Some(login.clone())),
                None => Err(StoreError::Refused(format!("the login of the database cannot be read: {error}"))),
            },
        }
    }

    /// Whether a connection was made under the login of now.
    pub(super) fn is_current(&self, lane: &Lane) -> bool {
        self.logins.is_none() || self.login(false).is_ok_and(|login| login == lane.login)
    }

    /// A logged-in connection to the first host that answers and is what the address asks for.
    pub(super) async fn connect(&self) -> Result<Lane, StoreError> {
        for attempt in 1.. {
            let login = self.login(true)?;
            match self.reach(login.as_ref()).await {
                Err(refused @ StoreError::Login(_)) if self.logins.is_none() || attempt == LOGINS => {
                    return Err(refused);
                }
                Err(StoreError::Login(_)) => tokio::time::sleep(Duration::from_millis(100) * attempt).await,
                Ok(lane) => return Ok(lane.with(login, self.any_age)),
                Err(error) => return Err(error),
            }
        }
        unreachable!("the last attempt returns")
    }

    async fn reach(&self, login: Option<&Login>) -> Result<Lane, StoreError> {
        let hosts = self.config.get_hosts();
        let first = self.first.load(Ordering::Relaxed);
        let mut last = None;
        for index in (0..hosts.len()).map(|n| (first + n) % hosts.len()) {
            let Host::Tcp(name) = &hosts[index] else { continue };
            let ports = self.config.get_ports();
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            let wait = *self.config.get_connect_timeout().unwrap_or(&WAIT);
            match tokio::time::timeout(wait, self.log_in(name, port, login)).await {
                Ok(Ok(lane)) => {
                    self.first.store(index, Ordering::Relaxed);
                    return Ok(lane);
                }
                // Another host has the same roles.
                Ok(Err(refused @ StoreError::Login(_))) => return Err(refused),
                Ok(Err(error)) => last = Some(error),
                Err(_) => last = Some(StoreError::gone(format!("{name}:{port} does not answer"))),
            }
        }
        Err(last.unwrap_or_else(|| StoreError::Refused("the database address names no host".into())))
    }

    async fn log_in(&self, host: &str, port: u16, login: Option<&Login>) -> Result<Lane, StoreError> {
        let unreachable = |e: io::Error| StoreError::gone(format!("{host}:{port}: {e}"));
        let stream = TcpStream::connect((host, port)).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let peer = stream.peer_addr().map_err(unreachable)?;
        let way = Way { peer, host: host.to_owned(), tls: self.tls.clone() };
        let (client, driver) = self.greet(stream, &way, login).await.map_err(|error| match error {
            Greeting::Tls(why) => StoreError::Refused(format!("{host}:{port}: {why}")),
            Greeting::Said(e) => self.ungreeted(&e, host, port, login),
        })?;
        let lane = Lane::new(client, way, driver, self.kept);
        if self.config.get_target_session_attrs() == TargetSessionAttrs::ReadWrite && read_only(&lane).await? {
            return Err(StoreError::gone(format!("{host}:{port} only reads")));
        }
        lane.prepare_settings().await?;
        Ok(lane)
    }

    async fn greet(
        &self,
        stream: TcpStream,
        way: &Way,
        login: Option<&Login>,
    ) -> Result<(Client, AbortHandle), Greeting> {
        let mut config = self.config.clone();
        if let Some(login) = login {
            config.user(&login.user).password(&login.password);
        }
        let Some(mut tls) = way.tls.clone() else {
            let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(Greeting::Said)?;
            return Ok((client, spawn_driver(connection, self.heard.clone())));
        };
        let tls = tls_for::<TcpStream>(&mut tls, &way.host).map_err(Greeting::Tls)?;
        let (client, connection) = config.connect_raw(stream, tls).await.map_err(Greeting::Said)?;
        Ok((client, spawn_driver(connection, self.heard.clone())))
    }

    fn ungreeted(&self, error: &tokio_postgres::Error, host: &str, port: u16, login: Option<&Login>) -> StoreError {
        let user = login.map(|login| login.user.as_str()).or(self.config.get_user()).unwrap_or("nobody");
        match (engine_error(error), error.as_db_error()) {
            (said, Some(db)) if ["28P01", "28000", "08P01"].contains(&db.code().code()) => StoreError::Login(format!(
                "{host}:{port} does not let {user} in ({said}); `migrate` makes the role and its secret"
            )),
            // The certificate or the name in it is wrong: asking again does not help.
            (StoreError::Engine(why) | StoreError::Lost(Away::Gone(why)), None)
                if self.tls.is_some() && why.contains("TLS") =>
            {
                StoreError::Refused(format!("{host}:{port}: {why}"))
            }
            // The server said nothing: it may be starting or stopping, and nothing has been asked of it yet.
            (StoreError::Engine(why), None) => StoreError::gone(format!("{host}:{port}: {why}")),
            (said, _) => said,
        }
    }
}

/// Why a server could not be talked to.
enum Greeting {
    Tls(String),
    Said(tokio_postgres::Error),
}

fn tls_for<S>(
    tls: &mut MakeRustlsConnect,
    host: &str,
) -> Result<<MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<S>>::TlsConnect, String>
where
    MakeRustlsConnect: tokio_postgres::tls::MakeTlsConnect<S>,
    <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<S>>::Error: std::fmt::Display,
{
    tls.make_tls_connect(host).map_err(|e| format!("TLS: {e}"))
}

#[expect(clippy::disallowed_methods, reason = "ends with its connection; whoever waits on that is told")]
fn spawn_driver<S, T>(
    mut connection: tokio_postgres::Connection<S, T>,
    heard: Option<mpsc::UnboundedSender<String>>,
) -> AbortHandle
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let driver = async move {
        let mut messages = futures::stream::poll_fn(move |cx| connection.poll_message(cx));
        while let Some(message) = messages.next().await {
            match message {
                Ok(AsyncMessage::Notification(notice)) => {
                    if let Some(heard) = &heard {
                        // Nobody hears any more: then the connection is about to end as well.
                        drop(heard.send(notice.payload().to_owned()));
                    }
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "a database connection ended"),
            }
        }
    };
    tokio::spawn(driver).abort_handle()
}

async fn read_only(lane: &Lane) -> Result<bool, StoreError> {
    let rows = lane.client.simple_query("SHOW transaction_read_only").await.map_err(|e| engine_error(&e))?;
    Ok(rows.iter().any(|m| matches!(m, SimpleQueryMessage::Row(row) if row.get(0) == Some("on"))))
}

/// Sends a cancel request and waits until the other side has closed: a pooler that sees us close first forgets it.
pub(super) async fn cancel(way: &Way, token: &CancelToken) -> Result<(), StoreError> {
    let stream = TcpStream::connect(way.peer).await.map_err(|e| StoreError::gone(e.to_string()))?;
    let sent = match way.tls.clone() {
        None => token.cancel_query_raw(Patient(stream), NoTls).await,
        Some(mut tls) => {
            let tls = tls_for::<Patient>(&mut tls, &way.host).map_err(StoreError::gone)?;
            token.cancel_query_raw(Patient(stream), tls).await
        }
    };
    sent.map_err(|e| engine_error(&e))
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
