//! The connections: few, shared by all callers, given up together and brought back by one task.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use rand::RngExt as _;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, IntoConnectionInfo as _, Pipeline, RedisError, Value};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Away, Command, OpenError, RedisSettings, Reply};
use crate::secrets::Secret;
use crate::task::Tasks;

/// Late answers in a row after which Redis counts as frozen. One may be a fork for its snapshot.
const PATIENCE: u32 = 3;
/// Commands that may wait for one connection; each waits no longer than an answer may take.
const QUEUE: usize = 1024;
/// Between two lines about commands that Redis refuses.
const COMPLAINT_EVERY: Duration = Duration::from_secs(60);

/// What makes our user again.
const REMEDY: &str = "run `migrate` with the administrator named";

/// Codes of errors that speak of the server and not of the command: it loads, is read-only, is busy with a script, or
/// forgot our user.
const UNFIT: [&str; 6] = ["LOADING", "BUSY", "MASTERDOWN", "READONLY", "NOAUTH", "TRYAGAIN"];

/// All connections of one member.
pub(super) struct Link(Arc<Wires>);

struct Wires {
    client: Client,
    settings: RedisSettings,
    user: String,
    up: Gauge,
    /// None while Redis is away.
    open: ArcSwapOption<Open>,
    turn: AtomicUsize,
    late: AtomicU32,
    lost: Notify,
    why: Mutex<Option<String>>,
    begun: Instant,
    /// Milliseconds since `begun` when a refusal may be told again.
    complain_after: AtomicU64,
}

/// Connections that were made together.
struct Open {
    connections: Vec<MultiplexedConnection>,
    /// The server's name for its present life: another one may have forgotten what the last one was told.
    life: Arc<str>,
}

impl Link {
    pub(super) async fn open(
        settings: &RedisSettings,
        user: &str,
        password: &Secret,
        up: Gauge,
        tasks: &Tasks,
    ) -> Result<Self, OpenError> {
        let address = settings.address().map_err(OpenError)?;
        let wrong = |error: RedisError| OpenError(format!("redis.url: {error}"));
        let info = address.into_connection_info().map_err(wrong)?;
        let who = info.redis_settings().clone().set_username(user).set_password(password.reveal_text());
        let client = Client::open(info.set_redis_settings(who)).map_err(wrong)?;
        let wires = Arc::new(Wires {
            client,
            settings: settings.clone(),
            user: user.to_owned(),
            up,
            open: ArcSwapOption::empty(),
            turn: AtomicUsize::new(0),
            late: AtomicU32::new(0),
            lost: Notify::new(),
            why: Mutex::new(Some("not tried yet".to_owned())),
            begun: Instant::now(),
            complain_after: AtomicU64::new(0),
        });
        wires.look(true).await;
        tasks.spawn("redis", wires.clone().keep(tasks.stopping()));
        Ok(Self(wires))
    }

    pub(super) fn is_up(&self) -> bool {
        self.0.open.load().is_some()
    }

    pub(super) fn life(&self) -> Option<Arc<str>> {
        self.0.open.load().as_ref().map(|open| open.life.clone())
    }

    pub(super) fn why_away(&self) -> Option<String> {
        self.0.why.lock().clone()
    }

    /// Tells of a refused command, once a minute.
    pub(super) fn complain(&self, why: &str) {
        let now = u64::try_from(self.0.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let after = self.0.complain_after.load(Ordering::Relaxed);
        let next = now + u64::try_from(COMPLAINT_EVERY.as_millis()).expect("a minute");
        let mine = self.0.complain_after.compare_exchange(after, next, Ordering::Relaxed, Ordering::Relaxed);
        if now >= after && mine.is_ok() {
            tracing::warn!(error = why, "Redis refuses a command; going on without it");
        }
    }

    pub(super) async fn ask(&self, commands: &[Command]) -> Result<Vec<Reply>, Away> {
        let wires = &*self.0;
        let open = wires.open.load_full().ok_or(Away)?;
        let turn = wires.turn.fetch_add(1, Ordering::Relaxed);
        let mut connection = open.connections[turn % open.connections.len()].clone();
        let pipeline = pipeline_of(commands);
        let asking = connection.send_packed_commands(&pipeline, 0, commands.len());
        match tokio::time::timeout(wires.settings.answer(), asking).await {
            Ok(Ok(values)) => {
                wires.answered();
                let replies: Vec<Reply> = values.into_iter().map(reply_of).collect();
                match replies.iter().find_map(unfit) {
                    None => Ok(replies),
                    Some(why) => wires.give_up(&open, why),
                }
            }
            Ok(Err(error)) => wires.give_up(&open, error.to_string()),
            Err(_) => wires.was_late(&open),
        }
    }
}

impl Wires {
    fn answered(&self) {
        // A read is shared among cores, a write is not, and the usual case needs none.
        if self.late.load(Ordering::Relaxed) != 0 {
            self.late.store(0, Ordering::Relaxed);
        }
    }

    fn was_late<T>(&self, open: &Arc<Open>) -> Result<T, Away> {
        if self.late.fetch_add(1, Ordering::Relaxed) + 1 < PATIENCE {
            return Err(Away);
        }
        let within = self.settings.answer_ms;
        self.give_up(open, format!("{PATIENCE} answers in a row took longer than redis.answer_ms = {within}"))
    }

