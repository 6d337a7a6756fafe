//! Secrets: from files, variables or a vault, two valid at a time, and replaced while everybody works.
//!
//! A secret is replaced in two steps. First the next one is laid beside it and everybody accepts both; once all do, the
//! next one is put in its place, is used for what is new, and the old one stays good until the following rotation.

mod env;
mod file;
mod settings;
mod vault;

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::config::Live;

pub use env::Variables;
pub use file::Folder;
pub use settings::{ProviderKind, SecretSettings};
pub use vault::{Entry, Vault};

/// A secret that does not show itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// A secret of these bytes; space around it is dropped, because editors and shells add line ends.
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.trim_ascii().to_vec())
    }

    /// A new one: 64 hexadecimal digits at random.
    pub fn random() -> Self {
        Self(crate::ids::secret_bytes::<32>().iter().flat_map(|b| format!("{b:02x}").into_bytes()).collect())
    }

    /// The bytes. Hand them to what needs them and nowhere else.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }

    /// The secret as text, for keys that travel in headers.
    pub fn reveal_text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A secret, and what is good beside it while it is being replaced. At most two are: `next` and `previous` are never both
/// there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// What to use.
    pub current: Secret,
    /// What will take its place, and is accepted already.
    pub next: Option<Secret>,
    /// What it replaced, and is accepted still.
    pub previous: Option<Secret>,
}

impl Pair {
    /// A secret alone.
    pub fn only(current: Secret) -> Self {
        Self { current, next: None, previous: None }
    }

    /// Every secret that is accepted, the one in use first.
    pub fn accepted(&self) -> impl Iterator<Item = &Secret> {
        std::iter::once(&self.current).chain(&self.next).chain(&self.previous)
    }

    /// What is accepted beside the one in use.
    pub fn other(&self) -> Option<&Secret> {
        self.next.as_ref().or(self.previous.as_ref())
    }
}

/// Where secrets come from.
pub trait Provider: fmt::Debug + Send + Sync {
    /// Its name in the setting `secrets.provider`.
    fn kind(&self) -> &'static str;

    /// A secret as it is known now.
    ///
    /// # Errors
    /// It is not there, with what to do about it, or cannot be read.
    fn read(&self, name: &str) -> io::Result<Pair>;

    /// The names of all secrets that are there.
    ///
    /// # Errors
    /// They cannot be listed.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Asks anew, where reading alone does not: after it, [`Provider::read`] knows what is so now.
    fn refresh(&self) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Puts a secret in place, with what is accepted beside it. A provider that others fill says who has to.
    fn write<'a>(&'a self, name: &'a str, pair: &'a Pair) -> BoxFuture<'a, io::Result<()>>;
}

type Follow = Box<dyn Fn(&Pair) + Send + Sync>;

struct Follower {
    name: String,
    seen: Pair,
    tell: Follow,
}

/// The secrets of one city. Clones are the same ones.
#[derive(Clone)]
pub struct Secrets {
    provider: Arc<dyn Provider>,
    followers: Arc<Mutex<Vec<Follower>>>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("provider", &self.provider).finish_non_exhaustive()
    }
}

