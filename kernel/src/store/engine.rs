//! Which engine keeps a service's data, and where: a file, or a schema on a server with a login that may change.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which engine keeps the data, and where.
#[derive(Clone, Debug)]
pub enum Engine {
    /// One file per service.
    Sqlite {
        /// The database file; its folder must exist.
        path: PathBuf,
    },
    /// One schema per service in a shared database.
    Postgres(Server),
}

/// A PostgreSQL server as one service uses it.
#[derive(Clone)]
pub struct Server {
    /// Address; may be that of a pooler in transaction mode, and may name several hosts.
    pub url: String,
    /// Whether `url` reaches the server itself, so that named statements may be cached on the connection.
    pub direct: bool,
    /// Where `url` is a pooler's: address of the server itself, over which instances of a service wake each other.
    pub direct_url: Option<String>,
    /// The service's schema.
    pub schema: String,
    /// Who logs in; without it, whom the address names.
    pub login: Option<Logins>,
    /// Address of a standby that answers [`Store::read_stale`](super::Store::read_stale).
    pub standby_url: Option<String>,
    /// Connections at the most.
    pub connections: u16,
    /// Certificates (PEM) of who may vouch for the server, for addresses that demand TLS.
    pub ca_file: Option<PathBuf>,
    /// An administrator's address: opening then makes roles and schema by itself. For tests; a service has none.
    pub admin_url: Option<String>,
}

impl Server {
    /// A server that is reached directly, with the login that the address names.
    pub fn new(url: impl Into<String>, schema: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            direct: true,
            direct_url: None,
            schema: schema.into(),
            login: None,
            standby_url: None,
            connections: CONNECTIONS,
            ca_file: None,
            admin_url: None,
        }
    }
}

/// Connections one store may have unless told. More of them only queue inside the server.
pub(super) const CONNECTIONS: u16 = 16;

impl fmt::Debug for Server {
    // Addresses may hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { schema, direct, connections, .. } = self;
        write!(f, "Server({schema}, direct {direct}, {connections} connections)")
    }
}

/// A name and its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The role.
    pub user: String,
    /// Its password.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({})", self.user)
    }
}

impl Login {
    /// Reads `user password`, as [`Login::text`] writes it.
    pub fn read(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace().map(str::to_owned);
        let (user, password) = (words.next()?, words.next()?);
        words.next().is_none().then_some(Self { user, password })
    }

    /// The text that a secret holds.
    pub fn text(&self) -> String {
        format!("{} {}", self.user, self.password)
    }
}

type Look = dyn Fn() -> io::Result<Login> + Send + Sync;

/// Where the login is looked up: once a second and at each new connection, so that it can change without a restart.
#[derive(Clone)]
pub struct Logins(Arc<Look>);

impl Logins {
    /// Looked up by `look`, which must be quick.
    pub fn new(look: impl Fn() -> io::Result<Login> + Send + Sync + 'static) -> Self {
        Self(Arc::new(look))
    }

    /// Read from a file that holds `user password`.
    pub fn from_file(path: &Path) -> Self {
        let path = path.to_owned();
        Self::new(move || {
            let text = std::fs::read_to_string(&path)
                .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
            Login::read(&text)
                .ok_or_else(|| io::Error::other(format!("{} does not hold a role and its password", path.display())))
        })
    }

    /// The login of now.
    ///
    /// # Errors
    /// What looking it up said.
    pub fn current(&self) -> io::Result<Login> {
        (self.0)()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_reads_back_and_does_not_show_its_password() {
        let login = Login { user: "city_orders_a".into(), password: "hush".into() };
        assert_eq!(Login::read(&login.text()), Some(login.clone()));
        assert_eq!(Login::read("nobody"), None);
        assert_eq!(Login::read("a b c"), None);
        let server =
            Server { login: Some(Logins::new(move || Ok(login.clone()))), ..Server::new("postgres://a:hush@b", "c") };
        assert!(!format!("{server:?} {:?}", server.login.as_ref().unwrap().current()).contains("hush"));
    }
}
