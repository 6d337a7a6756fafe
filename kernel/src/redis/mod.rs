//! Redis as a helper that may be away at any moment: shared limits and copies of what is kept elsewhere, never the only
//! place of anything.
//!
//! Every call may answer [`Away`], and whoever calls goes on without: a limiter counts by itself, a reader asks the
//! database. Away is decided once for all callers: after a lost connection, or after a few answers in a row that came too
//! late (a frozen server), calls fail at once, and one task looks for Redis until it is back.

#[cfg(feature = "redis")]
mod admin;
mod command;
#[cfg(feature = "redis")]
mod link;
#[cfg(not(feature = "redis"))]
#[path = "unlinked.rs"]
mod link;
mod measures;
mod provision;
mod settings;

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;

use crate::config::Settings as _;
use crate::secrets::{Secret, Secrets};
use crate::task::Tasks;
use link::Link;
use measures::{Measures, OfUse};

pub use command::{Command, Reply, Script};
pub use provision::{Administrator, Kept, ProvisionError, Provisioned, User, provision};
pub use settings::{RedisSettings, SECTION};

/// Redis does not answer at the moment, or not this; go on without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Redis is away")]
pub struct Away;

/// Why the program cannot work with these settings at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(pub String);

/// The name under which a member of the city signs in, and with a colon what its keys begin with.
pub fn user_of(settings: &RedisSettings, member: &str) -> String {
    format!("{}{member}", settings.prefix)
}

/// The secret that holds the password of a member's user.
pub fn secret_of(member: &str) -> String {
    format!("redis-{member}")
}

/// One member's Redis. Clones share connections, state and measures.
#[derive(Clone)]
pub struct Redis(Arc<Shared>);

struct Shared {
    link: Link,
    prefix: String,
    measures: Measures,
}

impl Redis {
    /// Opens it for a member of the city, or gives none if no address is set. Returns once it is known whether Redis
    /// answers; that it does not is logged and no error, because everything works without it.
    ///
    /// # Errors
    /// Settings that cannot work, or a program that was built without Redis.
    pub async fn open(
        settings: &RedisSettings,
        member: &str,
        secrets: &Secrets,
        tasks: &Tasks,
    ) -> Result<Option<Self>, OpenError> {
        if settings.url.is_empty() {
            return Ok(None);
        }
        let name = secret_of(member);
        let password = secrets.get(&name).map_err(|e| OpenError(format!("the secret {name}: {e}")))?;
        Self::open_as(settings, &user_of(settings, member), &password, tasks).await.map(Some)
    }

    /// The same as this user.
    pub async fn open_as(
        settings: &RedisSettings,
        user: &str,
        password: &Secret,
        tasks: &Tasks,
    ) -> Result<Self, OpenError> {
        settings.check().map_err(OpenError)?;
        let measures = Measures::default();
        let link = Link::open(settings, user, password, measures.up.clone(), tasks).await?;
        Ok(Self(Arc::new(Shared { link, prefix: format!("{user}:"), measures })))
    }

    /// Shows its measures in this registry.
    pub fn register(&self, registry: &mut Registry) {
        self.0.measures.register(registry);
    }

    /// A handle for one kind of use, which is told apart in the measures. The word is a label: one of a few.
    pub fn for_use(&self, word: &'static str) -> Use {
        Use { redis: self.clone(), measures: Arc::new(self.0.measures.of(word)) }
    }

    /// Whether it answered last time.
    pub fn is_up(&self) -> bool {
        self.0.link.is_up()
    }

    /// How it stands, in words for a health page.
    pub fn stand(&self) -> String {
        match self.0.link.why_away() {
            None => "answers".to_owned(),
            Some(why) => format!("away, everything works without it: {why}"),
        }
    }

    fn key(&self, key: &str) -> Vec<u8> {
        [self.0.prefix.as_bytes(), key.as_bytes()].concat()
    }
}