impl Secrets {
    /// The secrets in this folder, one file each; it is made if it is not there, and so is a secret that nobody laid there.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self::from(Arc::new(Folder::open(folder)?)))
    }

    /// The secrets of this provider.
    pub fn from(provider: Arc<dyn Provider>) -> Self {
        Self { provider, followers: Arc::default() }
    }

    /// Where they come from.
    pub fn provider(&self) -> &dyn Provider {
        &*self.provider
    }

    /// The secret of this name.
    ///
    /// # Errors
    /// As [`Provider::read`].
    pub fn get(&self, name: &str) -> io::Result<Secret> {
        Ok(self.pair(name)?.current)
    }

    /// The secret and what is accepted beside it.
    ///
    /// # Errors
    /// As [`Provider::read`].
    pub fn pair(&self, name: &str) -> io::Result<Pair> {
        self.provider.read(name)
    }

    /// The secret of this name, if somebody laid one there; none is made up.
    ///
    /// # Errors
    /// As [`Provider::read`].
    pub fn find(&self, name: &str) -> io::Result<Option<Secret>> {
        if self.provider.names()?.iter().any(|known| known == name) { self.get(name).map(Some) } else { Ok(None) }
    }

    /// Lays a secret that was made elsewhere; nothing is accepted beside it.
    ///
    /// # Errors
    /// The provider cannot be written.
    pub async fn put(&self, name: &str, secret: &Secret) -> io::Result<()> {
        self.provider.write(name, &Pair::only(secret.clone())).await
    }

    /// The secret, kept up to date while somebody runs [`Secrets::watch`].
    ///
    /// # Errors
    /// As [`Provider::read`].
    pub fn live(&self, name: &str) -> io::Result<Live<Pair>> {
        let live = Live::fixed(self.pair(name)?);
        let target = live.clone();
        self.follow(name, move |pair| target.set(pair.clone()))?;
        Ok(live)
    }

    /// Tells of the secret now, and again whenever it changes while somebody runs [`Secrets::watch`].
    ///
    /// # Errors
    /// As [`Provider::read`].
    pub fn follow(&self, name: &str, tell: impl Fn(&Pair) + Send + Sync + 'static) -> io::Result<()> {
        let seen = self.pair(name)?;
        tell(&seen);
        self.followers.lock().push(Follower { name: name.to_owned(), seen, tell: Box::new(tell) });
        Ok(())
    }

    /// Looks every so often whether a secret that somebody follows has changed, until told to stop. A provider that is
    /// away costs nothing but news: what is known stays good.
    pub async fn watch(&self, every: Duration, stop: CancellationToken) {
        let mut away = false;
        while tokio::time::timeout(every, stop.cancelled()).await.is_err() {
            let refreshed = self.provider.refresh().await;
            if let Err(error) = self.look(refreshed) {
                if !std::mem::replace(&mut away, true) {
                    tracing::warn!(%error, "secrets cannot be read anew; those that are known stay in use");
                }
            } else if std::mem::take(&mut away) {
                tracing::info!("secrets can be read again");
            }
        }
    }

    fn look(&self, refreshed: io::Result<()>) -> io::Result<()> {
        refreshed?;
        for follower in self.followers.lock().iter_mut() {
            let now = self.provider.read(&follower.name)?;
            if now != follower.seen {
                tracing::info!(secret = follower.name, "a secret changed and is taken up");
                (follower.tell)(&now);
                follower.seen = now;
            }
        }
        Ok(())
    }

    /// The first step of a rotation: from now on the next secret is accepted by whoever watches. A rotation that was
    /// broken off goes on with the secret it began with.
    ///
    /// # Errors
    /// The provider cannot be read or written.
    pub async fn lay_next(&self, name: &str) -> io::Result<Secret> {
        self.provider.refresh().await?;
        let pair = self.pair(name)?;
        if let Some(begun) = pair.next {
            return Ok(begun);
        }
        let next = Secret::random();
        let laid = Pair { current: pair.current, next: Some(next.clone()), previous: None };
        self.provider.write(name, &laid).await?;
        Ok(next)
    }

    /// The second step: the next secret takes its place, and the one before stays accepted.
    ///
    /// # Errors
    /// No next one was laid, or the provider cannot be read or written.
    pub async fn promote(&self, name: &str) -> io::Result<()> {
        self.provider.refresh().await?;
        let pair = self.pair(name)?;
        let Some(next) = pair.next else {
            return Err(io::Error::other(format!("{name} has no next secret to put in its place")));
        };
        self.provider.write(name, &Pair { current: next, next: None, previous: Some(pair.current) }).await
    }
}

/// A name that can be a file, a variable and a path.
fn check_name(name: &str) -> io::Result<()> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if !name.is_empty() && name.chars().all(fits) {
        return Ok(());
    }
    Err(io::Error::other(format!("{name:?} cannot be the name of a secret: small letters, digits and hyphens only")))
}

#[cfg(test)]
mod tests;
