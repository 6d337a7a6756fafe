//! The families of cases, and on which engines each is played.

use crate::case::Case;
use crate::engine::Engine;
use crate::{bus, cache, config, idempotency, jobs, redis, registry, secrets, store};

/// Cases about one thing.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// What the names of its cases begin with.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Its columns; an engine that is none of them does not do what the family is about.
    columns: &'static [&'static str],
    cases: fn() -> Vec<Case>,
}

impl Family {
    /// The engines that its cases are played on.
    pub fn engines(&self) -> impl Iterator<Item = &'static Engine> {
        self.columns.iter().filter_map(|name| Engine::named(name))
    }

    /// Its cases.
    pub fn cases(&self) -> Vec<Case> {
        (self.cases)()
    }
}

/// Every family, in the order of the table.
pub const FAMILIES: &[Family] = &[
    Family {
        name: "store",
        about: "units of work are there as a whole or not at all",
        columns: &["sqlite", "postgres", "pgbouncer"],
        cases: store::cases,
    },
    Family {
        name: "idempotency",
        about: "one key, one effect, one answer",
        columns: &["sqlite", "postgres"],
        cases: idempotency::cases,
    },
    Family { name: "jobs", about: "jobs, timers and leases", columns: &["sqlite", "postgres"], cases: jobs::cases },
    Family {
        name: "bus",
        about: "events flow once and in order, on any bus and store",
        columns: &["sqlite", "postgres", "kafka", "kafka+postgres"],
        cases: bus::cases,
    },
    Family {
        name: "config",
        about: "settings that change while everybody works",
        columns: &["file", "consul"],
        cases: config::cases,
    },
    Family {
        name: "secrets",
        about: "two are valid at a time, and a rotation needs no restart",
        columns: &["file", "variables", "vault"],
        cases: secrets::cases,
    },
    Family {
        name: "registry",
        about: "who listens where",
        columns: &["own", "dns", "consul", "etcd"],
        cases: registry::cases,
    },
    Family {
        name: "limits",
        about: "limits that processes share, as gateways do",
        columns: &["redis"],
        cases: redis::of_limits,
    },
    Family {
        name: "locks",
        about: "leases with Redis in front of the database",
        columns: &["redis"],
        cases: redis::of_locks,
    },
    Family {
        name: "cache",
        about: "copies that are never older than an event",
        columns: &["memory", "redis"],
        cases: cache::cases,
    },
    Family { name: "redis", about: "a helper that may be away", columns: &["redis"], cases: redis::of_redis },
];

/// Every case.
pub fn cases() -> Vec<Case> {
    FAMILIES.iter().flat_map(Family::cases).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_begin_with_their_family() {
        let mut seen = BTreeSet::new();
        for family in FAMILIES {
            for case in family.cases() {
                assert_eq!(case.family(), family.name);
                assert!(seen.insert(case.name), "{} twice", case.name);
            }
        }
        assert!(seen.len() >= 60, "{} cases", seen.len());
    }

    #[test]
    fn every_column_is_an_engine_and_every_reason_is_about_a_column() {
        for family in FAMILIES {
            assert_eq!(family.engines().count(), family.columns.len(), "{}", family.name);
            for case in family.cases() {
                for (engine, why) in case.not_on {
                    assert!(family.columns.contains(engine) && !why.is_empty(), "{}: {engine}", case.name);
                }
                assert!(case.not_on.len() < family.columns.len(), "{} is played nowhere", case.name);
            }
        }
    }
}
