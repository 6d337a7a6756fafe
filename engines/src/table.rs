//! The table of engines: what each is called, what it needs, what it promises. How it starts stands in its recipe.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::program::{Missing, Need};
use crate::recipes::{
    Recipe, alertmanager, consul, etcd, jaeger, kafka, pgbouncer, postgres, prometheus, redis, standby,
};

/// How soon an engine is there on a fresh machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Started unless somebody names others.
    Fast,
    /// Started when it is named, or all are asked for: a copy of another, or built from source first.
    Rest,
}

/// One engine.
pub struct Engine {
    /// What it is called everywhere.
    pub name: &'static str,
    /// What it is here for.
    pub about: &'static str,
    /// Its nodes.
    pub nodes: &'static [&'static str],
    /// Names of the ports of each node; clients go to the first.
    pub ports: &'static [&'static str],
    /// Engines that must answer before.
    pub after: &'static [&'static str],
    /// Programs that it runs.
    pub programs: &'static [Need],
    /// Programs that build or fetch it, if it is not in the cache.
    pub builders: &'static [Need],
    /// How soon it is there.
    pub group: Group,
    /// Whether its data outlives a kill and a restart.
    pub keeps_data: bool,
    /// The same engine for people with containers; for a copy or a cluster of another, that one's.
    pub image: &'static str,
    pub(crate) recipe: &'static dyn Recipe,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Engine {
    /// What it lacks here, if anything; what is in the cache need not be built.
    pub fn missing(&self, cache: &Path) -> Option<Missing> {
        let built = self.builders.is_empty() || self.recipe.is_built(cache);
        let needs = if built { self.programs.to_vec() } else { [self.programs, self.builders].concat() };
        Missing::of(self.name, &needs)
    }
}

const POSTGRES: &[Need] = &[
    Need::of("postgres", "postgresql-15"),
    Need::of("initdb", "postgresql-15"),
    Need::of("pg_basebackup", "postgresql-15"),
    Need::of("pg_rewind", "postgresql-15"),
];
const JAVA: &[Need] = &[Need::of("java", "openjdk-17-jre-headless")];
const MAVEN: &[Need] = &[Need::of("mvn", "maven")];
const GO: &[Need] = &[Need::of("go", "golang-go")];

/// Every engine, in the order in which they are shown.
pub static ENGINES: &[Engine] = &[
    Engine {
        name: "postgres",
        about: "the store",
        nodes: &["postgres"],
        ports: &["sql"],
        after: &[],
        programs: POSTGRES,
        builders: &[],
        group: Group::Fast,
        keeps_data: true,
        image: "postgres:15",
        recipe: &postgres::Postgres,
    },
    Engine {
        name: "standby",
        about: "a streaming replica of the store, for reads that may be old and for failover",
        nodes: &["standby"],
        ports: &["sql"],
        after: &["postgres"],
        programs: POSTGRES,
        builders: &[],
        group: Group::Rest,
        keeps_data: true,
        image: "postgres:15",
        recipe: &standby::Standby,
    },
    Engine {
        name: "pgbouncer",
        about: "connection pool before the store, in transaction mode",
        nodes: &["pgbouncer"],
        ports: &["sql"],
        after: &["postgres", "standby"],
        programs: &[Need::of("pgbouncer", "pgbouncer")],
        builders: &[],
        group: Group::Fast,
        keeps_data: true,
        image: "edoburu/pgbouncer:1.18.0",
        recipe: &pgbouncer::PgBouncer,
    },
    Engine {
        name: "kafka",
        about: "the bus, one node",
        nodes: &["kafka"],
        ports: &["broker", "controller"],
        after: &[],
        programs: JAVA,
        builders: MAVEN,
        group: Group::Fast,
        keeps_data: true,
        image: "apache/kafka:4.4.0",
        recipe: &kafka::Kafka,
    },
    Engine {
        name: "kafka3",
        about: "the bus, three nodes, everything kept on all three",
        nodes: &["kafka3-1", "kafka3-2", "kafka3-3"],
        ports: &["broker", "controller"],
        after: &[],
        programs: JAVA,
        builders: MAVEN,
        group: Group::Rest,
        keeps_data: true,
        image: "apache/kafka:4.4.0",
        recipe: &kafka::Kafka,
    },
    Engine {
        name: "redis",
        about: "shared limits and caches",
        nodes: &["redis"],
        ports: &["redis"],
        after: &[],
        programs: &[Need::of("redis-server", "redis-server")],
        builders: &[],
        group: Group::Fast,
        keeps_data: true,
        image: "redis:7.0",
        recipe: &redis::Redis,
    },
    Engine {
        name: "consul",
        about: "registry and settings",
        nodes: &["consul"],
        ports: &["http", "dns", "server", "serf"],
        after: &[],
        programs: &[],
        builders: GO,
        group: Group::Rest,
        keeps_data: true,
        image: "hashicorp/consul:1.20.6",
        recipe: &consul::Consul,
    },
    Engine {
        name: "etcd",
        about: "registry and settings",
        nodes: &["etcd"],
        ports: &["client", "peer"],
        after: &[],
        programs: &[Need::of("etcd", "etcd-server")],
        builders: &[],
        group: Group::Fast,
        keeps_data: true,
        image: "quay.io/coreos/etcd:v3.4.23",
        recipe: &etcd::Etcd,
    },
    Engine {
        name: "jaeger",
        about: "collector and store of traces, in memory",
        nodes: &["jaeger"],
        ports: &["otlp", "query", "query_grpc"],
        after: &[],
        programs: &[],
        builders: GO,
        group: Group::Rest,
        keeps_data: false,
        image: "jaegertracing/jaeger:2.13.0",
        recipe: &jaeger::Jaeger,
    },
    Engine {
        name: "prometheus",
        about: "scrapes metrics, judges alert rules; with promtool",
        nodes: &["prometheus"],
        ports: &["http"],
        after: &["alertmanager"],
        programs: &[Need::of("prometheus", "prometheus"), Need::of("promtool", "prometheus")],
        builders: &[],
        group: Group::Rest,
        keeps_data: true,
        image: "prom/prometheus:v2.42.0",
        recipe: &prometheus::Prometheus,
    },
    Engine {
        name: "alertmanager",
        about: "takes alerts; with amtool",
        nodes: &["alertmanager"],
        ports: &["http"],
        after: &[],
        programs: &[
            Need::of("prometheus-alertmanager", "prometheus-alertmanager"),
            Need::of("amtool", "prometheus-alertmanager"),
        ],
        builders: &[],
        group: Group::Rest,
        // Silences are kept; alerts are sent anew by whoever raised them.
        keeps_data: false,
        image: "prom/alertmanager:v0.25.0",
        recipe: &alertmanager::Alertmanager,
    },
];

