//! Fresh databases on each engine that the test run has: SQLite always, PostgreSQL as a login that owns nothing.

use tempfile::TempDir;

use crate::ids;
use crate::store::{Engine, Server};

/// A variable of the test run; empty is none.
#[expect(clippy::disallowed_methods, reason = "where the engines are is told by the environment of the test run")]
pub fn told(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The address of an engine by the variable that names it; says that it is missing, and fails if it must not be.
///
/// # Panics
/// Where `FX_TEST_REQUIRE_ENGINES` is 1 and the variable is not set.
#[expect(clippy::print_stdout, reason = "a test says why it does not run there")]
pub fn address(variable: &str) -> Option<String> {
    let found = told(variable);
    if found.is_none() {
        assert!(told("FX_TEST_REQUIRE_ENGINES").as_deref() != Some("1"), "{variable} is not set");
        println!("skipped on that engine: {variable} is not set");
    }
    found
}

/// A schema on the server at `admin_url`, reached at `url` by a role that owns nothing. Opening it makes both, so the
/// same name is the same database again.
pub fn postgres(admin_url: &str, url: &str, schema: &str) -> Engine {
    let (_, place) = url.rsplit_once('@').expect("an address with a user");
    let own = format!("postgres://{schema}_a:scratch@{place}");
    Engine::Postgres(Server {
        direct: url == admin_url,
        admin_url: Some(admin_url.to_owned()),
        connections: 8,
        ..Server::new(own, schema)
    })
}

/// A name that no other test uses.
pub fn fresh_schema() -> String {
    format!("t_{}", ids::fresh().simple())
}

/// A new database on each engine at hand, with a folder that lives as long.
pub fn engines() -> Vec<(Engine, TempDir)> {
    let folder = || tempfile::tempdir().expect("a temporary folder");
    let first = folder();
    let mut all = vec![(Engine::Sqlite { path: first.path().join("scratch.db") }, first)];
    if let Some(url) = address("FX_TEST_POSTGRES") {
        all.push((postgres(&url, &url, &fresh_schema()), folder()));
    }
    all
}

/// One engine for a test that runs on one: that which `FX_TEST_STORE` names (`postgres`), else SQLite in this file.
///
/// # Panics
/// For another name, or a PostgreSQL that `FX_TEST_POSTGRES` does not name.
pub fn chosen(sqlite: std::path::PathBuf) -> Engine {
    match told("FX_TEST_STORE").as_deref() {
        None | Some("sqlite") => Engine::Sqlite { path: sqlite },
        Some("postgres") => {
            let url = told("FX_TEST_POSTGRES").expect("FX_TEST_STORE=postgres needs FX_TEST_POSTGRES");
            postgres(&url, &url, &fresh_schema())
        }
        Some(other) => panic!("FX_TEST_STORE is sqlite or postgres, not {other}"),
    }
}
