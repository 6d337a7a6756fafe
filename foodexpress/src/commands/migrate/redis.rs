//! Users in Redis: one for every member that shares something through it.

use anyhow::{Context as _, Result};
use kernel::redis::{self, Administrator, Kept, RedisSettings};
use kernel::secrets::Secret;

use super::Ground;
use crate::city::GATEWAY;
use crate::services;

/// The variable that names who may make users in Redis, as USER:PASSWORD; not an argument, which others could read.
const ADMINISTRATOR: &str = "FOODEXPRESS_REDIS_ADMIN";

impl Ground<'_> {
    /// Makes a user in Redis for every member that shares something, if there is a Redis and somebody who may.
    pub(in crate::commands) async fn redis_users(&self, administrator: Option<&Administrator>) -> Result<Vec<String>> {
        let settings: RedisSettings = self.configuration.settings(redis::SECTION)?;
        if settings.url.is_empty() {
            return Ok(Vec::new());
        }
        let out = self.out;
        let Some(administrator) = administrator else {
            out.say(format!("redis: users are left as they are; {ADMINISTRATOR}=USER:PASSWORD makes or renews them"));
            return Ok(Vec::new());
        };
        let manifests = services::manifests();
        let members: Vec<&str> = manifests.iter().map(|manifest| manifest.name).chain([GATEWAY]).collect();
        let made = redis::provision(&settings, administrator, &self.secrets, &members).await?;
        for user in &made.users {
            out.say(format!("redis: {} has {}", user.name, user.keys));
        }
        if let Kept::No(why) = &made.kept {
            out.say(format!(
                "redis: the users end with this process of Redis, which has neither ACL file nor configuration file: {why}"
            ));
        }
        if made.default_user_is_on {
            out.say(
                "redis: the default user stays on, because it is the administrator; make another one and run this again",
            );
        }
        Ok(made.users.into_iter().map(|user| user.name).collect())
    }
}

/// Who may make users, if the environment names somebody.
#[expect(clippy::disallowed_methods, reason = "a password that no settings file and no list of processes should show")]
pub(crate) fn administrator() -> Result<Option<Administrator>> {
    let Ok(text) = std::env::var(ADMINISTRATOR) else { return Ok(None) };
    let (user, password) = text.split_once(':').with_context(|| format!("{ADMINISTRATOR} is not USER:PASSWORD"))?;
    let password = (!password.is_empty()).then(|| Secret::new(password.as_bytes()));
    Ok(Some(Administrator { user: user.to_owned(), password }))
}
