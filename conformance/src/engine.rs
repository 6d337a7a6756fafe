//! The engines that cases are played on, and what each needs to be there.

use kernel::testing::redis::Server;

use crate::place::Addresses;

/// One column of the table.
#[derive(Clone, Copy, Debug)]
pub struct Engine {
    /// What it is called.
    pub name: &'static str,
    /// What it is, in a few words.
    pub about: &'static str,
    /// The engines that have to run for it, each with the variable that says where.
    pub needs: &'static [(&'static str, &'static str)],
}

const POSTGRES: (&str, &str) = ("postgres", "FX_TEST_POSTGRES");
const KAFKA: (&str, &str) = ("kafka", "FX_TEST_KAFKA");

/// Every engine.
pub const ENGINES: &[Engine] = &[
    engine("sqlite", "the store in a file; events by the stream", &[]),
    engine("postgres", "the store on PostgreSQL; events by the stream", &[POSTGRES]),
    engine(
        "pgbouncer",
        "the store on PostgreSQL behind PgBouncer in transaction mode",
        &[POSTGRES, ("pgbouncer", "FX_TEST_PGBOUNCER")],
    ),
    engine("kafka", "events by Kafka, the store in a file", &[KAFKA]),
    engine("kafka+postgres", "events by Kafka, the store on PostgreSQL", &[KAFKA, POSTGRES]),
    engine("own", "the city's own registrar", &[]),
    engine("dns", "a registry in DNS, which the platform fills", &[]),
    engine("consul", "a registry, or settings, in Consul", &[("consul", "FX_TEST_CONSUL")]),
    engine("etcd", "a registry in etcd", &[("etcd", "FX_TEST_ETCD")]),
    engine("memory", "what a process keeps by itself", &[]),
    engine("redis", "what processes share in a Redis of the case's own", &[]),
    engine("file", "settings or secrets in files", &[]),
    engine("variables", "secrets in variables of the environment", &[]),
    engine("vault", "secrets in a stand-in that speaks the interface of Vault", &[]),
];

const fn engine(name: &'static str, about: &'static str, needs: &'static [(&'static str, &'static str)]) -> Engine {
    Engine { name, about, needs }
}

impl Engine {
    /// The engine of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        ENGINES.iter().find(|engine| engine.name == name)
    }

    /// What it lacks, if anything: a variable that names it, or a program.
    pub fn missing(&self, addresses: &Addresses) -> Option<String> {
        let unnamed = self.needs.iter().find(|(_, variable)| !addresses.contains_key(*variable));
        if let Some((engine, variable)) = unnamed {
            return Some(format!("{engine} does not run: {variable} names none"));
        }
        if self.name == "redis" {
            return Server::missing().map(str::to_owned);
        }
        None
    }
}
