//! Instances of a service that share a database wake each other: what one commits sets off work that another has the lease of.
//!
//! A notice is a hint. One that is lost costs the wait until somebody looks by himself, and nothing else; so they are sent
//! apart from the units they tell of, because PostgreSQL lets only one transaction that notifies commit at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::ids;
use crate::store::AfterCommit;
use crate::store::error::StoreError;

use super::connect::Target;
use super::engine_error;
use super::lane::Lane;

/// How often an instance says that it is there, and so learns whether its connection still is.
const PRESENT: Duration = Duration::from_secs(5);
/// How often it looks whether its login is the one of now: an old one is to be given up soon.
const LOGIN: Duration = Duration::from_secs(1);
/// After this long without a word the others count as gone, and are told nothing.
const GONE: Duration = Duration::from_secs(15);
/// Between two notices: what is committed meanwhile is told in one.
const PACE: Duration = Duration::from_millis(2);
/// How long the server may take to pass a notice on.
const ANSWER: Duration = Duration::from_secs(3);
/// Between attempts to listen.
const WAITS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Asks the others to say that they are there.
const HELLO: &str = "?";

const NOTIFY: &str = "SELECT pg_notify($1, $2)";

/// This instance's ear and mouth among its siblings; dropping it ends both.
pub(super) struct Siblings(AbortHandle);

impl Drop for Siblings {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Siblings {
    /// Listens at `target`, which must lead to the server itself: a pooler passes no notices on.
    #[expect(clippy::disallowed_methods, reason = "loops until the store is dropped; nobody depends on a notice")]
    pub(super) fn meet(target: Target, schema: &str, after: Arc<AfterCommit>) -> Self {
        let (heard, hearing) = mpsc::unbounded_channel();
        let target = target.hearing(heard);
        let own = ids::fresh().simple().to_string();
        let family = Family { channel: format!("fx_{schema}"), own, hearing, after, last: None };
        Self(tokio::spawn(family.talk(target)).abort_handle())
    }
}

struct Family {
    channel: String,
    /// This instance's name among the notices.
    own: String,
    hearing: mpsc::UnboundedReceiver<String>,
    after: Arc<AfterCommit>,
    /// When anybody else was last heard.
    last: Option<Instant>,
}

impl Family {
    async fn talk(mut self, target: Target) {
        let (mut wait, mut told) = (WAITS.0, false);
        loop {
            let ended = match target.connect().await {
                Ok(lane) => {
                    (wait, told) = (WAITS.0, false);
                    self.converse(&target, &lane).await
                }
                Err(error) => Err(error),
            };
            self.after.notices.set_company(false, false);
            if let Err(error) = ended
                && !std::mem::replace(&mut told, true)
            {
                tracing::warn!(%error, "instances of this service cannot wake each other; they look by themselves meanwhile");
            }
            sleep(wait).await;
            wait = (wait * 2).min(WAITS.1);
        }
    }

    async fn converse(&mut self, target: &Target, lane: &Lane) -> Result<(), StoreError> {
        let listen = format!("LISTEN \"{}\"", self.channel);
        lane.client.batch_execute(&listen).await.map_err(|e| engine_error(&e))?;
        self.say(lane, HELLO).await?;
        self.company();
        let (mut present, mut login) = (interval(PRESENT), interval(LOGIN));
        present.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let after = self.after.clone();
        loop {
            tokio::select! {
                heard = self.hearing.recv() => {
                    let Some(heard) = heard else { return Ok(()) };
                    if self.hear(&heard) {
                        self.say(lane, "").await?;
                    }
                }
                names = after.notices.next() => {
                    self.say(lane, &names).await?;
                    sleep(PACE).await;
                }
                _ = login.tick() => {
                    if !target.is_current(lane) {
                        return Ok(());
                    }
                }
                _ = present.tick() => {
                    self.say(lane, "").await?;
                    self.company();
                }
            }
        }
    }

    /// Wakes whom a notice is for; whether it asks for an answer.
    fn hear(&mut self, notice: &str) -> bool {
        let (from, names) = notice.split_once(' ').unwrap_or((notice, ""));
        if from == self.own {
            return false;
        }
        self.last = Some(Instant::now());
        self.company();
        if names == HELLO {
            return true;
        }
        names.split(',').for_each(|name| self.after.wake(name));
        false
    }

    fn company(&self) {
        let anybody = self.last.is_some_and(|last| last.elapsed() < GONE);
        self.after.notices.set_company(true, anybody);
    }

    async fn say(&self, lane: &Lane, names: &str) -> Result<(), StoreError> {
        let notice = format!("{} {names}", self.own);
        let said = timeout(ANSWER, lane.client.query(NOTIFY, &[&self.channel, &notice])).await;
        let said = said.map_err(|_| StoreError::gone("the server does not pass notices on"))?;
        said.map(drop).map_err(|e| engine_error(&e))
    }
}
