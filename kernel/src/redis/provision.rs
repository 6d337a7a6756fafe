//! A user per member with its own key prefix, made from an administrator's address.

use super::RedisSettings;
#[cfg(feature = "redis")]
use super::admin as told;
#[cfg(not(feature = "redis"))]
use super::link as told;
use crate::config::Settings as _;
use crate::secrets::{Secret, Secrets};

/// Who may make users.
#[derive(Clone, Debug)]
pub struct Administrator {
    /// The user's name.
    pub user: String,
    /// Its password; none where it needs none.
    pub password: Option<Secret>,
}

/// A member's user that is there now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// What its keys and channels begin with.
    pub keys: String,
}

/// Whether the users outlive a restart of Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// In its ACL file or its configuration.
    Yes,
    /// Redis has neither, and why.
    No(String),
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provisioned {
    /// The users, in the order of the members.
    pub users: Vec<User>,
    /// Whether they outlive a restart.
    pub kept: Kept,
    /// Whether somebody without a name may still sign in, because the administrator is that user.
    pub default_user_is_on: bool,
}

/// Why it was not done; says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ProvisionError(pub(super) String);

/// Makes or renews the user of each member: its own keys and channels, and no administration.
///
/// Nothing that a user may say shows or touches others' keys. Both passwords of a secret under rotation are good. The default user is switched off, unless it is the
/// administrator.
///
/// # Errors
/// Redis does not answer, the administrator may not make users, a secret does not read, or the program was built without
/// Redis.
pub async fn provision(
    settings: &RedisSettings,
    administrator: &Administrator,
    secrets: &Secrets,
    members: &[&str],
) -> Result<Provisioned, ProvisionError> {
    settings.check().map_err(ProvisionError)?;
    told::provision(settings, administrator, secrets, members).await
}
