//! What the administrator tells Redis.

use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, IntoConnectionInfo as _, RedisError, Value};

use super::provision::{Administrator, Kept, ProvisionError, Provisioned, User};
use super::{RedisSettings, secret_of, user_of};
use crate::secrets::{Secret, Secrets};

/// What a member's user may not do, on top of what its key prefix keeps it from. Without the last ones it could see that
/// others have keys, or make their scripts slow by throwing them out.
const RULES: [&str; 14] = [
    "+@all",
    "-@admin",
    "-@dangerous",
    "+info",
    "-keys",
    "-flushall",
    "-flushdb",
    "-swapdb",
    "-select",
    "-scan",
    "-randomkey",
    "-dbsize",
    "-script|flush",
    "-function",
];

/// See [`super::provision()`].
pub(super) async fn provision(
    settings: &RedisSettings,
    administrator: &Administrator,
    secrets: &Secrets,
    members: &[&str],
) -> Result<Provisioned, ProvisionError> {
    let mut redis = Admin::connect(settings, administrator).await?;
    let mut users = Vec::with_capacity(members.len());
    for member in members {
        let name = secret_of(member);
        let pair = secrets.pair(&name).map_err(|e| ProvisionError(format!("the secret {name}: {e}")))?;
        let passwords = pair.accepted().map(|p| format!("#{}", sha256(p)));
        let user = user_of(settings, member);
        let keys = format!("{user}:*");
        let mut command = acl("SETUSER");
        // From nothing, so that what an older version allowed is gone; all of it is one step to Redis.
        command.arg(&user).arg("reset").arg("on");
        passwords.for_each(|password| {
            command.arg(password);
        });
        command.arg(format!("~{keys}")).arg(format!("&{keys}")).arg(&RULES[..]);
        redis.tell(&command).await?;
        users.push(User { name: user, keys });
    }
    let default_user_is_on = administrator.user == "default";
    if !default_user_is_on {
        redis.tell(acl("SETUSER").arg("default").arg("off")).await?;
    }
    Ok(Provisioned { users, kept: redis.keep().await, default_user_is_on })
}

fn acl(what: &str) -> Cmd {
    let mut command = redis::cmd("ACL");
    command.arg(what);
    command
}

fn sha256(password: &Secret) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, password.reveal());
    hash.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

struct Admin(redis::aio::MultiplexedConnection);

impl Admin {
    async fn connect(settings: &RedisSettings, administrator: &Administrator) -> Result<Self, ProvisionError> {
        let info = settings.address().map_err(ProvisionError)?.into_connection_info().map_err(failed)?;
        let mut who = info.redis_settings().clone();
        if let Some(password) = &administrator.password {
            who = who.set_username(&administrator.user).set_password(password.reveal_text());
        }
        let client = Client::open(info.set_redis_settings(who)).map_err(failed)?;
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(settings.connect()));
        let connected = client.get_multiplexed_async_connection_with_config(&config).await;
        connected
            .map(Self)
            .map_err(|e| ProvisionError(format!("{} as {}: {}", settings.url, administrator.user, failed(e))))
    }

    async fn tell(&mut self, command: &Cmd) -> Result<Value, ProvisionError> {
        command.query_async(&mut self.0).await.map_err(failed)
    }

    /// Users live in memory unless they are written down somewhere.
    async fn keep(&mut self) -> Kept {
        let (file, rewrite) = (acl("SAVE"), config("REWRITE"));
        let Err(no_file) = self.tell(&file).await else { return Kept::Yes };
        match self.tell(&rewrite).await {
            Ok(_) => Kept::Yes,
            Err(no_config) => Kept::No(format!("{no_file}; {no_config}")),
        }
    }
}

fn config(what: &str) -> Cmd {
    let mut command = redis::cmd("CONFIG");
    command.arg(what);
    command
}

fn failed(error: RedisError) -> ProvisionError {
    let what_to_do = match error.code() {
        _ if error.kind() == ErrorKind::AuthenticationFailed => "; name the administrator's user and password",
        Some("NOAUTH" | "WRONGPASS") => "; name the administrator's user and password",
        Some("NOPERM") => "; the administrator needs the right to use ACL",
        Some("ERR") if error.to_string().contains("unknown command") => "; users need Redis 7 or Valkey",
        _ => "",
    };
    ProvisionError(format!("Redis: {error}{what_to_do}"))
}