    /// From now on nobody waits for it. Whoever comes late with news of connections that were given up already is not heard.
    fn give_up<T>(&self, open: &Arc<Open>, why: String) -> Result<T, Away> {
        let seen = self.open.compare_and_swap(open, None);
        if seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, open)) {
            tracing::warn!(error = %why, "Redis is away; going on without it");
            *self.why.lock() = Some(why);
            self.up.set(0);
            self.lost.notify_one();
        }
        Err(Away)
    }

    /// Brings it back whenever it is lost, until told to stop.
    async fn keep(self: Arc<Self>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let back = Instant::now();
            if self.open.load().is_some() {
                tokio::select! {
                    () = self.lost.notified() => {}
                    () = stop.cancelled() => return,
                }
            }
            // At once the first time: an idle connection that a proxy closed is no outage. Not if it came and went.
            let mut look_now = back.elapsed() > self.settings.probe();
            while self.open.load().is_none() && !(look_now && self.look(false).await) {
                look_now = true;
                let pause = self.settings.probe().mul_f64(rand::rng().random_range(0.75..=1.25));
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.cancelled() => return,
                }
            }
        }
    }

    /// Tries to connect; says whether Redis is there.
    async fn look(&self, first: bool) -> bool {
        let within = self.settings.connect();
        let connected = tokio::time::timeout(within, self.connect()).await;
        let why = match connected {
            Ok(Ok(open)) => {
                self.late.store(0, Ordering::Relaxed);
                *self.why.lock() = None;
                self.open.store(Some(Arc::new(open)));
                self.up.set(1);
                if !first {
                    tracing::info!("Redis is back");
                }
                return true;
            }
            Ok(Err(why)) => why,
            Err(_) => {
                format!(
                    "redis.url = {}: no connection within redis.connect_ms = {}",
                    self.settings.url, self.settings.connect_ms
                )
            }
        };
        let before = self.why.lock().replace(why.clone());
        if first {
            tracing::warn!(error = %why, "Redis is away; going on without it");
        } else if why.contains(REMEDY) && before.as_ref() != Some(&why) {
            // Back, but not for us: somebody has to do something.
            tracing::warn!(error = %why, "Redis does not take us; going on without it");
        }
        false
    }

    async fn connect(&self) -> Result<Open, String> {
        // Time is kept here and not by the driver, which would wait for a place in its queue without counting it.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE);
        let mut connections = Vec::with_capacity(self.settings.connections);
        for _ in 0..self.settings.connections {
            let connected = self.client.get_multiplexed_async_connection_with_config(&config).await;
            connections.push(connected.map_err(|error| self.explain(&error))?);
        }
        let life = self.life_of(&mut connections[0]).await?;
        Ok(Open { connections, life })
    }

    /// The server's present life. Being asked for it, it also shows that it answers in time and takes our user.
    async fn life_of(&self, connection: &mut MultiplexedConnection) -> Result<Arc<str>, String> {
        let asking = pipeline_of(&[Command::new("INFO").arg("server")]);
        let asked = tokio::time::timeout(self.settings.answer(), connection.send_packed_commands(&asking, 0, 1));
        let Ok(answer) = asked.await else {
            return Err(format!("answers take longer than redis.answer_ms = {}", self.settings.answer_ms));
        };
        let mut values = answer.map_err(|error| self.explain(&error))?;
        let info = values.pop().unwrap_or(Value::Nil).extract_error().map_err(|error| self.explain(&error))?;
        let text = redis::from_redis_value::<String>(info).map_err(|error| error.to_string())?;
        let life = text.lines().find_map(|line| line.strip_prefix("run_id:"));
        life.map(Into::into).ok_or_else(|| "INFO server names no run_id: is it Redis 7 or Valkey?".to_owned())
    }

    /// What to do about an error, where somebody can do something.
    fn explain(&self, error: &RedisError) -> String {
        let turned_away = error.kind() == ErrorKind::AuthenticationFailed
            || matches!(error.code(), Some("WRONGPASS" | "NOAUTH" | "NOPERM"));
        match turned_away {
            true => format!(
                "{error}; the user {} is not there, has another password or may not do this: {REMEDY}",
                self.user
            ),
            false => format!("redis.url = {} ({error})", self.settings.url),
        }
    }
}

fn pipeline_of(commands: &[Command]) -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(commands.len());
    for Command(parts) in commands {
        let mut command = redis::Cmd::new();
        for part in parts {
            command.arg(part.as_slice());
        }
        pipeline.add_command(command);
    }
    pipeline
}

fn reply_of(value: Value) -> Reply {
    match value {
        Value::Int(n) => Reply::Number(n),
        Value::BulkString(bytes) => Reply::Bytes(bytes),
        Value::SimpleString(text) => Reply::Bytes(text.into_bytes()),
        Value::Array(all) | Value::Set(all) => Reply::List(all.into_iter().map(reply_of).collect()),
        Value::ServerError(error) => {
            Reply::Refused(format!("{} {}", error.code(), error.details().unwrap_or_default()))
        }
        _ => Reply::Nothing,
    }
}

fn unfit(reply: &Reply) -> Option<String> {
    let Reply::Refused(why) = reply else { return None };
    UNFIT.contains(&why.split(' ').next().unwrap_or_default()).then(|| why.clone())
}
