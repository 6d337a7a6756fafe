//! Where Redis is and how long anybody waits for it: the table `[redis]`, the same for every member of a city.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Settings;

/// The name of the table.
pub const SECTION: &str = "redis";

/// Settings of Redis. Passwords are secrets of their own: `redis-MEMBER`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RedisSettings {
    /// Address as `redis://HOST:PORT`, without user and password; empty means that there is no Redis.
    #[schemars(extend("x-restart" = true))]
    pub url: String,
    /// What users and keys of this city begin with, such as `berlin-`, where several cities share one Redis.
    #[schemars(extend("x-restart" = true))]
    pub prefix: String,
    /// Connections of each member; one carries many requests at once.
    #[schemars(extend("x-restart" = true))]
    pub connections: usize,
    /// Milliseconds in which a connection must be made.
    #[schemars(extend("x-restart" = true))]
    pub connect_ms: u64,
    /// Milliseconds in which an answer must come; later counts as none, three in a row as away.
    #[schemars(extend("x-restart" = true))]
    pub answer_ms: u64,
    /// Milliseconds between two looks at whether Redis is back.
    #[schemars(extend("x-restart" = true))]
    pub probe_ms: u64,
    /// Seconds for which the answer to a finished request is kept at hand for those who repeat it; 0 switches that off.
    #[schemars(extend("x-restart" = true))]
    pub answers_s: u64,
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            prefix: String::new(),
            connections: 2,
            connect_ms: 500,
            answer_ms: 50,
            probe_ms: 1000,
            answers_s: 3600,
        }
    }
}

impl Settings for RedisSettings {
    fn check(&self) -> Result<(), String> {
        if !self.url.is_empty() {
            self.address()?;
        }
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !self.prefix.chars().all(plain) {
            return Err("redis.prefix may have small letters, digits and dashes only".to_owned());
        }
        if !(1..=64).contains(&self.connections) {
            return Err("redis.connections must be 1 to 64".to_owned());
        }
        if [self.connect_ms, self.answer_ms, self.probe_ms].contains(&0) {
            return Err("redis.connect_ms, redis.answer_ms and redis.probe_ms must not be 0".to_owned());
        }
        Ok(())
    }
}

impl RedisSettings {
    /// Host and port. Nothing else is taken, so that no password stands in a file of settings.
    pub(super) fn address(&self) -> Result<(String, u16), String> {
        let wrong = |why: &str| format!("redis.url {why}; write it as redis://HOST:PORT");
        let Some(rest) = self.url.strip_prefix("redis://") else {
            return Err(wrong("does not begin with redis:// (TLS is not built in)"));
        };
        if rest.contains('@') {
            return Err(wrong("names a user or password, which come from the member's name and its secret"));
        }
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = rest.rsplit_once(':').unwrap_or((rest, "6379"));
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        match port.parse() {
            Ok(port) if port > 0 && !host.is_empty() && !host.contains('/') => Ok((host.to_owned(), port)),
            _ => Err(wrong("does not read as an address")),
        }
    }

    pub(super) fn connect(&self) -> Duration {
        Duration::from_millis(self.connect_ms)
    }

    pub(super) fn answer(&self) -> Duration {
        Duration::from_millis(self.answer_ms)
    }

    pub(super) fn probe(&self) -> Duration {
        Duration::from_millis(self.probe_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> RedisSettings {
        RedisSettings { url: url.to_owned(), ..RedisSettings::default() }
    }

    #[test]
    fn an_address_is_host_and_port_and_never_a_password() {
        assert_eq!(at("redis://127.0.0.1:7000").address(), Ok(("127.0.0.1".to_owned(), 7000)));
        assert_eq!(at("redis://cache.example/").address(), Ok(("cache.example".to_owned(), 6379)));
        assert_eq!(at("redis://[::1]:7000").address(), Ok(("::1".to_owned(), 7000)));
        for wrong in ["", "127.0.0.1:6379", "rediss://a:1", "redis://u:p@a:1", "redis://", "redis://a:b", "redis://a/1"]
        {
            let why = at(wrong).address().unwrap_err();
            assert!(why.starts_with("redis.url ") && why.ends_with("write it as redis://HOST:PORT"), "{wrong}: {why}");
        }
    }

    #[test]
    fn settings_that_cannot_work_are_refused_by_name() {
        let fine = at("redis://a:1");
        assert_eq!(fine.check(), Ok(()));
        for (spoilt, named) in [
            (RedisSettings { prefix: "Berlin:".to_owned(), ..fine.clone() }, "redis.prefix"),
            (RedisSettings { connections: 0, ..fine.clone() }, "redis.connections"),
            (RedisSettings { answer_ms: 0, ..fine.clone() }, "redis.answer_ms"),
        ] {
            assert!(spoilt.check().unwrap_err().contains(named));
        }
    }
}