/// The engine of this name.
///
/// # Errors
/// With the names there are.
pub fn named(name: &str) -> Result<&'static Engine> {
    let known = || ENGINES.iter().map(|e| e.name).collect::<Vec<_>>().join(", ");
    ENGINES.iter().find(|e| e.name == name).with_context(|| format!("there is no engine {name}; there are {}", known()))
}

/// The engine that has this node.
pub(crate) fn of_node(node: &str) -> Result<&'static Engine> {
    ENGINES.iter().find(|e| e.nodes.contains(&node)).with_context(|| format!("no engine has a node {node}"))
}

/// The engines of these names in the order of the table, each once.
///
/// # Errors
/// For a name that is none, and for one that stands before or beside another that is not among them.
pub fn chosen(names: &[String]) -> Result<Vec<&'static Engine>> {
    for name in names {
        named(name)?;
    }
    let has = |name: &str| names.iter().any(|n| n == name);
    let found: Vec<_> = ENGINES.iter().filter(|e| has(e.name)).collect();
    if !has("postgres")
        && let Some(lost) = found.iter().find(|e| e.after.contains(&"postgres"))
    {
        bail!("{} is of no use without postgres; name that too", lost.name);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_chosen_by_name_once_and_in_the_order_of_the_table() {
        let names = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let found = chosen(&names(&["redis", "pgbouncer", "postgres", "redis"])).unwrap();
        assert_eq!(found.iter().map(|e| e.name).collect::<Vec<_>>(), ["postgres", "pgbouncer", "redis"]);
        let stranger = chosen(&names(&["oracle"])).unwrap_err().to_string();
        assert!(stranger.contains("no engine oracle") && stranger.contains("postgres, standby"), "{stranger}");
        let lost = chosen(&names(&["pgbouncer"])).unwrap_err().to_string();
        assert!(lost.contains("without postgres"), "{lost}");
    }

    #[test]
    fn what_is_built_here_is_what_the_containers_have() {
        for (name, version) in [("kafka", kafka::VERSION), ("kafka3", kafka::VERSION), ("consul", consul::VERSION)] {
            assert!(named(name).unwrap().image.ends_with(&format!(":{version}")), "{name}");
        }
        // One release of Jaeger has two numbers: that of the Go module, and that of the program since it was rebuilt.
        assert_eq!((jaeger::VERSION, named("jaeger").unwrap().image), ("1.76.0", "jaegertracing/jaeger:2.13.0"));
    }

    #[test]
    fn no_two_nodes_share_a_name_and_every_predecessor_exists() {
        let mut nodes: Vec<_> = ENGINES.iter().flat_map(|e| e.nodes).collect();
        let all = nodes.len();
        nodes.sort_unstable();
        nodes.dedup();
        assert_eq!(nodes.len(), all);
        for before in ENGINES.iter().flat_map(|e| e.after) {
            named(before).unwrap();
        }
    }
}