/// Redis for one kind of use. Keys are the member's own: its prefix is put in front of each.
#[derive(Clone)]
pub struct Use {
    redis: Redis,
    measures: Arc<OfUse>,
}

impl Use {
    /// Whether calls make sense at the moment.
    pub fn is_up(&self) -> bool {
        self.redis.is_up()
    }

    /// The server's name for its present life, if it answers. What was told to an earlier one may be forgotten, or come back
    /// as it was a while ago: whoever cannot bear that makes the life a part of the key.
    pub fn life(&self) -> Option<Arc<str>> {
        self.redis.0.link.life()
    }

    /// A command about one of our keys; add what else it takes with [`Command::arg`].
    pub fn command(&self, verb: &'static str, key: &str) -> Command {
        Command::new(verb).arg(self.redis.key(key))
    }

    /// Sends commands in one go and gives their replies in order.
    ///
    /// # Errors
    /// Redis is away. A single command that Redis refuses is a reply.
    pub async fn ask(&self, commands: &[Command]) -> Result<Vec<Reply>, Away> {
        let link = &self.redis.0.link;
        if !link.is_up() {
            self.measures.away.inc();
            return Err(Away);
        }
        let begun = Instant::now();
        let answered = link.ask(commands).await;
        self.measures.took.observe(begun.elapsed().as_secs_f64());
        match &answered {
            Ok(_) => self.measures.answered.inc(),
            Err(Away) => self.measures.lost.inc(),
        };
        answered
    }

    async fn ask_one(&self, command: Command) -> Result<Reply, Away> {
        let mut replies = self.ask(&[command]).await?;
        self.accepted(replies.pop().ok_or(Away)?)
    }

    /// A reply that refuses is as good as none; why is logged, as rarely as somebody can bear to read.
    fn accepted(&self, reply: Reply) -> Result<Reply, Away> {
        let Reply::Refused(why) = reply else { return Ok(reply) };
        self.measures.refused.inc();
        self.redis.0.link.complain(&why);
        Err(Away)
    }

    /// The value of a key.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Away> {
        match self.ask_one(self.command("GET", key)).await? {
            Reply::Bytes(value) => Ok(Some(value)),
            _ => Ok(None),
        }
    }

    /// Sets keys for a while, all in one go.
    pub async fn put(&self, entries: &[(String, Vec<u8>, Duration)]) -> Result<(), Away> {
        let set = |(key, value, life): &(String, Vec<u8>, Duration)| {
            self.command("SET", key).arg(value.as_slice()).arg("PX").number(millis(*life))
        };
        let commands: Vec<Command> = entries.iter().map(set).collect();
        for reply in self.ask(&commands).await? {
            self.accepted(reply)?;
        }
        Ok(())
    }

    /// Runs a script on some of our keys; it is sent once and then called by its digest.
    pub async fn run(&self, script: &Script, keys: &[&str], args: &[&[u8]]) -> Result<Reply, Away> {
        let filled = |verb: &'static str, what: &str| {
            let command = Command::new(verb).arg(what).number(i64::try_from(keys.len()).unwrap_or(i64::MAX));
            let command = keys.iter().fold(command, |command, key| command.arg(self.redis.key(key)));
            args.iter().fold(command, |command, arg| command.arg(*arg))
        };
        let mut replies = self.ask(&[filled("EVALSHA", script.digest())]).await?;
        match replies.pop().ok_or(Away)? {
            // Wiped or restarted since: its scripts are gone too.
            Reply::Refused(why) if why.starts_with("NOSCRIPT") => self.ask_one(filled("EVAL", script.text())).await,
            reply => self.accepted(reply),
        }
    }
}

/// A time to live as Redis wants it: whole milliseconds, and never none.
pub(crate) fn millis(life: Duration) -> i64 {
    i64::try_from(life.as_millis()).unwrap_or(i64::MAX).max(1)
}
